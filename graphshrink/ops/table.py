"""Every operator that graphshrink knows to carry weights.

An operator that is not here is a barrier: its inputs stay as they are.
"""

from collections.abc import Mapping
from typing import Final

from graphshrink.ops.base import Rule
from graphshrink.ops.convolution import CONV, CONV_TRANSPOSE
from graphshrink.ops.embedding import GATHER
from graphshrink.ops.linear import GEMM, MATMUL
from graphshrink.ops.recurrent import RECURRENT

RULES: Final[Mapping[str, Rule]] = {
    "Conv": CONV,
    "ConvTranspose": CONV_TRANSPOSE,
    "Gather": GATHER,
    "Gemm": GEMM,
    "GRU": RECURRENT,
    "LSTM": RECURRENT,
    "MatMul": MATMUL,
    "RNN": RECURRENT,
}
"""Standard-domain operator type -> what is known of it."""
