"""A comparison of two models, for people and as data."""

from collections.abc import Iterator
from typing import Any

from graphshrink.escaping import safe
from graphshrink.metrics.output_error import OutputError
from graphshrink.report.ledger import figures, json_ready
from graphshrink.report.text import fit
from graphshrink.verify import Comparison

_HEAD = ("output", "error", "max abs", "SQNR dB", "cosine", "top-1")


def comparison_dict(comparison: Comparison) -> dict[str, Any]:
    """As data, ready for JSON."""
    verdict = comparison.verdict
    ready: dict[str, Any] = json_ready(
        {
            "inputs": comparison.inputs,
            "random": comparison.random,
            "bound": comparison.bound,
            "passed": comparison.passed,
            "error": verdict.worst,
            "samples": verdict.samples,
            "outputs": figures(verdict.outputs),
        }
    )
    return ready


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """As a table of at most 80 columns, the verdict first."""
    verdict = comparison.verdict
    yield f"{_headline(comparison)}: worst error {verdict.worst:.3g}"
    yield f"on {safe(comparison.inputs)}"
    yield _row(*_HEAD)
    for name, error in verdict.outputs.items():
        yield _row(name, *_figures(error))
        if error.note is not None:
            yield f"  {safe(error.note)}"


def _headline(comparison: Comparison) -> str:
    if not comparison.passed:
        return "TOO FAR APART" if comparison.bound is None else f"TOO FAR APART (bound {comparison.bound:g})"
    return "compared, no bound given" if comparison.bound is None else f"within the bound {comparison.bound:g}"


def _figures(error: OutputError) -> tuple[str, ...]:
    top1 = error.top1_agreement if error.top1_agreement is not None else error.agreement
    return (
        f"{error.error:.3g}",
        "-" if error.max_absolute is None else f"{error.max_absolute:.3g}",
        "-" if error.sqnr_db is None else f"{error.sqnr_db:.1f}",
        "-" if error.cosine is None else f"{error.cosine:.6f}",
        "-" if top1 is None else f"{top1:.1%}",
    )


def _row(name: str, *cells: str) -> str:
    return f"{fit(name, 30)} " + " ".join(f"{cell:>9}" for cell in cells)
