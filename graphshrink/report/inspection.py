"""What is in a model, and what graphshrink could do with it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import onnx

from graphshrink.encodings import Lifted, entropy_bits, lift, stored_values
from graphshrink.escaping import safe
from graphshrink.ir.check import check
from graphshrink.ir.tensor import StringData
from graphshrink.ir.weight import Weight, weights
from graphshrink.metrics.macs import Known, macs, operator_macs, shapes_in
from graphshrink.metrics.size import affordable_gzip, file_chunks
from graphshrink.onnx_io.external import model_files
from graphshrink.onnx_io.load import load_as_stored
from graphshrink.onnx_io.runtime import Limits
from graphshrink.onnx_io.shapes import known_shapes
from graphshrink.ops import why_not_a_weight
from graphshrink.passing.base import Pass
from graphshrink.report.text import bar, fit, size

_SHOWN: Final = 20  # layers in the table


def inspect_model(path: Path, passes: Sequence[Pass]) -> dict[str, Any]:
    """The contents of a model as data, ready for JSON, and which of the passes apply to each weight.

    Raises:
        ModelError: it cannot be read.
    """
    graph = load_as_stored(path)
    encodings = {(id(item.graph), item.name): item for item in lift(graph)}
    check(graph)
    files = model_files(graph, path)
    with Limits().runtime(files) as runtime:
        shapes = known_shapes(runtime, path)
    found = weights(graph)
    return {
        "file": path.name,
        "bytes": sum(file.stat().st_size for file in files),
        "gzip_bytes": affordable_gzip(file_chunks(files), sum(file.stat().st_size for file in files)),
        "ir_version": graph.header.ir_version if graph.header is not None else None,
        "opsets": {domain or "": version for domain, version in graph.opsets},
        "operators": dict(
            Counter(o.op_type for _, scope in graph.scopes() for _, o in scope.operators()).most_common()
        ),
        "parameters": sum(weight.tensor.size for weight in found),
        "macs": sum(macs(graph, shapes).values()) if shapes else None,
        "passes": [step.name for step in passes],
        "layers": [_layer(weight, encodings.get((id(weight.graph), weight.name)), shapes, passes) for weight in found],
    }


def _layer(weight: Weight, encoded: Lifted | None, shapes: Known, passes: Sequence[Pass]) -> dict[str, Any]:
    reason = why_not_a_weight(weight)
    stored = weight.tensor.nbytes if encoded is None else encoded.stored_bytes
    refusals = {step.name: step.is_for(weight) or step.refuses(weight, "fast") for step in passes}
    counts = [operator_macs(use.graph, use.operator, shapes_in(use.graph, shapes)) for use in weight.uses]
    return {
        "label": weight.label,
        "operators": sorted({use.operator.op_type for use in weight.uses}),
        "type": onnx.TensorProto.DataType.Name(weight.tensor.elem_type)
        if not isinstance(weight.tensor.data, StringData)
        else "STRING",
        "shape": list(weight.tensor.dims),
        "parameters": weight.tensor.size,
        "bytes": weight.tensor.nbytes,
        "encoding": "plain" if encoded is None else encoded.encoding,
        "stored_bytes": stored,
        "bits": round(8 * stored / max(1, weight.tensor.size), 4),
        "entropy_bits": None if encoded is None else entropy_bits(stored_values(weight.tensor, encoded.encoding)),
        "load_seconds": 0.0 if encoded is None else round(encoded.cost.seconds, 6),
        "load_bytes": 0 if encoded is None else encoded.cost.bytes,
        "macs": sum(count for count in counts if count is not None),
        "uses": len(weight.uses),
        "passes": [name for name, refusal in refusals.items() if refusal is None],
        "reason": reason or next((refusal for refusal in refusals.values() if refusal is not None), None),
    }


def _stored(layer: Mapping[str, Any]) -> str:
    """How a weight is stored; for an encoded one in how many bits each, and how many it cannot go below."""
    if layer["encoding"] == "plain":
        return "plain"
    least = "" if layer["entropy_bits"] is None else f" of {layer['entropy_bits']:.2f}"
    return f"{layer['encoding']} {layer['bits']:.2f}{least} bit"


def inspection_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The contents as lines of at most 80 columns: the layers with most bytes first."""
    opsets = ", ".join(f"{safe(domain) or 'opset'} {version}" for domain, version in found["opsets"].items())
    gzip = "" if found["gzip_bytes"] is None else f", gzip {size(found['gzip_bytes'])}"
    yield f"{fit(found['file'], 40).rstrip()}: {size(found['bytes'])}{gzip}"
    count = "MACs unknown" if found["macs"] is None else f"{found['macs']:,} MACs"
    yield f"  {found['parameters']:,} parameters, {count}; IR {found['ir_version']}, {opsets}"
    common = [f"{count} {safe(name)}" for name, count in list(found["operators"].items())[:6]]
    yield f"  {fit(', '.join(common), 78).rstrip()}"
    layers = sorted(found["layers"], key=lambda layer: -layer["bytes"])
    largest = layers[0]["bytes"] if layers else 0
    for layer in layers[:_SHOWN]:
        what = "/".join(layer["operators"]) or "unused"
        note = _stored(layer) if layer["reason"] is None else f"not touched: {layer['reason']}"
        picture = bar(layer["bytes"] / max(1, largest), 8)
        yield f"  {fit(layer['label'], 24)} {picture} {size(layer['bytes']):>7}  {fit(f'{what}, {note}', 34).rstrip()}"
    if len(layers) > _SHOWN:
        rest = size(sum(layer["bytes"] for layer in layers[_SHOWN:]))
        yield f"  and {len(layers) - _SHOWN} more with {rest} (--json lists all)"
    memory, seconds = (sum(layer[key] for layer in layers) for key in ("load_bytes", "load_seconds"))
    if memory or seconds:
        yield f"  decoding takes about {seconds:.2g} s and {size(memory)} where it is loaded (predicted)"
    total = max(1, sum(layer["bytes"] for layer in layers))
    for name in found["passes"]:
        able = [layer for layer in layers if name in layer["passes"]]
        share = sum(layer["bytes"] for layer in able) / total
        yield f"  {name} applies to {len(able)} of {len(layers)} constants, {share:.1%} of their bytes"
