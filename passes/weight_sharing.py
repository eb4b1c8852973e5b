"""weight-sharing: every weight becomes one of a few shared values."""

import re
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Self, cast, get_args

import numpy as np

from graphshrink.encodings import DECODE_BYTES, Policy, stored_bytes, table_bytes
from graphshrink.errors import UsageError
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import FilledData, Tensor
from graphshrink.ir.types import Array
from graphshrink.ir.weight import Weight
from graphshrink.passes._layer_importance import IMPORTANCES
from graphshrink.passes._weight_sharing_books import Kind, Wanted
from graphshrink.passes._weight_sharing_fit import Assignment
from graphshrink.passes._weight_sharing_run import Choice, Chosen, Run
from graphshrink.passing.base import Context, Layer, Pass, PassResult, Skipped
from graphshrink.passing.sizes import bytes_of

_TOO_SMALL: Final = "too small to gain from sharing"
_CHUNK: Final = 1 << 18  # weights: small beside any tensor for which memory matters
_AUTO: Final = re.compile(r"auto(?:/([1-9]\d{0,3}))?")
_LEAST_PART: Final = 64  # of the bound, as its divisor
_GUESS: Final = 4  # bits, to tell whether a tensor is too small, before bits=auto is worked out


@dataclass(frozen=True)
class WeightSharing(Pass):
    """Replace each weight by one of 2**bits shared values.

    One-dimensional k-means, as in Han et al. 2016, arXiv:1510.00149, unless options say otherwise.

    Given:  W = [0.11 0.09 -0.52 | 0.10 -0.49 -0.50]    bits=1
    Result: W = [0.10 0.10 -0.50 | 0.10 -0.50 -0.50]    stored as 6 bits and 2 values

    1. Values are chosen for the whole tensor, for groups of neighbouring output channels, or for each channel, by
       `granularity`. `auto` takes the division that lowers the error by more than its extra codebooks would if they
       were spent on more bits: halving the error's standard deviation is worth one bit a weight.
    2. A tensor that already has few enough values stays as it is, so the pass may be repeated; but for bits=auto, which
       shares the bound out anew each time.
    3. Exact zeros of pruned weights (from 5 % of a group on) stay exact zeros.
    4. A tensor so small that its codebook would outweigh the gain is left alone.
    5. `compensated` goes through the layers in the order in which they run. Weights take their values one after the
       other, and those that are still free make up for the error so far, on what the layers before now give
       (Frantar et al. 2022, arXiv:2210.17323). Where there are no samples, or a layer cannot be fitted, each weight
       takes the nearest value.

    Attributes:
        bits: bits a weight, 1 to 8; "auto" chooses them for each tensor under the model's bound, "auto/2" under half
            of it.
        granularity: "auto", "tensor", "channel", or the number of channels that share a codebook; "model" for one
            codebook for all layers.
        codebook: how values are chosen: "kmeans"; "weighted" by how much each weight matters on the samples; "entropy",
            as far apart as k-means would have them but with the shortest Huffman codes, for --encoding small; "grid",
            whole multiples of a step; "soft", the means of a mixture of normal distributions.
        assignment: "nearest" value for each weight, or "compensated".
        rate: what a bit is worth to codebook=entropy, above 0: 1 as much as to k-means of so many bits, more for fewer.
        size: with bits=auto, about how many bytes all shared weights may take together, such as "250kB"; the bound on
            the error does not count then. 0 for no such bound.
        damping: how strongly weights stay close to the old ones where samples say little; above 0. Times a layer's
            inputs over its rows, and the mean squared input, it is added to the square of each.
        importance: of the outputs of a layer: "gradient", by how much the model's outputs depend on them, or "uniform".
    """

    name: ClassVar[str] = "weight-sharing"
    buys: ClassVar[str] = "disk"
    bits: int | str = 4
    granularity: str = "auto"
    codebook: str = "kmeans"
    assignment: str = "nearest"
    rate: float = 1.0
    size: int | str = 0
    damping: float = 0.3
    importance: str = "gradient"

    def __post_init__(self) -> None:
        number = self.granularity.isascii() and self.granularity.isdecimal() and len(self.granularity) < 10
        fits = self.granularity in ("auto", "model", "tensor", "channel") or (number and int(self.granularity) > 0)
        named, part = isinstance(self.bits, str), _part(self.bits)
        limits = {
            f"bits={self.bits!r} is no int, and neither auto nor like auto/2": part or not named,
            f"bits={self.bits} is outside 1 to 8": named or 1 <= int(self.bits) <= 8,
            f"granularity={self.granularity!r} is none of auto, model, tensor, channel, or a number of channels": fits,
            f"codebook={self.codebook!r} is none of {', '.join(get_args(Kind))}": self.codebook in get_args(Kind),
            f"assignment={self.assignment!r} is none of nearest, compensated": self.assignment in get_args(Assignment),
            f"rate={self.rate} is not above 0": 0 < self.rate < np.inf,
            f"importance={self.importance!r} is none of gradient, uniform": self.importance in IMPORTANCES,
            f"damping={self.damping} is not above 0": 0 < self.damping < np.inf,
            f"size={self.size} needs bits=auto": not self.most_bytes or named,
            "granularity=model needs bits=1 to 8, and codebook=kmeans": self.granularity != "model"
            or (not named and self.codebook == "kmeans"),
            f"codebook={self.codebook} needs 2 bits or more": self.codebook not in ("grid", "soft") or self.bits != 1,
        }
        if broken := [text for text, holds in limits.items() if not holds]:
            raise UsageError(f"weight-sharing: {broken[0]}")

    @property
    def most_bytes(self) -> int:
        """That all shared weights may take together; 0 where there is no bound."""
        return bytes_of("weight-sharing: size", str(self.size))

    def refuses(self, weight: Weight, policy: Policy) -> str | None:
        """Weights that are empty, too small to gain, or not finite."""
        if weight.tensor.size == 0:
            return "empty"
        if isinstance(weight.tensor.data, FilledData):
            return "one value, which ConstantOfShape fills it with"
        if policy != "plain" and _gain(weight.tensor, _number(self.bits)) <= 0:
            return _TOO_SMALL
        return None if _all_finite(weight.array) else "holds NaN or infinity, which is stored exactly"

    def gentler(self) -> Self | None:
        """One more bit, up to 8; of "auto" half the part of the bound."""
        if isinstance(self.bits, int):
            return replace(self, bits=self.bits + 1) if self.bits < 8 else None
        part = _part(self.bits) or _LEAST_PART
        return replace(self, bits=f"auto/{2 * part}") if part < _LEAST_PART else None

    def choice(self, context: Context) -> Choice:
        """What a layer with these settings is to get."""
        wanted = Wanted(cast("Kind", self.codebook), _number(self.bits), context.policy == "small", self.rate)
        return Choice(
            wanted,
            self.granularity,
            cast("Assignment", self.assignment),
            self.damping,
            self.importance,
            _part(self.bits),
        )

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Cluster every plain weight of the model."""
        return _run(self, graph, context)


def _part(bits: int | str) -> int | None:
    """By what the bound is divided before it is shared out; None where bits are a number."""
    match = _AUTO.fullmatch(str(bits))
    return None if match is None else int(match[1] or 1)


def _number(bits: int | str) -> int:
    return bits if isinstance(bits, int) else _GUESS


def _run(settings: WeightSharing, graph: Graph, context: Context) -> PassResult:
    candidates, result = context.layers(graph, settings)
    layers: list[Layer[WeightSharing]] = []
    for layer in candidates:
        if context.policy == "plain" or _pays_with_its_table(layer, candidates):
            layers.append(layer)
        else:
            result.layers[layer.weight.label] = Skipped(_TOO_SMALL)
    Run(settings, graph, context, result, settings.most_bytes).share(
        [Chosen(layer, layer.settings.choice(context)) for layer in layers]
    )
    return result


def _gain(tensor: Tensor, bits: int) -> int:
    """Bytes that sharing saves at best, without the tables that layers of the same number of bits have in common."""
    itemsize = tensor.nbytes // max(1, tensor.size)
    return tensor.nbytes - stored_bytes(tensor.size, 1, 1 << bits, itemsize) - DECODE_BYTES


def _pays_with_its_table(layer: Layer[WeightSharing], layers: list[Layer[WeightSharing]]) -> bool:
    """Whether all layers of as many bits together save more than their common tables take."""
    bits = _number(layer.settings.bits)
    together = sum(_gain(other.weight.tensor, bits) for other in layers if _number(other.settings.bits) == bits)
    return together > table_bytes(1 << bits)


def _all_finite(array: Array) -> bool:
    flat = array.reshape(-1)
    return all(np.isfinite(flat[start : start + _CHUNK]).all() for start in range(0, flat.size, _CHUNK))
