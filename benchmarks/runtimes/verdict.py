"""What a runtime made of the cases: whether every bit is the same, and the table that says so."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from benchmarks.measuring import table
from benchmarks.runtimes.cases import Case
from benchmarks.runtimes.jobs import Answer, TensorFile


class Outcome(StrEnum):
    """What can become of a case in a runtime."""

    EQUAL = "equal"
    UNFOLDED = "equal unfolded"
    AS_PLAIN = "as plain"
    ALONE = "equal, plain refused"
    BOTH_REFUSED = "refused plain too"
    REFUSED = "refused"
    UNEQUAL = "not equal"


FAILURES: Final = frozenset({Outcome.REFUSED, Outcome.UNEQUAL})


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one case.

    Attributes:
        case: what was tried.
        outcome: see `judge`.
        why: an output that differs, or the runtime's own words.
    """

    case: Case
    outcome: Outcome
    why: str = ""


def judge(case: Case, plain: Answer, encoded: Answer, unfolded: Answer | None = None) -> Verdict:
    """Compare what the models of a case gave.

    1. EQUAL: the weights have their bits, and other outputs those that the plain model gives in this runtime.
    2. UNFOLDED: the same, but other outputs are those of the plain model with an Identity behind each weight.
    3. AS_PLAIN: all outputs are those of the plain model, whose weights do not keep their bits in this runtime either.
    4. ALONE: the weights have their bits; the plain model is refused, so that nothing is known of other outputs.
    5. BOTH_REFUSED: the runtime does not take the plain model; REFUSED: it does, and not the encoded one.
    6. UNEQUAL: anything else.
    """
    if encoded.refused is not None:
        outcome = Outcome.REFUSED if plain.refused is None else Outcome.BOTH_REFUSED
        return Verdict(case, outcome, encoded.refused)
    known = {tensor.name: tensor for tensor in case.weights}
    if plain.refused is not None:
        return _compare(case, encoded, [(Outcome.ALONE, {**encoded.outputs, **known})])
    wanted = [(Outcome.EQUAL, {**plain.outputs, **known}), (Outcome.AS_PLAIN, plain.outputs)]
    if unfolded is not None:
        wanted.insert(1, (Outcome.UNFOLDED, {**unfolded.outputs, **known}))
    return _compare(case, encoded, wanted)


def _compare(case: Case, encoded: Answer, wanted: Sequence[tuple[Outcome, Mapping[str, TensorFile]]]) -> Verdict:
    """The first outcome whose outputs these are; what differs from the very first is told in any case."""
    first = wanted[0][1]
    differing = [name for name in case.outputs if not _same(encoded.outputs.get(name), first.get(name))]
    if not differing:
        return Verdict(case, wanted[0][0])
    name = differing[0]
    why = f"{len(differing)} of {len(case.outputs)} outputs, {name}: " + _first_difference(
        encoded.outputs.get(name), first.get(name)
    )
    for outcome, outputs in wanted[1:]:
        if all(_same(encoded.outputs.get(name), outputs.get(name)) for name in case.outputs):
            return Verdict(case, outcome, why)
    return Verdict(case, Outcome.UNEQUAL, why)


def _same(found: TensorFile | None, wanted: TensorFile | None) -> bool:
    return found is not None and wanted is not None and same_bits(found, wanted)


def same_bits(one: TensorFile, other: TensorFile) -> bool:
    """Whether two tensors have the same type, shape and bytes: -0.0 is not 0.0, and NaNs differ in what they carry."""
    return (one.dtype, one.shape) == (other.dtype, other.shape) and one.content() == other.content()


def _first_difference(found: TensorFile | None, wanted: TensorFile | None) -> str:
    if found is None or wanted is None:
        return "there is no such output" if found is None else "nothing to compare it with"
    if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
        return f"{found.dtype} {found.shape}, not {wanted.dtype} {wanted.shape}"
    one_by_one = (found.read().reshape(-1), wanted.read().reshape(-1))
    differs = np.any(np.not_equal(*(array.view(np.uint8).reshape(array.size, -1) for array in one_by_one)), axis=1)
    at = int(np.flatnonzero(differs)[0])
    one, other = (array[at] for array in one_by_one)
    return f"element {at} is {one} ({one.tobytes().hex()}), not {other} ({other.tobytes().hex()})"


def failed(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """What must not be."""
    return [verdict for verdict in verdicts if verdict.outcome in FAILURES]


def summary(rows: Mapping[str, Sequence[Verdict] | str]) -> str:
    """A line for each runtime: counts for each family of cases, or that there is no such runtime here."""
    families = list(dict.fromkeys(v.case.family for row in rows.values() if not isinstance(row, str) for v in row))
    return table(["runtime", *families], [_line(runtime, row, families) for runtime, row in rows.items()])


def _line(runtime: str, row: Sequence[Verdict] | str, families: Sequence[str]) -> list[str]:
    if isinstance(row, str):
        return [f"{runtime} (not available)", *("-" for _ in families)]
    return [runtime, *(_counts(v.outcome for v in row if v.case.family == family) for family in families)]


def _counts(outcomes: Iterable[Outcome]) -> str:
    counted = Counter(outcomes)
    return ", ".join(f"{counted[outcome]} {outcome}" for outcome in Outcome if counted[outcome]) or "-"


def _kind(why: str) -> str:
    """A reason without its numbers."""
    return "".join(letter for letter in why if not letter.isdigit())[:60]


def reasons(runtime: str, verdicts: Sequence[Verdict] | str) -> list[str]:
    """A line for each kind of trouble: how often, the first case, and the reason; or why the runtime is not there."""
    if isinstance(verdicts, str):
        return [f"{runtime}: not available: {verdicts}"]
    kinds: dict[tuple[Outcome, str, str], list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.outcome not in (Outcome.EQUAL, Outcome.UNFOLDED):
            kinds.setdefault((verdict.outcome, verdict.case.family, _kind(verdict.why)), []).append(verdict)
    return [
        f"{runtime}: {outcome}, {family}: {len(held)} x, first {held[0].case.name}{': ' * bool(why)}{held[0].why}"
        for (outcome, family, why), held in kinds.items()
    ]
