"""How much faster models run with half of their MACs: ONNX Runtime, one thread, one input, interleaved.

A second session of the original runs between the two, which shows what noise does to a ratio. Some models are measured
with channel counts that divide by 1, 4, 8 and 16 as well: what the runtime likes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from benchmarks.channels.coverage import costs
from benchmarks.channels.models import MODELS
from benchmarks.measuring import Request, table
from benchmarks.rows import measured
from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.samples import held
from graphshrink.ir.types import Feeds
from graphshrink.metrics.latency import Timer, compare_latency
from graphshrink.onnx_io.runtime import Runtime, Session
from graphshrink.onnx_io.temporary import written
from graphshrink.passes.channel_removal import ChannelRemoval
from graphshrink.passing.base import Context
from graphshrink.report.ledger import json_ready

_RATIO: Final = 0.5
_JUDGED: Final = ("resnet-20", "vgg_like", "mlp20")
_OTHERS: Final = (
    *("digit_cnn", "lenet-5", "depthwise", "efficientnet_lite0", "ppocr_cls", "minilm_l3"),
    *("resnet18", "mobilenet_v2", "shufflenet_v2", "unet", "vit", "gpt2", "lstm", "light_squeezenet", "light_resnet50"),
)
_SHORT: Final = ("lenet-5",)
_DEFAULT: Final = 0
_MULTIPLES: Final = (1, 4, 8, 16)
_BAR: Final = 1.8
_FEEDS, _REAL_FEEDS = 2, 20


def timed(name: str, multiple: int) -> dict[str, Any]:
    """Remove channels and time what is left beside the original; run in a process of its own."""
    source = MODELS[name]
    graph = source.graph()
    original = graph.copy()
    feeds = held(source.inputs(_FEEDS if source.random else _REAL_FEEDS, 1), "the benchmark's")
    with Runtime() as runtime:
        calibration = Calibration(feeds, runtime, random=source.random)
        before = costs(graph, calibration.observed(graph).shapes)
        ChannelRemoval(ratio=_RATIO, of="macs", multiple=multiple).run(graph, Context(calibration=calibration))
        after = costs(graph, calibration.observed(graph).shapes)
        with (
            written(original) as wide,
            written(graph) as narrow,
            runtime.open(wide) as first,
            runtime.open(wide) as again,
            runtime.open(narrow) as result,
        ):
            found = compare_latency(*(_timer(session, feeds[0]) for session in (first, again, result)))
    row = {
        "multiple": multiple,
        **{key: 1 - after[key] / before[key] for key in before},
        "before": found.before,
        "after": found.after,
        "speedup": 1 / found.ratio,
        "plain": found.plain,
        "spread": list(found.spread),
    }
    answer: dict[str, Any] = json_ready(row)
    return answer


def _timer(session: Session, feeds: Feeds) -> Timer:
    return lambda repeats: session.time(feeds, repeats)


def latency(asked: Request) -> Iterator[list[dict[str, Any]]]:
    """All models; the rows so far after each of them."""
    every = (*_JUDGED, *_OTHERS)
    chosen = [name for name in asked.only["models"] if name in MODELS] if asked.only.get("models") else every
    rows: list[dict[str, Any]] = []
    for name in _SHORT if asked.short else chosen:
        settings: list[dict[str, Any]] = []
        for multiple in (_DEFAULT, *(_MULTIPLES if name in _JUDGED else ())):
            asked.note(f"latency: {name}, multiples of {multiple or 'the default'}")
            settings.append({"multiple": multiple, **measured(timed, name=name, multiple=multiple)})
        rows.append({"model": name, "settings": settings})
        yield rows


_HEADER: Final = (
    *("model", "multiples of", "MACs gone", "params gone", "ms before", "ms after", "times as fast"),
    *("original beside itself", "middle 80 % of that"),
)


def shown(rows: Iterable[Mapping[str, Any]]) -> str:
    """The table."""
    return table(_HEADER, [_line(row["model"], setting) for row in rows for setting in row["settings"]])


def _line(name: str, setting: Mapping[str, Any]) -> tuple[object, ...]:
    start = (name, setting["multiple"] or "default")
    if "failure" in setting:
        return (*start, setting["failure"], *"------")
    low, high = setting["spread"]
    return (
        *start,
        *(f"{setting[key]:.1%}" for key in ("macs", "params")),
        *(f"{1000 * setting[key]:.3f}" for key in ("before", "after")),
        f"{setting['speedup']:.2f}" + (" MISSED" if _misses(name, setting) else ""),
        f"{setting['plain']:.3f}",
        f"{low:.3f} to {high:.3f}",
    )


def _misses(name: str, setting: Mapping[str, Any]) -> bool:
    return name in _JUDGED and setting["multiple"] == _DEFAULT and setting.get("speedup", 0.0) < _BAR


def verdict(asked: Request, rows: Sequence[Mapping[str, Any]]) -> str:
    """How many of the models with a bar meet it."""
    judged = [row for row in rows if row["model"] in _JUDGED]
    missed = sum(any(_misses(row["model"], setting) for setting in row["settings"]) for row in judged)
    bar = f"{_BAR:g} times as fast at {_RATIO:.0%} of the MACs"
    return f"bar {bar}: {len(judged) - missed} of {len(judged)}; {asked.verdict(missed, 0.5)}"
