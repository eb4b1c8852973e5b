"""What every operator ties together; one that is not here holds everything that it touches."""

from collections.abc import Mapping
from typing import Final

from graphshrink.ops.coupling import contraction, elementwise, moving, normalising, recurrent, reshaping
from graphshrink.ops.coupling.base import Couple, Links, Site

COUPLINGS: Final[Mapping[str, Couple]] = {
    **dict.fromkeys(elementwise.NAMES, elementwise.couple),
    "ArgMax": normalising.along_axis,
    "ArgMin": normalising.along_axis,
    "AveragePool": normalising.pooled,
    "BatchNormalization": normalising.by_channel,
    "Concat": moving.concat,
    "Constant": moving.constant,
    "ConstantOfShape": moving.filled,
    "Conv": contraction.convolution,
    "ConvTranspose": contraction.convolution,
    "DepthToSpace": moving.depth_to_space,
    "DequantizeLinear": elementwise.quantised,
    "Dropout": elementwise.dropout,
    "Einsum": contraction.einsum,
    "Expand": moving.expand,
    "Flatten": reshaping.reshape,
    "GRU": recurrent.couple,
    "Gather": moving.gather,
    "Gemm": contraction.gemm,
    "GlobalAveragePool": normalising.pooled,
    "GlobalLpPool": normalising.pooled,
    "GlobalMaxPool": normalising.pooled,
    "GroupNormalization": normalising.group,
    "Hardmax": normalising.softmax,
    "InstanceNormalization": normalising.by_channel,
    "LRN": normalising.neighbours,
    "LSTM": recurrent.couple,
    "LayerNormalization": normalising.layer,
    "LogSoftmax": normalising.softmax,
    "LpPool": normalising.pooled,
    "MatMul": contraction.matmul,
    "MaxPool": normalising.pooled,
    "Pad": moving.pad,
    "QuantizeLinear": elementwise.quantised,
    "RMSNormalization": normalising.layer,
    "RNN": recurrent.couple,
    "ReduceL1": normalising.summed,
    "ReduceL2": normalising.summed,
    "ReduceLogSumExp": normalising.compared,
    "ReduceMax": normalising.compared,
    "ReduceMean": normalising.summed,
    "ReduceMin": normalising.compared,
    "ReduceProd": normalising.compared,
    "ReduceSum": normalising.summed,
    "ReduceSumSquare": normalising.summed,
    "Reshape": reshaping.reshape,
    "Resize": moving.resized,
    "Shape": moving.shape_of,
    "Size": moving.shape_of,
    "Slice": moving.slice_,
    "Softmax": normalising.softmax,
    "SpaceToDepth": moving.depth_to_space,
    "Split": moving.split,
    "Squeeze": moving.squeeze,
    "Tile": moving.tile,
    "TopK": normalising.along_axis,
    "Transpose": moving.transpose,
    "Unsqueeze": moving.squeeze,
    "Upsample": moving.resized,
}
"""Standard-domain operator type -> what it ties together."""


def couple(site: Site, links: Links) -> None:
    """What one operator ties together."""
    domain, op_type = site.operator.kind
    rule = COUPLINGS.get(op_type) if domain == "" else None
    if rule is None:
        site.hold_all(links, f"{site.title} is not known")
        return
    names = (
        *zip(site.operator.inputs, site.inputs, strict=True),
        *zip(site.operator.outputs, site.outputs, strict=True),
    )
    if any(name and shape is None for name, shape in names):
        site.hold_all(links, f"{site.title} has values whose shapes are not known")
        return
    own = Links()
    try:
        rule(site, own)
    except (IndexError, ValueError, KeyError, TypeError, AssertionError):
        site.hold_all(links, f"{site.title} is not as its operator type says")
        return
    links.add(own)
