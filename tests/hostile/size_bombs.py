"""Small models that ask for a great deal of memory or time.

What has to be stopped by a limit is run with a low one, so that the tests neither wait long nor fill the machine.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from graphshrink.ir.types import Array
from tests.hostile.cases import (
    DONE_OR_REFUSED,
    REFUSED,
    UNVERIFIED,
    Argument,
    Case,
    Command,
    Model,
    compress,
    model_case,
    model_cases,
    write_model,
)
from tests.hostile.external_data import model_with, outside
from tests.hostile.file import field, good
from tests.hostile.graph import constant, node, with_nodes
from tests.hostile.subgraphs import laughs, loop_body, looped

_TIME: Final = ("--time-limit", "4")
_MEMORY: Final = ("--worker-memory", "2GiB")
_HUGE: Final = 1 << 40


def _bombed(nodes: Sequence[onnx.NodeProto], constants: dict[str, Array] | None = None) -> onnx.ModelProto:
    """y is h plus the largest element of `bomb`, which the nodes make."""
    end = [node("ReduceMax", ["bomb"], ["top"], keepdims=0), node("Add", ["h", "top"], ["y"])]
    made = with_nodes(*nodes, *end)
    made.graph.initializer.extend(constant(array, name) for name, array in (constants or {}).items())
    return made


def _integers(*values: int) -> Array:
    return np.array(values, np.int64)


def _integer(value: int) -> Array:
    return np.array(value, np.int64)


def _floats(*values: float) -> Array:
    return np.array(values, np.float32)


def _one(kind: str, inputs: Sequence[str], constants: dict[str, Array], **attributes: Any) -> Callable[[], Model]:
    """The bomb is one operator."""
    return lambda: _bombed([node(kind, inputs, ["bomb"], **attributes)], constants)


def _filled(*sizes: int) -> Callable[[], Model]:
    return _one("ConstantOfShape", ["sizes"], {"sizes": _integers(*sizes)})


def _from_input() -> Model:
    """A size that is known only when the model runs."""
    nodes = [node("Shape", ["h"], ["s"]), node("Mul", ["s", "many"], ["sizes"])]
    return _bombed([*nodes, node("ConstantOfShape", ["sizes"], ["bomb"])], {"many": _integers(1 << 20, 1 << 20)})


def _outer(kind: str) -> Callable[[], Model]:
    """A column and a row of 2^20."""
    fills = [node("ConstantOfShape", [name], [name[0]]) for name in ("column", "row")]
    sizes = {"column": _integers(1 << 20, 1), "row": _integers(1, 1 << 20)}
    return lambda: _bombed([*fills, node(kind, ["c", "r"], ["bomb"])], sizes)


def _doubled() -> Model:
    """Twice as much with each of 40 operators."""
    names = ["h", *(f"v{i}" for i in range(39)), "bomb"]
    return _bombed([node("Concat", [names[i]] * 2, [names[i + 1]], axis=0) for i in range(40)])


def _products() -> Model:
    """A hundred products of large matrices, of constants alone."""
    names = ["m", *(f"v{i}" for i in range(99)), "bomb"]
    start = node("ConstantOfShape", ["sizes"], ["m"])
    nodes = [node("MatMul", [names[i], "m"], [names[i + 1]]) for i in range(100)]
    return _bombed([start, *nodes], {"sizes": _integers(8192, 8192)})


def _collecting() -> Model:
    """A loop that keeps a value of each trip."""
    sizes = constant(_integers(1 << 20), "sizes")
    nodes = [node("Relu", ["state"], ["next"]), node("ConstantOfShape", ["sizes"], ["kept"])]
    return looped(1 << 60, loop_body(nodes, scanned=["kept"], initializers=[sizes]), ["y", "all"])


def _growing() -> Model:
    """A loop whose state doubles."""
    return looped(1 << 60, loop_body([node("Concat", ["state", "state"], ["next"], axis=0)]))


def _nested_loops() -> Model:
    """2^20 trips of 2^20 trips of 2^20."""
    step = loop_body([node("Relu", ["state"], ["next"])])
    for _ in range(2):
        step = loop_body([node("Loop", ["trips", "", "state"], ["next"], body=step)])
    return looped(1 << 20, step)


def endless() -> Model:
    """A loop that no clock outlives."""
    return looped(1 << 60, loop_body([node("Relu", ["state"], ["next"])]))


def _many_operators() -> bytes:
    """A million and one, the same one again and again."""
    operator = field(1, field(1, b"h") + field(2, b"z") + field(4, b"Relu"))
    return good() + field(7, operator * 1_000_001)


def _sparse_file(folder: Path) -> Command:
    """A weight of 256 GB in a file that takes no space."""
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(1 << 38)
    write_model(folder, model_with(outside(("location", "weights.bin"), dims=(1 << 4, 1 << 32))))
    return compress(folder)


def _looked_at(make: Callable[[], Model]) -> Callable[[Path], Command]:
    def prepare(folder: Path) -> Command:
        return Command(("inspect", write_model(folder, make())), names=("model.onnx",))

    return prepare


def _expanded(folder: Path) -> Command:
    given = write_model(folder, laughs(30, 2))
    return Command(("expand", given, folder / "out.onnx", "--quiet"), folder / "out.onnx", names=(given.name,))


def _limited(name: str, make: Callable[[], Model], *limit: Argument) -> Case:
    return model_case(name, make, REFUSED, *limit)


_AT_ONCE: Final[tuple[tuple[str, Callable[[], Model]], ...]] = (
    ("ConstantOfShape of 4 TB", _filled(_HUGE)),
    ("ConstantOfShape of 2^62 x 2^62", _filled(1 << 62, 1 << 62)),
    ("ConstantOfShape of a negative size", _filled(-1)),
    ("ConstantOfShape of a size from the input", _from_input),
    ("Range of 2^40", _one("Range", ["a", "b", "c"], {"a": _integer(0), "b": _integer(_HUGE), "c": _integer(1)})),
    ("Expand to 2^40", _one("Expand", ["c", "sizes"], {"c": _floats(1), "sizes": _integers(_HUGE)})),
    ("Tile to 2^40", _one("Tile", ["c", "times"], {"c": _floats(1), "times": _integers(_HUGE)})),
    ("Pad to 2^40", _one("Pad", ["c", "pads"], {"c": _floats(1), "pads": _integers(0, _HUGE)})),
    (
        "OneHot of depth 2^40",
        _one("OneHot", ["i", "d", "v"], {"i": _integers(0), "d": _integer(_HUGE), "v": _floats(0, 1)}),
    ),
    ("Resize by 2^40", _one("Resize", ["c", "", "s"], {"c": _floats(1, 2), "s": _floats(2.0**40)})),
    ("RandomUniform of 2^40", _one("RandomUniform", [], {}, shape=[_HUGE])),
    ("Add of a column and a row", _outer("Add")),
    ("MatMul of a column and a row", _outer("MatMul")),
    ("Reshape to 2^62", _one("Reshape", ["h", "sizes"], {"sizes": _integers(1 << 62)})),
    ("a million and one operators", _many_operators),
)

CASES: Final[tuple[Case, ...]] = (
    *model_cases(_AT_ONCE, REFUSED),
    _limited("ConstantOfShape of 4 GB", _filled(1 << 30), *_MEMORY),
    _limited("40 doublings", _doubled, *_MEMORY),
    _limited("Loop that keeps a value of each trip", _collecting, *_MEMORY, "--time-limit", "15"),
    _limited("Loop whose state doubles", _growing, *_MEMORY),
    _limited("Loop of 2^60 trips", endless, *_TIME),
    _limited("loops of 2^20 trips in each other", _nested_loops, *_TIME),
    _limited("a hundred large products", _products, *_TIME, *_MEMORY),
    model_case("functions that expand to 2^14 operators", lambda: laughs(14, 2), DONE_OR_REFUSED, *_TIME),
    Case("a sparse file of 256 GB", _sparse_file, REFUSED),
    Case("inspect: ConstantOfShape of 4 TB", _looked_at(_filled(_HUGE)), UNVERIFIED),
    Case("inspect: functions of 2^30 operators", _looked_at(lambda: laughs(30, 2)), REFUSED),
    Case("expand: functions of 2^30 operators", _expanded, REFUSED),
    model_case("Loop of 2^60 trips, unverified", endless, UNVERIFIED, "--no-verify"),
)
