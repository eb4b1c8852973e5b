"""How far a model's outputs are from another's: compared sample by sample, summed in float64 in a fixed order.

1. Values are compared leaf by leaf: an output may be a tensor, a list of them (a sequence), a mapping (scikit-learn's),
   or None.
2. Floating (and complex) leaves add to `relative_l2`; integers, booleans and strings to `agreement`.
3. Elements that are not finite are equal when both are NaN or the same infinity; any other such element makes
   `relative_l2` infinite.
4. What cannot be compared (another shape, kind or structure, a missing output) makes the output's error infinite, with
   a note; it is never an exception.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt

from graphshrink.ir.types import Array

_Floats: TypeAlias = npt.NDArray[np.float64]
_BLOCK = 1 << 20
_FLOOR = 1e-6
_LARGEST_CLASSIFIER = 100_000


@dataclass(frozen=True, slots=True)
class OutputError:
    """The difference of one output over all samples (Y of the original, Y' of the result).

    Attributes:
        error: what bounds are compared with: `relative_l2`, or 1 - `agreement`, or the larger one when the output has
            both; infinite when the outputs could not be compared.
        relative_l2: ||Y' - Y|| / (||Y|| + 1e-6 sqrt(size)), Frobenius norms; None without floating elements.
        max_absolute: largest difference of numbers; None without numbers.
        sqnr_db: signal to noise, 10 log10(||Y||^2 / ||Y' - Y||^2); infinite when equal, minus infinite when
            `relative_l2` is infinite; None without floating elements.
        cosine: of the angle between Y and Y', over the elements finite on both sides; 1 when both are zero, 0 when one
            is; None without floating elements or when their squares overflow.
        agreement: share of equal elements among integers, booleans and strings; None without such elements.
        top1_agreement: share of rows with the same largest element, for floating outputs that look like a classifier's:
            rank 2 and a last axis of 2 to 100,000 in every sample; else None.
        elements: number of compared elements.
        comparable: how many of these say something: all but floating ones that are not finite on both sides.
        samples: number of samples.
        note: why the outputs could not be compared, the first reason met; None when they could. The other figures are
            of what could.
    """

    error: float
    relative_l2: float | None
    max_absolute: float | None
    sqnr_db: float | None
    cosine: float | None
    agreement: float | None
    top1_agreement: float | None
    elements: int
    comparable: int
    samples: int
    note: str | None


class OutputComparison:
    """Compares the outputs of two models, one sample after the other, without keeping them."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sums] = {}

    def add(self, expected: Mapping[str, object], actual: Mapping[str, object]) -> None:
        """Add the outputs of one sample, by name; None is an optional output that is empty."""
        for name in [*expected, *(name for name in actual if name not in expected)]:
            sums = self._sums.setdefault(name, _Sums())
            sums.samples += 1
            if name in expected and name in actual:
                sums.add(expected[name], actual[name])
            else:
                sums.refuse("missing from the result" if name in expected else "not an output of the original")

    def results(self) -> dict[str, OutputError]:
        """The errors so far, by output, in the order in which outputs were first met."""
        return {name: sums.result() for name, sums in self._sums.items()}

    @property
    def worst(self) -> float:
        """The largest error of all outputs; infinite when nothing was compared, since that proves nothing."""
        return max((sums.result().error for sums in self._sums.values()), default=math.inf)


@dataclass(slots=True)
class _Sums:
    """What is summed up for one output.

    Attributes:
        samples: samples met.
        floats: floating elements; None until there is a floating leaf.
        finite: how many of these are finite on both sides.
        noise: sum of squared differences.
        signal: sum of squares of the expected values, here and below where both sides are finite.
        power: sum of squares of the actual values.
        product: sum of products of the two.
        largest: largest absolute difference; None until there is a leaf of numbers.
        broken: some element was not finite on one side, or differently so.
        discrete: elements that are not floating; None until there is such a leaf.
        equal: how many of these are equal.
        rows: rows whose largest elements were compared; None once a leaf did not look like a classifier's.
        rows_equal: how many of these have it at the same place.
        note: the first reason why something could not be compared.
    """

    samples: int = 0
    floats: int | None = None
    finite: int = 0
    noise: float = 0.0
    signal: float = 0.0
    power: float = 0.0
    product: float = 0.0
    largest: float | None = None
    broken: bool = False
    discrete: int | None = None
    equal: int = 0
    rows: int | None = 0
    rows_equal: int = 0
    note: str | None = None

    def refuse(self, reason: str) -> None:
        if self.note is None:
            self.note = reason

    def add(self, expected: object, actual: object) -> None:
        wanted, given = dict(_leaves(expected)), dict(_leaves(actual))
        if wanted.keys() != given.keys():
            self.refuse("the result is built of other parts")
            return
        for path, value in wanted.items():
            self._add_leaf(value, given[path])

    def _add_leaf(self, expected: Array | None, actual: Array | None) -> None:
        if expected is None or actual is None:
            if expected is not actual:
                self.refuse("one of the two is an empty optional")
            return
        kind, other_kind = _kind(expected), _kind(actual)
        if kind != other_kind:
            self.refuse(f"elements are {other_kind}, not {kind}")
        elif expected.shape != actual.shape:
            self.refuse(f"shape {list(actual.shape)} instead of {list(expected.shape)}")
        elif kind == "float":
            self._add_floats(expected, actual)
        else:
            self._add_discrete(expected, actual, numbers=kind == "integer")

    def _add_floats(self, expected: Array, actual: Array) -> None:
        self.floats = (self.floats or 0) + expected.size
        self.largest = self.largest or 0.0
        self._add_rows(expected, actual)
        flat, other = expected.reshape(-1), actual.reshape(-1)
        for start in range(0, flat.size, _BLOCK):  # bounds the memory
            self._add_block(_as_float64(flat[start : start + _BLOCK]), _as_float64(other[start : start + _BLOCK]))

    def _add_block(self, expected: _Floats, actual: _Floats) -> None:
        finite = np.isfinite(expected) & np.isfinite(actual)
        if not finite.all():
            same = (expected == actual) | (np.isnan(expected) & np.isnan(actual))
            self.broken = self.broken or not bool((same | finite).all())
            expected, actual = expected[finite], actual[finite]
        self.finite += expected.size
        with np.errstate(over="ignore", invalid="ignore"):  # squares of 1e200; `result` says infinite then
            difference = actual - expected
            self.noise += float(np.add.reduce(difference * difference))  # not np.dot: BLAS sums in an order of its own
            self.signal += float(np.add.reduce(expected * expected))
            self.power += float(np.add.reduce(actual * actual))
            self.product += float(np.add.reduce(expected * actual))
        self._add_largest(np.abs(difference))

    def _add_rows(self, expected: Array, actual: Array) -> None:
        if self.rows is None or expected.ndim != 2 or not 2 <= expected.shape[1] <= _LARGEST_CLASSIFIER:
            self.rows = None
            return
        self.rows += expected.shape[0]
        self.rows_equal += int(np.count_nonzero(np.argmax(expected, axis=1) == np.argmax(actual, axis=1)))

    def _add_discrete(self, expected: Array, actual: Array, *, numbers: bool) -> None:
        self.rows = None
        self.discrete = (self.discrete or 0) + expected.size
        self.equal += int(np.count_nonzero(expected == actual))
        if numbers:
            self._add_largest(np.abs(actual.astype(np.float64) - expected.astype(np.float64)))

    def _add_largest(self, differences: _Floats) -> None:
        self.largest = max(self.largest or 0.0, float(np.max(differences, initial=0.0)))

    def result(self) -> OutputError:
        relative = None if self.floats is None else self._relative(self.floats)
        agreement = None if self.discrete is None else _share(self.equal, self.discrete)
        error = max(0.0 if relative is None else relative, 0.0 if agreement is None else 1.0 - agreement)
        return OutputError(
            error=error if self.note is None else math.inf,
            relative_l2=relative,
            max_absolute=math.inf if self.broken else self.largest,
            sqnr_db=None if relative is None else self._sqnr(relative),
            cosine=None if relative is None else self._cosine(relative),
            agreement=agreement,
            top1_agreement=_share(self.rows_equal, self.rows) if self.rows else None,
            elements=(self.floats or 0) + (self.discrete or 0),
            comparable=self.finite + (self.discrete or 0),
            samples=self.samples,
            note=self.note,
        )

    def _relative(self, size: int) -> float:
        if not self.broken and self.noise == 0.0:
            return 0.0
        if self.broken or not math.isfinite(self.noise + self.signal):
            return math.inf
        return math.sqrt(self.noise) / (math.sqrt(self.signal) + _FLOOR * math.sqrt(size))

    def _sqnr(self, relative: float) -> float:
        if math.isinf(relative) or self.noise == 0.0:
            return -relative if math.isinf(relative) else math.inf
        if self.signal == 0.0:
            return -math.inf
        return 10.0 * (math.log10(self.signal) - math.log10(self.noise))

    def _cosine(self, relative: float) -> float | None:
        if relative == 0.0:
            return 1.0
        lengths = math.sqrt(self.signal) * math.sqrt(self.power)
        if lengths == 0.0:
            return 1.0 if self.signal == self.power else 0.0
        cosine = self.product / lengths
        return min(1.0, max(-1.0, cosine)) if math.isfinite(cosine) else None


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, Array | None]]:
    """The tensors in an output, each with its place in it."""
    if value is None:
        yield path, None
    elif isinstance(value, list | tuple) or _is_sequence(value):
        for index, part in enumerate(cast("Sequence[object]", value)):
            yield from _leaves(part, f"{path}[{index}]")
    elif isinstance(value, Mapping):
        for key, part in cast("Mapping[object, object]", value).items():
            yield from _leaves(part, f"{path}{{{key!r}}}")
    else:
        yield path, _plain(np.asarray(value))


def _is_sequence(value: object) -> bool:
    """Whether this is an array of arrays, which stands for a sequence of tensors, and not one of strings."""
    if not isinstance(value, np.ndarray):
        return False
    array = cast("Array", value)
    return array.dtype == object and any(isinstance(part, np.ndarray) for part in array.reshape(-1).tolist())


def _plain(array: Array) -> Array:
    """The array in NumPy's own types: those of ml_dtypes lack functions, and float32 and int64 hold their values."""
    if array.dtype.isbuiltin != 2:
        return array
    return array.astype(np.float32 if "float" in array.dtype.name else np.int64)


_KINDS = {
    "f": "float",
    "c": "float",
    "i": "integer",
    "u": "integer",
    "b": "boolean",
    "O": "string",
    "U": "string",
    "S": "string",
}


def _kind(array: Array) -> str:
    return _KINDS.get(array.dtype.kind, "of an unknown kind")


def _as_float64(array: Array) -> _Floats:
    if array.dtype.kind == "c":
        return array.astype(np.complex128).view(np.float64)
    return array.astype(np.float64)
