"""Text of strangers that reaches a terminal, a CI log, or JSON.

Nothing that is printed, no report and no `--json` may hold a raw control or direction character, or what a CI system
takes for a command; see `judging.dirt`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import TensorProto, helper

from tests.hostile.calibration import npy, npz
from tests.hostile.cases import (
    DONE,
    REFUSED,
    UNVERIFIED,
    Argument,
    Case,
    Command,
    Model,
    Outcome,
    compress,
    model_case,
    write_model,
)
from tests.hostile.external_data import model_with, outside
from tests.hostile.file import good
from tests.hostile.graph import changed, constant, node, with_nodes
from tests.hostile.subgraphs import branched, call, calling, function, info
from tests.hostile.tensor import tensor
from tests.models import model_of, normal, two_layers

EVERYTHING: Final = (
    "\x1b[31m\x1b]0;title\x07\n::error file=x::y\r\n ::set-output name=x::y\r##vso[task.complete result=Failed]\n"
    "##[error]\u202e\u2066\u061c\u200f\u2028\x9b31m\x00[red][/] {0} %s <script>alert(1)</script> \"'\\ $(touch x) "
    "\U0001f4a9\x7f\t"
)

_TEXTS: Final = (
    ("ANSI colour", "\x1b[31mred\x1b[0m"),
    ("a terminal's title", "\x1b]0;title\x07"),
    ("an eight-bit escape", "\x9b31m"),
    ("a GitHub command", "::error file=x.py,line=1::message"),
    ("a GitHub command on a line of its own", "\n::error::message\n"),
    ("a GitHub command after a carriage return", "\r ::add-mask::x"),
    ("an Azure command", "##vso[task.complete result=Failed]"),
    ("an old GitHub command", "##[error]message"),
    ("an Azure command in pieces", "##\x00vso[task.complete]"),
    ("rich markup", "[red]x[/red][/][link=file:///etc/passwd]"),
    ("right to left", "\u202excod.exe\u2066\u061c\u200f"),
    ("line separators", "a\u2028b\u2029c\x85d"),
    ("NUL", "a\0b"),
    ("a format string", "{0} {name} %s %n %(x)s"),
    ("a megabyte", "n" * 1_000_000),
    ("a megabyte of escapes", "\x1b" * 1_000_000),
)


def _dangling(text: str) -> Model:
    return with_nodes(node("Add", ["h", text], ["y"]))


def _operator(text: str) -> Model:
    return with_nodes(node(text, ["h"], ["y"]))


def _domain(text: str) -> Model:
    return with_nodes(node("Fancy", ["h"], ["y"], domain=text))


def _opset(text: str) -> Model:
    imports = [helper.make_opsetid(text, 1), helper.make_opsetid(text, 2)]
    return changed(lambda model: model.opset_import.extend(imports))


def _function(text: str) -> Model:
    return calling(function(text, [call(text, "a", "b")]))


def _tensor(text: str) -> Model:
    return model_with(tensor(text, raw_data=b"123"))


def _attribute(text: str) -> Model:
    attributes: dict[str, Any] = {text: 1}
    return with_nodes(node("Relu", ["h"], ["y"], **attributes))


def _graph(text: str) -> Model:
    def change(model: onnx.ModelProto) -> None:
        model.graph.name = text
        model.graph.value_info.extend([info(text), info(text)])

    return changed(change)


def _body(text: str) -> Model:
    inner = helper.make_graph([node("Relu", [text], ["b"], name=text)], text, [], [info("b")])
    return branched(inner, inner)


def _weight_shape(text: str) -> Model:
    return changed(lambda model: model.graph.value_info.append(info("W1", [text, 1, 1])))


def _location(text: str) -> Model:
    return model_with(outside(("location", text)))


def _key(text: str) -> Model:
    return model_with(outside((text, text), (text, text)))


def _input_type(text: str) -> Model:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].name = model.graph.node[0].input[0] = text
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64

    return changed(change)


# What each place makes of the text is an error that tells of it.
_PLACES: Final[tuple[tuple[str, Callable[[str], Model]], ...]] = (
    ("operator", _operator),
    ("domain", _domain),
    ("opset", _opset),
    ("function", _function),
    ("tensor", _tensor),
    ("attribute", _attribute),
    ("graph", _graph),
    ("body", _body),
    ("size", _weight_shape),
    ("location", _location),
    ("key of external data", _key),
    ("input", _input_type),
)


def _dressed(text: str) -> onnx.ModelProto:
    """A sound model in which everything that may have any name has this one, or begins with it."""
    names = {old: text + old for old in ("x", "W1", "h", "a", "W2", "y")}
    made = two_layers()
    for operator in made.graph.node:
        operator.name = operator.doc_string = text + operator.name
        operator.input[:] = [names[name] for name in operator.input]
        operator.output[:] = [names[name] for name in operator.output]
    for entries in (made.graph.input, made.graph.output, made.graph.initializer):
        for entry in entries:
            entry.name = names[entry.name]
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_param = text
    made.graph.name = made.doc_string = made.producer_name = made.domain = text
    made.metadata_props.add(key=text, value=text)
    made.opset_import.append(helper.make_opsetid(text, 1))
    return made


def _read(*words: str) -> Callable[[Path], Command]:
    """A command that only reads the model."""
    return lambda folder: Command((*words, write_model(folder, _dressed(EVERYTHING))), names=("model.onnx",))


def _summary(text: str) -> Callable[[Path], Command]:
    """Not quiet, with a report."""

    def prepare(folder: Path) -> Command:
        given = write_model(folder, _dressed(text))
        out, report = folder / "out.onnx", folder / "report.json"
        arguments = (given, out, "--passes", "weight-sharing{bits=4}", "--report", report)
        return Command(arguments, out, given, (report,))

    return prepare


def _verified(folder: Path) -> Command:
    given, other = write_model(folder, _dressed(EVERYTHING)), write_model(folder, two_layers(), "b.onnx")
    return Command(("verify", given, other))


def _verified_as_json(folder: Path) -> Command:
    given = write_model(folder, _dressed(EVERYTHING))
    return Command(("verify", given, given, "--json"))


def _with_samples(folder: Path) -> Command:
    """Samples whose names are not those of the model, and which are as odd."""
    (folder / "samples.npz").write_bytes(npz({f"{_ARGUMENT}.npy": npy(normal(4, 32))}))
    write_model(folder, _dressed(EVERYTHING))
    return compress(folder, "--calibration", folder / "samples.npz", names=())


def _user_code(folder: Path) -> Command:
    """The user's own code fails and quotes the model."""
    code = f"def samples():\n    raise ValueError({EVERYTHING!r})\n"
    (folder / "samples.py").write_text(code, encoding="utf-8")
    write_model(folder, two_layers())
    return compress(folder, "--calibration", f"{folder / 'samples.py'}:samples", names=("samples.py",))


