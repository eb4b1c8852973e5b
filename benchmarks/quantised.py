"""Where does ONNX Runtime run quantised weights no slower than plain ones?

Weights on uniform grids of 4 and 8 bits, behind a DequantizeLinear, against the same weights plain: one operator, one
thread, interleaved; the worst ratio over 1, 16 and 256 rows of input (or one input, where rows mean nothing) decides.
What is at most 1.05 is what graphshrink/encodings/quantised.py may use.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.measuring import Request, request, table
from graphshrink.encodings.quantised import KERNELS
from graphshrink.ir.tensor import tensor_of
from graphshrink.ir.types import Array, Feeds
from graphshrink.metrics.latency import interleaved, median_ratio
from graphshrink.onnx_io.fields import keep_in_place
from graphshrink.onnx_io.runtime import Runtime, Session
from graphshrink.onnx_io.tensors import write_tensor

_ROWS, _ROWS_SHORT = (1, 16, 256), (1,)
_ROUNDS, _ROUNDS_SHORT = 15, 3
_ROUND_SECONDS: Final = 0.01
_BAR: Final = 1.05


@dataclass(frozen=True, slots=True)
class Form:
    """How codes and scales are laid out: bits of a code, inputs in a block (0: a scale for each channel)."""

    bits: int
    block: int
    opset: int = 21

    def __str__(self) -> str:
        scales = f"blocks of {self.block}" if self.block else "channels"
        return f"{self.bits} bits, {scales}, opset {self.opset}"


_FORMS: Final = (Form(4, 128), Form(8, 128), Form(8, 0, opset=13), Form(4, 0))


@dataclass(frozen=True, slots=True)
class Consumer:
    """One operator with a weight.

    Attributes:
        shape: of the weight.
        outputs, inputs: its axes of output channels, and along which blocks lie.
        feeds: inputs for so many rows, `x` among them.
        first: whether the weight is the first input.
        turned: whether what DequantizeLinear gives has to be transposed.
        rows: whether the number of rows means anything.
    """

    op_type: str
    shape: tuple[int, ...]
    outputs: int
    inputs: int
    feeds: Callable[[int], Feeds]
    first: bool = False
    turned: bool = False
    rows: bool = True
    attributes: tuple[tuple[str, Any], ...] = ()
    more: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def may_have(self, form: Form) -> bool:
        """Whether graphshrink gives quantised weights this form here."""
        inputs, outputs = self.shape[self.inputs], self.shape[self.outputs]
        return any(
            (kernel.bits, kernel.block) == (form.bits, form.block)
            and (inputs >= kernel.inputs and outputs >= kernel.outputs)
            for kernel in KERNELS.get(self.op_type, ())
        )


def _normal(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _dense(op_type: str, inputs: int, outputs: int, *, turned: bool = False) -> Consumer:
    shape, axes = ((outputs, inputs), (0, 1)) if turned else ((inputs, outputs), (1, 0))
    attributes = (("transB", 1),) if turned else ()
    feeds: Callable[[int], Feeds] = lambda rows: {"x": _normal(rows, inputs)}  # noqa: E731
    return Consumer(op_type, shape, *axes, feeds, turned=turned, attributes=attributes)


def _image(op_type: str, shape: tuple[int, ...], image: tuple[int, ...], **attributes: Any) -> Consumer:
    outputs = 0 if op_type == "Conv" else 1
    feeds: Callable[[int], Feeds] = lambda rows: {"x": _normal(1, *image)}  # noqa: E731
    return Consumer(op_type, shape, outputs, 1 - outputs, feeds, rows=False, attributes=tuple(attributes.items()))


def _recurrent(op_type: str, gates: int, width: int) -> Consumer:
    feeds: Callable[[int], Feeds] = lambda rows: {"x": _normal(32, 1, width)}  # noqa: E731
    shape = (1, gates * width, width)
    return Consumer(op_type, shape, 1, 2, feeds, rows=False, attributes=(("hidden_size", width),), more=(("r", shape),))


def _embedding(count: int, width: int) -> Consumer:
    feeds: Callable[[int], Feeds] = lambda rows: {"x": np.random.default_rng(0).integers(0, count, (1, rows))}  # noqa: E731
    return Consumer("Gather", (count, width), 0, 1, feeds, first=True)


_CONSUMERS: Final = (
    _dense("MatMul", 512, 512),
    _dense("MatMul", 1024, 1024),
    _dense("MatMul", 768, 3072),
    _dense("MatMul", 784, 300),
    _dense("MatMul", 512, 256),
    _dense("MatMul", 256, 256),
    _dense("MatMul", 1024, 10),
    _dense("Gemm", 1024, 1024),
    _dense("Gemm", 1024, 1024, turned=True),
    _image("Conv", (64, 64, 3, 3), (64, 28, 28), pads=[1, 1, 1, 1]),
    _image("Conv", (512, 256, 1, 1), (256, 14, 14)),
    _image("Conv", (64, 1, 3, 3), (64, 28, 28), pads=[1, 1, 1, 1], group=64),
    _image("ConvTranspose", (64, 32, 3, 3), (64, 14, 14)),
    _embedding(5000, 256),
    _recurrent("LSTM", 4, 128),
    _recurrent("GRU", 3, 256),
)
_SHORT: Final = (_dense("MatMul", 512, 256), _image("Conv", (64, 64, 3, 3), (64, 28, 28)))


# ---- models


@dataclass(frozen=True, slots=True)
class Pair:
    """The same weight, plain and behind a DequantizeLinear."""

    plain: onnx.ModelProto
    quantised: onnx.ModelProto


def pair(consumer: Consumer, form: Form) -> Pair:
    """Two models that differ in how the weight is stored."""
    rng = np.random.default_rng(0)
    high = 1 << (form.bits - 1)
    steps = rng.integers(-high, high, consumer.shape)
    channels = consumer.shape[consumer.outputs]
    scale = rng.uniform(0.01, 0.02, channels).astype(np.float32)
    spread = scale.reshape([-1 if axis == consumer.outputs else 1 for axis in range(len(consumer.shape))])
    weight = steps.astype(np.float32) * spread
    codes = steps.astype(np.int8).astype(ml_dtypes.int4 if form.bits == 4 else np.int8)
    axis, other = consumer.outputs, consumer.inputs
    if consumer.turned:
        codes, axis, other = np.ascontiguousarray(codes.T), 1, 0
    attributes: dict[str, Any] = {"axis": axis}
    if form.block:
        attributes = {"axis": other, "block_size": form.block}
        blocks = np.broadcast_to(scale, (-(-codes.shape[other] // form.block), channels))
        scale = np.ascontiguousarray(blocks.T if other else blocks)
    nodes = [helper.make_node("DequantizeLinear", ["q", "s"], ["v" if consumer.turned else "w"], **attributes)]
    if consumer.turned:
        nodes.append(helper.make_node("Transpose", ["v"], ["w"], perm=[1, 0]))
    return Pair(
        _model(consumer, form.opset, [], {"w": weight}), _model(consumer, form.opset, nodes, {"q": codes, "s": scale})
    )


def _model(consumer: Consumer, opset: int, nodes: list[onnx.NodeProto], constants: dict[str, Array]) -> onnx.ModelProto:
    order = ["w", "x"] if consumer.first else ["x", "w"]
    more = {name: _normal(*shape) / 100 for name, shape in consumer.more}
    node = helper.make_node(consumer.op_type, [*order, *more], ["y"], **dict(consumer.attributes))
    x = consumer.feeds(1)["x"]
    kind = TensorProto.INT64 if consumer.first else TensorProto.FLOAT
    shape: list[Any] = list(x.shape)
    if consumer.rows:
        shape[1 if consumer.first else 0] = "rows"
    graph = helper.make_graph(
        [*nodes, node],
        "one",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in more.items()],
    )
    for name, array in constants.items():
        write_tensor(tensor_of(array, name), graph.initializer.add(), keep_in_place)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


# ---- measuring


def _timer(session: Session, feeds: Feeds, runs: int) -> Callable[[], float]:
    return lambda: statistics.median(session.time(feeds, runs))


def measure(runtime: Runtime, consumer: Consumer, form: Form, rows: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Latency ratios by rows, bytes, the error that kernels of few bits add, and the operators left to run."""
    models = pair(consumer, form)
    with tempfile.TemporaryDirectory(prefix="graphshrink-") as folder:
        paths = [Path(folder) / name for name in ("plain.onnx", "quantised.onnx")]
        for path, model in zip(paths, (models.plain, models.quantised), strict=True):
            onnx.save(model, path)
        with runtime.open(paths[0]) as plain, runtime.open(paths[1]) as quantised:
            found: dict[str, Any] = {
                "consumer": consumer.op_type + (" transB" if consumer.turned else ""),
                "shape": consumer.shape,
                "form": str(form),
                "used": consumer.may_have(form),
                "bytes": paths[1].stat().st_size / paths[0].stat().st_size,
                "operators": sorted(quantised.operator_counts()),
                "ratios": {},
            }
            for count in rows if consumer.rows else (1,):
                feeds = consumer.feeds(count)
                once = statistics.median(plain.time(feeds, 5))
                runs = max(3, min(200, round(_ROUND_SECONDS / max(once, 1e-7))))
                jobs = {"plain": _timer(plain, feeds, runs), "quantised": _timer(quantised, feeds, runs)}
                seconds = interleaved(jobs, rounds)
                found["ratios"][str(count)] = median_ratio(seconds["quantised"], seconds["plain"])
            feeds = consumer.feeds(16)
            wanted, got = plain.run(feeds)["y"], quantised.run(feeds)["y"]
            found["error"] = float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))
    return found


