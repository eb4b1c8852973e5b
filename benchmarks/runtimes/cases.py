"""What a runtime is tried with: a plain model, the same one encoded, and what both are to give.

A case says of some outputs which bits they have to have: of the weights, which an Identity hands out. The other
outputs are compared with what the plain model gives in the same runtime, whose arithmetic is its own affair.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias, get_args

import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.runtimes.jobs import Array, TensorFile, write_tensor
from graphshrink.encodings import ENCODINGS, Policy, Storage, encode_graph
from graphshrink.encodings.base import MARK
from graphshrink.ir.tensor import ELEM_TYPES
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.ops import why_not_a_weight

# `quantised` is another matter: runtimes have kernels for it that compute with integers.
POLICIES: Final[tuple[Policy, ...]] = tuple(p for p in get_args(Policy) if p not in ("plain", "quantised"))

_HELD: Final = "/held"

Encode: TypeAlias = Callable[[Policy, bool], onnx.ModelProto]
"""The model, stored as a policy says, and whether without what some runtimes do not take."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model in several forms.

    Attributes:
        name: unique.
        family: in which line of the table it is counted.
        encodings: which of them it has, by its marks.
        plain, encoded: paths of the files.
        unfolded: path of the plain one with an Identity behind each weight. A runtime that folds nothing takes other
            kernels, which round otherwise, for weights that are computed; so they are here.
        portable: path of the file for runtimes that do not take model-local functions; often that of `encoded`.
        inputs: to feed.
        weights: outputs whose bits are known.
        outputs: names of all outputs, in the model's order.
    """

    name: str
    family: str
    encodings: tuple[str, ...]
    plain: str
    unfolded: str
    encoded: str
    portable: str
    inputs: tuple[TensorFile, ...]
    weights: tuple[TensorFile, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A case to be written, under every policy that gives this plain model."""

    name: str
    family: str
    plain: onnx.ModelProto
    encode: Encode
    feeds: Mapping[str, Array]
    weights: Mapping[str, Array]
    policies: Sequence[Policy] = POLICIES


def write_cases(plans: Iterable[Plan], folder: Path) -> Iterator[Case]:
    """Write the files of every plan; policies that store a model alike make one case."""
    for number, plan in enumerate(plans):
        home = folder / str(number)
        home.mkdir(parents=True)
        alike: dict[tuple[bytes, bytes], list[Policy]] = {}
        for policy in plan.policies:
            native, portable = (_bytes(plan.encode(policy, wanted)) for wanted in (False, True))
            alike.setdefault((native, portable), []).append(policy)
        for forms, policies in alike.items():
            yield _write(plan, forms, policies, home)


def _write(plan: Plan, forms: tuple[bytes, bytes], policies: Sequence[Policy], home: Path) -> Case:
    name = "-".join(policies)
    native, portable = forms
    ends = marked(onnx.load_from_string(native))
    forms_by_name = {
        "plain": _bytes(plan.plain),
        f"{name}-unfolded": _bytes(_unfolded(plan.plain, {weight for weight, _ in ends})),
        name: native,
        name if native == portable else f"{name}-portable": portable,
    }
    for form, content in forms_by_name.items():
        (home / f"{form}.onnx").write_bytes(content)
    paths = {form: str(home / f"{form}.onnx") for form in forms_by_name}
    return Case(
        f"{plan.name}, {' and '.join(policies)}",
        plan.family,
        tuple(sorted({encoding for _, encoding in ends})),
        paths["plain"],
        paths[f"{name}-unfolded"],
        paths[name],
        paths.get(f"{name}-portable", paths[name]),
        tuple(write_tensor(key, value, home / f"in{i}.bin") for i, (key, value) in enumerate(plan.feeds.items())),
        tuple(write_tensor(key, value, home / f"w{i}.bin") for i, (key, value) in enumerate(plan.weights.items())),
        tuple(output.name for output in plan.plain.graph.output),
    )


def _bytes(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


def _unfolded(model: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    """The model with an Identity behind these constants of its main graph."""
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    graph = moved.graph
    for tensor in graph.initializer:
        if tensor.name in names:
            tensor.name += _HELD
    for info in graph.input:  # where constants have to be inputs as well
        if info.name in names:
            info.name += _HELD
    for node in graph.node:
        if node.output[0] in names:
            node.output[0] += _HELD
    constants = [node for node in graph.node if node.op_type == "Constant"]
    rest = [node for node in graph.node if node.op_type != "Constant"]
    identities = [helper.make_node("Identity", [name + _HELD], [name]) for name in sorted(names)]
    del graph.node[:]
    graph.node.extend([*constants, *identities, *rest])
    return moved


def marked(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """The encoded weights of a main graph, each with the name of its encoding."""
    ends = [node for node in model.graph.node if node.name.startswith(MARK)]
    return [(node.output[0], node.name.removeprefix(MARK).partition("/")[0]) for node in ends]


def never_used(cases: Iterable[Case]) -> list[str]:
    """The encodings that no case has: nothing was shown of them."""
    used = {name for case in cases for name in case.encodings}
    return [encoding.name for encoding in ENCODINGS if encoding.name not in used]


def encoded(model: onnx.ModelProto, policy: Policy, portable: bool, *, all_constants: bool = False) -> onnx.ModelProto:
    """The model with its weights, or with all of its constants, stored as a policy says."""
    graph = load(model)
    chosen = [weight for weight in weights(graph) if all_constants or why_not_a_weight(weight) is None]
    encode_graph(graph, chosen, Storage(policy, portable=portable))
    return emit(graph)


def show(model: onnx.ModelProto, arrays: Mapping[str, Array]) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The model with some of its constants as further outputs, and what these give.

    Identity keeps all bits. NumPy has no bfloat16, which is cast to float32; that, too, is exact.
    """
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    expected: dict[str, Array] = {}
    for number, (name, array) in enumerate(arrays.items()):
        elem_type, output = ELEM_TYPES[array.dtype], f"shown{number}"
        if elem_type == TensorProto.BFLOAT16:
            elem_type = TensorProto.FLOAT
            shown.graph.node.append(helper.make_node("Cast", [name], [output], to=elem_type))
        else:
            shown.graph.node.append(helper.make_node("Identity", [name], [output]))
        shown.graph.output.append(helper.make_tensor_value_info(output, elem_type, array.shape))
        expected[output] = _widened(array) if ELEM_TYPES[array.dtype] == TensorProto.BFLOAT16 else array
    return shown, expected


def _widened(array: Array) -> Array:
    """Bfloat16 as the float32 with the same upper half."""
    upper: Array = array.view(np.uint16).astype(np.uint32) << 16
    return upper.view(np.float32)


def shown_plan(plan: Plan) -> Plan:
    """The case in which the encoded weights of the main graph are outputs as well.

    The outputs are added to the file after it was encoded, because a weight that is an output would be left alone.
    """
    names = {name for policy in plan.policies for name, _ in marked(plan.encode(policy, False))}
    arrays = {weight.name: np.asarray(weight.array) for weight in weights(load(plan.plain)) if weight.name in names}
    model, expected = show(plan.plain, arrays)

    def encode(policy: Policy, portable: bool) -> onnx.ModelProto:
        return show(plan.encode(policy, portable), arrays)[0]

    return replace(
        plan,
        name=f"{plan.name}, weights shown",
        plain=model,
        encode=encode,
        weights=expected,
    )
