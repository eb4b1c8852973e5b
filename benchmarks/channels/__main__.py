"""Does channel-removal get through every architecture, keep what models know, and make them faster?

1. coverage: every model of the zoo, the onnx wheel, testmodels/ and the corpus, and torch's exports where torch is
   installed: half of MACs and of parameters is to go (bars: every result valid; 95 % of the models lose 40 % of both;
   90 % of the groups of channels removable in each; none declined).
2. accuracy: the corpus at 10, 20, 30 and 50 % fewer MACs, without training, beside l1 norms without repair (bar: at
   most 1 point down at 30 % on the LeNets, ResNet-20 and digit_cnn). A picture goes to results/channels.svg where
   matplotlib is installed (the extra `peers`).
3. latency: half of the MACs, in ONNX Runtime with one thread, turn by turn with the original and a copy of it (bar: 1.8
   times as fast, on ResNet-20, vgg_like and mlp20); these three with multiples of 1, 4, 8 and 16 channels as well.
4. grouping: the channels of a graph of 10,000 operators (bar: found in 10 s).
5. peers: onnxsim's pruner on the zoo and on trained models, Torch-Pruning on torch's networks: where they fail, and the
   errors of outputs at equal MACs where they do not (the extra `channels`).

Run it with OPENBLAS_NUM_THREADS=1. Results are written after each row, so that a run that is broken off keeps what it
has. With `--parts` or `--models` what the file says of the others stays. Tables go to results/channels.md.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from subprocess import run
from typing import Any, Final, TypeAlias

from benchmarks.channels import accuracy, coverage, grouping, latency, peers, picture
from benchmarks.channels.models import MODELS
from benchmarks.measuring import ROOT, Request, request
from benchmarks.rows import merged

Rows: TypeAlias = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Part:
    """One question.

    Attributes:
        title: of its table.
        rows: measures; gives the rows so far, again and again.
        shown: the table.
        verdict: how it stands with the bars.
    """

    title: str
    rows: Callable[[Request], Iterator[Rows]]
    shown: Callable[[Rows], str]
    verdict: Callable[[Request, Rows], str]


_PARTS: Final[Mapping[str, Part]] = {
    "coverage": Part("Coverage", coverage.coverage, coverage.shown, coverage.verdict),
    "accuracy": Part("Accuracy without training", accuracy.accuracy, accuracy.shown, accuracy.verdict),
    "latency": Part("Latency", latency.latency, latency.shown, latency.verdict),
    "grouping": Part("Grouping", grouping.grouping, grouping.shown, grouping.verdict),
    "peers": Part("Peers", peers.peers, peers.shown, peers.verdict),
}

_SLICES: Final = tuple(name for name in accuracy.NAMES if name not in MODELS)


def main() -> None:
    """Run, print and store."""
    asked = request("channels", __doc__, {"parts": _PARTS, "models": (*MODELS, *_SLICES)})
    found = _before(asked)
    runs: dict[str, Any] = found.setdefault("runs", {})
    for name in asked.only["parts"] or tuple(_PARTS):
        known = found.get(name, []) if asked.only["models"] else []
        runs[name] = _run()
        for rows in _PARTS[name].rows(asked):
            new = [row | {"commit": runs[name]["commit"]} for row in rows]
            found[name] = merged(known, new, [*MODELS, *_SLICES])
            asked.save(found)
            _write(asked, found)
    print(_text(asked, {name: found[name] for name in asked.only["parts"] or _PARTS if name in found}))


def _before(asked: Request) -> dict[str, Any]:
    """What the file of results says by now, of all parts."""
    if asked.into is None or not any(asked.only.values()) or not asked.into.exists():
        return {}
    known: dict[str, Any] = json.loads(asked.into.read_text(encoding="utf-8"))
    return {name: known[name] for name in (*_PARTS, "runs") if name in known}


def _run() -> dict[str, Any]:
    commit = run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or None,
        "openblas_threads": os.environ.get("OPENBLAS_NUM_THREADS"),
    }


def _write(asked: Request, found: Mapping[str, Any]) -> None:
    if asked.into is None:
        return
    asked.into.with_suffix(".md").write_text(_text(asked, found), encoding="utf-8")
    if picture.drawable(found.get("accuracy", [])) and find_spec("matplotlib") is not None:
        picture.draw(found["accuracy"], asked.into.with_suffix(".svg"))


def _text(asked: Request, found: Mapping[str, Any]) -> str:
    parts = [(part, found[name], found.get("runs", {}).get(name)) for name, part in _PARTS.items() if name in found]
    return "\n\n".join(_section(asked, part, rows, when) for part, rows, when in parts) + "\n"


def _section(asked: Request, part: Part, rows: Rows, when: Mapping[str, Any] | None) -> str:
    commits = dict.fromkeys(row["commit"] for row in rows if row.get("commit") is not None)
    measured = f"Measured {when['date'][:10]} at {', '.join(commits)}.\n\n" if when is not None else ""
    return f"## {part.title}\n\n{measured}{part.shown(rows)}\n\n{part.verdict(asked, rows)}"


if __name__ == "__main__":
    main()