def _cases(asked: Request) -> Iterator[tuple[Consumer, Form]]:
    for consumer in _SHORT if asked.short else _CONSUMERS:
        for form in _FORMS:
            if not form.block or len(consumer.shape) == 2:
                yield consumer, form


def _row(case: dict[str, Any]) -> list[object]:
    shape = " x ".join(map(str, case["shape"]))
    kernels = " ".join(case["operators"]).replace("com.microsoft.", "")
    ratios = " / ".join(f"{ratio:.2f}" for ratio in case["ratios"].values())
    return [
        case["consumer"], shape, case["form"], ratios, f"{case['bytes']:.3f}", f"{case['error']:.1e}", kernels,
        "yes" if case["used"] else "",
    ]  # fmt: skip


def main() -> None:
    """Run the benchmark."""
    asked = request("quantised", __doc__)
    rows, rounds = (_ROWS_SHORT, _ROUNDS_SHORT) if asked.short else (_ROWS, _ROUNDS)
    with Runtime(threads=1) as runtime:
        cases = [measure(runtime, consumer, form, rows, rounds) for consumer, form in _cases(asked)]
    header = ["consumer", "weight", "form", "latency by rows", "bytes", "error", "operators left", "used"]
    print(table(header, map(_row, cases)))
    worst = max(max(case["ratios"].values()) for case in cases if case["used"])
    print(f"\nworst latency of what is used: {worst:.2f} x plain, {asked.verdict(worst, _BAR)} (at most {_BAR})")
    asked.save({"bar": _BAR, "worst": worst, "cases": cases})


if __name__ == "__main__":
    main()