def _path(text: str, content: bytes) -> Callable[[Path], Command]:
    """The text is the model's file name."""

    def prepare(folder: Path) -> Command:
        (folder / text).write_bytes(content)
        return Command((text, "out.onnx", "--quiet"), folder / "out.onnx", folder / text, cwd=folder)

    return prepare


def _option(*options: Argument) -> Callable[[Path], Command]:
    def prepare(folder: Path) -> Command:
        write_model(folder, two_layers())
        return compress(folder, *options, names=())

    return prepare


_ARGUMENT: Final = EVERYTHING.replace("\0", "")  # what the system takes as an argument, and as a file's name
_FILE_NAME: Final = _ARGUMENT.replace("/", "|")[:80] + ".onnx"


_OPTIONS: Final = ("--passes", "--calibration", "--include", "--encoding", "--input-shape", "--providers", "--nonsense")
_EITHER: Final = Outcome(frozenset({1, 2}))


def _misfit(text: str) -> Model:
    """Two layers that ONNX Runtime cannot run one after the other; its message names them."""
    nodes = [node("MatMul", ["x", "W"], [text], name=text), node("MatMul", [text, "W"], ["y"], name=text + "2")]
    made = model_of(nodes, {}, {"x": ["n", 32]}, {"y": ["n", 64]})
    made.graph.initializer.append(constant(normal(32, 64), "W"))
    return made


CASES: Final[tuple[Case, ...]] = (
    *(model_case(f"{name}, in an error", partial(_dangling, text)) for name, text in _TEXTS),
    *(model_case(f"everything, as {place}", partial(make, EVERYTHING)) for place, make in _PLACES),
    model_case("everything, in what ONNX Runtime says", partial(_misfit, EVERYTHING)),
    Case("everything, in the summary and the report", _summary(EVERYTHING), DONE),
    Case("markup, in the summary and the report", _summary("[red][/x]"), DONE),
    Case("a megabyte, in the summary and the report", _summary("n" * 1_000_000), DONE),
    Case("everything, inspected", _read("inspect"), UNVERIFIED),
    Case("everything, inspected as JSON", _read("inspect", "--json"), UNVERIFIED),
    Case("everything, verified", _verified, REFUSED),
    Case("everything, verified as JSON", _verified_as_json, UNVERIFIED),
    Case("everything, as names of samples", _with_samples, REFUSED),
    Case("everything, from the user's own code", _user_code, REFUSED),
    Case("everything, as the file's name", _path(_FILE_NAME, good()), DONE),
    Case("everything, as the file's name, broken", _path(_FILE_NAME, good()[:-1]), REFUSED),
    *(Case(f"everything, after {option}", _option(option, _ARGUMENT), _EITHER) for option in _OPTIONS),
)
