"""What a runtime made of the cases: whether every bit is the same, and the table that says so."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from benchmarks.measuring import table
from benchmarks.runtimes.cases import Case
from benchmarks.runtimes.jobs import Answer, TensorFile


class Outcome(StrEnum):
    """What can become of a case in a runtime."""

    EQUAL = "equal"
    AS_PLAIN = "as plain"
    BOTH_REFUSED = "refused plain too"
    REFUSED = "refused"
    UNEQUAL = "not equal"


FAILURES: Final = frozenset({Outcome.REFUSED, Outcome.UNEQUAL})


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one case.

    Attributes:
        case: what was tried.
        outcome: EQUAL: weights have their bits, and other outputs those that the plain model gives in this runtime;
            AS_PLAIN: the runtime keeps not all bits of the plain model's weights either, and gives the same for both;
            BOTH_REFUSED: it does not take the plain model; REFUSED: only the encoded one.
        why: an output that differs, or the runtime's own words.
    """

    case: Case
    outcome: Outcome
    why: str = ""


def judge(case: Case, plain: Answer, encoded: Answer) -> Verdict:
    """Compare what the two models of a case gave."""
    if encoded.refused is not None:
        outcome = Outcome.REFUSED if plain.refused is None else Outcome.BOTH_REFUSED
        return Verdict(case, outcome, encoded.refused)
    known = {tensor.name: tensor for tensor in case.weights}
    outcome = Outcome.EQUAL
    for name in case.outputs:
        found, given = encoded.outputs.get(name), plain.outputs.get(name)
        if name in known and found is not None and same_bits(found, known[name]):
            continue
        if found is None or given is None or not same_bits(found, given):
            return Verdict(case, Outcome.UNEQUAL, f"{name}: {_first_difference(found, known.get(name, given))}")
        if name in known:
            outcome = Outcome.AS_PLAIN
    return Verdict(case, outcome)


def same_bits(one: TensorFile, other: TensorFile) -> bool:
    """Whether two tensors have the same type, shape and bytes: -0.0 is not 0.0, and NaNs differ in what they carry."""
    return (one.dtype, one.shape) == (other.dtype, other.shape) and one.content() == other.content()


def _first_difference(found: TensorFile | None, wanted: TensorFile | None) -> str:
    if found is None or wanted is None:
        return "there is no such output" if found is None else "nothing to compare it with"
    if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
        return f"{found.dtype} {found.shape}, not {wanted.dtype} {wanted.shape}"
    pairs = zip(found.read().reshape(-1), wanted.read().reshape(-1), strict=True)
    at, one, other = next((i, a, b) for i, (a, b) in enumerate(pairs) if a.tobytes() != b.tobytes())
    return f"element {at} is {one} ({one.tobytes().hex()}), not {other} ({other.tobytes().hex()})"


def failed(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """What must not be."""
    return [verdict for verdict in verdicts if verdict.outcome in FAILURES]


def summary(rows: Mapping[str, Sequence[Verdict] | str]) -> str:
    """A line for each runtime: counts for each family of cases, or why there is no such runtime here."""
    families = list(dict.fromkeys(v.case.family for row in rows.values() if not isinstance(row, str) for v in row))
    return table(["runtime", *families], [_line(runtime, row, families) for runtime, row in rows.items()])


def _line(runtime: str, row: Sequence[Verdict] | str, families: Sequence[str]) -> list[str]:
    if isinstance(row, str):
        return [f"{runtime}: not available: {row}", *("-" for _ in families)]
    return [runtime, *(_counts(v.outcome for v in row if v.case.family == family) for family in families)]


def _counts(outcomes: Iterable[Outcome]) -> str:
    counted = Counter(outcomes)
    return ", ".join(f"{counted[outcome]} {outcome}" for outcome in Outcome if counted[outcome]) or "-"


def reasons(runtime: str, verdicts: Iterable[Verdict]) -> list[str]:
    """A line for each kind of trouble: how often, the first case, and the reason."""
    kinds: dict[tuple[Outcome, str, str], list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.outcome != Outcome.EQUAL:
            kinds.setdefault((verdict.outcome, verdict.case.family, verdict.why[:60]), []).append(verdict)
    return [
        f"{runtime}: {outcome}, {family}: {len(held)} x, first {held[0].case.name}{': ' * bool(why)}{held[0].why}"
        for (outcome, family, why), held in kinds.items()
    ]
