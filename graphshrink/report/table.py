"""The summary in the terminal: at most 80 columns, and what was saved first."""

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from graphshrink.escaping import safe
from graphshrink.report.text import bar, fit, size

WIDTH: Final = 80
_LAYERS: Final = 8  # the largest ones are listed


def summary(report: Mapping[str, Any], source: str) -> Iterator[str]:
    """Lines that tell a person what happened to the model `source`."""
    yield _headline(report, source)
    yield from _outputs(report["verification"])
    yield from _latency(report["latency"])
    yield from _loading(report["layers"])
    yield _time(report["timeline"])
    for entry in report["passes"]:
        yield from _pass(entry, report["layers"])
    yield from _layers(report["layers"])
    yield from _left_alone(report["passes"], report["layers"])


def _headline(report: Mapping[str, Any], source: str) -> str:
    before, after = report["input"], report["output"]
    ratio = before["bytes"] / max(1, after["bytes"])
    change = f"{ratio:.2f} x smaller" if ratio >= 1 else f"{1 / ratio:.2f} x LARGER"
    line = f"{size(before['bytes'])} -> {size(after['bytes'])}, {change}"
    if before["gzip_bytes"] is not None and after["gzip_bytes"] is not None:
        line += f"; gzip {size(before['gzip_bytes'])} -> {size(after['gzip_bytes'])}"
    return f"{line}; {fit(source, WIDTH - len(line) - 2).rstrip()}" if len(line) < WIDTH - 12 else line


def _outputs(verification: Mapping[str, Any] | None) -> Iterator[str]:
    if verification is None:
        yield "  outputs      NOT VERIFIED (--no-verify)"
        return
    held_out, fitted = verification["held_out"], verification["fit"]
    bound = "no bound" if verification["bound"] is None else f"bound {verification['bound']:g}"
    inputs = "random inputs" if verification["random"] else "held-out samples"
    yield f"  outputs      error {_number(held_out['error'])} ({bound}) on {held_out['samples']} {inputs}"
    if not verification["random"]:
        yield f"               error {_number(fitted['error'])} on the other {fitted['samples']}"
    agreements = [o["top1_agreement"] for o in held_out["outputs"].values() if o["top1_agreement"] is not None]
    if agreements:
        yield f"               same top class in {min(agreements):.1%} of the {inputs}"
    if (metric := verification["metric"]) is not None:
        most = "no bound" if metric["max_drop"] is None else f"at most {metric['max_drop']:g} less"
        figures = f"{metric['original']:.6g} -> {metric['result']:.6g} ({most})"
        yield f"  metric       {figures}; {fit(metric['name'], WIDTH - 17 - len(figures)).rstrip()}"


def _latency(latency: Mapping[str, Any] | None) -> Iterator[str]:
    if latency is not None:
        low, high = latency["spread"]
        noise = f"the original against itself {low:.2f} to {high:.2f} x"
        yield f"  latency      {latency['ratio']:.2f} x of {1000 * latency['before']:.3g} ms ({noise})"


def _loading(layers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What decoding costs where the model is loaded."""
    memory, seconds = (sum(layer.get(key, 0) for layer in layers) for key in ("load_bytes", "load_seconds"))
    if memory or seconds:
        yield f"  loading      decoding takes about {seconds:.2g} s and {size(memory)} (predicted)"


def _time(timeline: Mapping[str, float]) -> str:
    """What took longest."""
    longest = sorted(timeline.items(), key=lambda item: -item[1])[:3]
    parts = ", ".join(f"{what} {seconds:.2g}" for what, seconds in longest)
    return fit(f"  time         {sum(timeline.values()):.2g} s: {parts}", WIDTH).rstrip()


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"


def _pass(entry: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if entry["rolled_back"] is not None:
        yield f"  {entry['name']}: rolled back"
        return
    for line in entry["graph"]:
        yield from _wrapped(f"  {entry['name']}: ", line)
    if not entry["layers"] and (entry["graph"] or entry["kept"]):  # it is not about layers
        return
    changed = {label for label, outcome in entry["layers"].items() if "detail" in outcome}
    weights = sum(layer["parameters"] for layer in layers if layer["label"] in changed)
    total = sum(layer["parameters"] for layer in layers)
    milder = ", some milder than asked" if entry["backed_off"] else ""
    yield f"  {entry['name']}: {len(changed)} layers, {weights:,} of {total:,} parameters{milder}"


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(safe(text), WIDTH, initial_indent=head, subsequent_indent="    ")


def _layers(layers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The largest encoded layers, each with a bar of what is left of it."""
    encoded = sorted(
        (layer for layer in layers if layer["encoding"] != "plain"), key=lambda layer: -layer["plain_bytes"]
    )
    for layer in encoded[:_LAYERS]:
        share = layer["stored_bytes"] / layer["plain_bytes"]
        sizes = f"{size(layer['plain_bytes']):>7} -> {size(layer['stored_bytes']):>7}"
        yield f"    {fit(layer['label'], 30)} {bar(share, 16)} {sizes} {share:>4.0%}"
    if len(encoded) > _LAYERS:
        rest = encoded[_LAYERS:]
        before, after = (sum(layer[key] for layer in rest) for key in ("plain_bytes", "stored_bytes"))
        sizes = f"{size(before):>7} -> {size(after):>7}"
        yield f"    {fit(f'and {len(rest)} more', 30)} {bar(after / before, 16)} {sizes} {after / before:>4.0%}"


def _left_alone(passes: Sequence[Mapping[str, Any]], layers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Why what stayed as it was did so, the reasons that concern most bytes first."""
    sizes = {layer["label"]: layer["plain_bytes"] for layer in layers}
    for entry in passes:
        for line in entry["kept"]:
            yield from _wrapped(f"  left alone by {entry['name']}: ", line)
        reasons: Counter[str] = Counter()
        for label, outcome in entry["layers"].items():
            if "reason" in outcome:
                reasons[outcome["reason"]] += sizes.get(label, 0)
        if reasons:
            yield f"  left alone by {entry['name']}: {size(sum(reasons.values()))}"
        for reason, count in reasons.most_common(4):
            yield f"    {size(count):>7}  {fit(safe(reason), WIDTH - 14).rstrip()}"
