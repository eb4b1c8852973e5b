import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnx.backend.test
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.loader import load_model_tests

from graphshrink.ir.compare import difference
from graphshrink.ir.weight import constants
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from tests.rebuilding import rebuilt
from tests.strategies import models

# onnx 1.23 collects 1,884 operator cases; 1.19, the oldest supported, has no more than 1,615 to give.
LEAST_CASES = 1800 if tuple(map(int, onnx.__version__.split(".")[:2])) >= (1, 23) else 1600
LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"


def canonical(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


def problem(model: onnx.ModelProto) -> str | None:
    """How a model differs after the way through the IR, as it is and rebuilt operator by operator."""
    wanted = canonical(model)
    try:
        graph = load(model)
        if canonical(emit(graph)) != wanted:
            return "emit(load(m)) differs"
        again = rebuilt(graph)
        if canonical(emit(again)) != wanted:
            return "the rebuilt graph differs"
        return difference(graph, again)
    except Exception as e:  # the count of failures is what this test is about
        return f"{type(e).__name__}: {e}"


@pytest.fixture(scope="module")
def operator_models() -> list[tuple[str, onnx.ModelProto]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, about the reference implementations
        return [(case.name, cast(onnx.ModelProto, case.model)) for case in collect_testcases(None)]


def stored_models() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    for kind in ("simple", "pytorch-converted", "pytorch-operator"):
        for case in load_model_tests(kind=kind):
            if case.model_dir is not None:
                yield kind, case.name, onnx.load(Path(case.model_dir) / "model.onnx", load_external_data=False)
    for path in sorted(LIGHT.glob("light_*.onnx")):
        yield "light", path.stem, onnx.load(path, load_external_data=False)


def test_every_operator_case_of_onnx_survives(operator_models: list[tuple[str, onnx.ModelProto]]) -> None:
    failures = {name: found for name, model in operator_models if (found := problem(model)) is not None}
    print(f"\nround trip: {len(operator_models)} operator cases, {len(failures)} failures")
    assert failures == {}
    assert len(operator_models) >= LEAST_CASES


def test_every_stored_model_of_onnx_survives() -> None:
    counts: Counter[str] = Counter()
    failures: dict[str, str] = {}
    for kind, name, model in stored_models():
        counts[kind] += 1
        if (found := problem(model)) is not None:
            failures[name] = found
    print(f"\nround trip: {dict(counts)}, {len(failures)} failures")
    assert failures == {}
    assert all(counts[kind] >= 5 for kind in ("simple", "pytorch-converted", "pytorch-operator", "light"))


@settings(max_examples=300, deadline=None)
@given(models())
def test_random_models_with_weights_survive(model: onnx.ModelProto) -> None:
    assert problem(model) is None


@settings(max_examples=100, deadline=None)
@given(models())
def test_snapshots_are_the_same_model(model: onnx.ModelProto) -> None:
    graph = load(model)
    snapshot = graph.copy()
    assert canonical(emit(snapshot)) == canonical(model)
    assert difference(graph, snapshot) is None


def relu_graph(name: str = "g") -> onnx.GraphProto:
    info = [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n"]) for value in ("x", "y")]
    return helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], name, info[:1], info[1:])


def test_training_information_quantization_and_devices_survive() -> None:
    model = helper.make_model(relu_graph())
    training = model.training_info.add()
    training.initialization.CopyFrom(relu_graph("start"))
    training.algorithm.CopyFrom(relu_graph("step"))
    training.update_binding.add(key="y", value="x")
    model.training_info.add().initialization_binding.add(key="", value="x")
    annotation = model.graph.quantization_annotation.add(tensor_name="x")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="x")
    configuration = model.configuration.add(name="two devices", num_devices=2)
    configuration.device.extend(["a", "b"])
    placed = model.graph.node[0].device_configurations.add(configuration_id="two devices", pipeline_stage=1)
    spec = placed.sharding_spec.add(tensor_name="x")
    spec.device.extend([0, 1])
    spec.sharded_dim.add(axis=0).simple_sharding.add(dim_param="n", num_shards=2)
    assert problem(model) is None


def test_functions_with_defaults_references_and_overloads_survive() -> None:
    model = helper.make_model(relu_graph())
    for overload in ("", "other"):
        function = model.functions.add(name="Leak", domain="local", overload=overload, doc_string="")
        function.input.append("a")
        function.output.append("b")
        function.attribute.append("slope")
        function.attribute_proto.add(name="offset", type=onnx.AttributeProto.FLOAT, f=0.0)
        function.opset_import.add(domain="", version=21)
        node = function.node.add(op_type="LeakyRelu", input=["a"], output=["b"])
        node.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
        function.value_info.add(name="b")
    assert problem(model) is None


def test_every_kind_of_type_survives() -> None:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, ["n", None, 3])
    unset = onnx.TypeProto(denotation="nothing known")
    opaque = onnx.TypeProto()
    opaque.opaque_type.domain = "d"
    opaque.opaque_type.name = ""
    kinds = [
        tensor,
        helper.make_tensor_type_proto(TensorProto.FLOAT, None),
        helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [2]),
        helper.make_sequence_type_proto(helper.make_optional_type_proto(tensor)),
        helper.make_map_type_proto(TensorProto.STRING, tensor),
        opaque,
        unset,
    ]
    kinds[0].tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    model = helper.make_model(relu_graph())
    model.graph.input.extend(helper.make_value_info(f"i{number}", kind) for number, kind in enumerate(kinds))
    model.graph.input.add(name="without a type")
    assert problem(model) is None


def test_attributes_of_every_kind_survive() -> None:
    model = helper.make_model(relu_graph())
    node = model.graph.node[0]
    node.domain = "custom"
    kind = onnx.AttributeProto
    tensor = helper.make_tensor("", TensorProto.FLOAT, [2], [1.0, 2.0])
    sparse = helper.make_sparse_tensor(tensor, helper.make_tensor("", TensorProto.INT64, [2], [0, 1]), [2])
    node.attribute.add(name="f", type=kind.FLOAT, f=-0.0)
    node.attribute.add(name="nan", type=kind.FLOAT, f=float("nan"))
    node.attribute.add(name="i", type=kind.INT, i=-(2**63), doc_string="")
    node.attribute.add(name="s", type=kind.STRING, s=b"\xff\x00")
    node.attribute.add(name="g", type=kind.GRAPH, g=relu_graph("body"))
    node.attribute.add(name="gs", type=kind.GRAPHS, graphs=[relu_graph("one"), onnx.GraphProto()])
    node.attribute.add(name="t", type=kind.TENSOR, t=tensor)
    node.attribute.add(name="ts", type=kind.TENSORS, tensors=[tensor, tensor])
    node.attribute.add(name="sp", type=kind.SPARSE_TENSOR, sparse_tensor=sparse)
    node.attribute.add(name="sps", type=kind.SPARSE_TENSORS, sparse_tensors=[sparse])
    node.attribute.add(name="tp", type=kind.TYPE_PROTO, tp=onnx.TypeProto(denotation=""))
    node.attribute.add(name="tps", type=kind.TYPE_PROTOS, type_protos=[onnx.TypeProto()])
    node.attribute.add(name="floats", type=kind.FLOATS, floats=[0.1, float("inf")])
    node.attribute.add(name="ints", type=kind.INTS, ints=[])
    node.attribute.add(name="strings", type=kind.STRINGS, strings=[b"", b"x"])
    assert problem(model) is None


def test_signalling_nans_survive_in_every_field() -> None:
    """By their bits, which no conversion may touch, not even that to Python's numbers."""
    bits = np.array([0x7F800001, 0xFFA00000, 0x7FC00001, 0x3F800000], np.uint32)
    model = helper.make_model(relu_graph())
    raw = helper.make_tensor("raw", TensorProto.FLOAT, [4], bits.tobytes(), raw=True)
    typed = onnx.TensorProto(name="typed", data_type=TensorProto.FLOAT, dims=[4])
    typed.MergeFromString(b"\x22\x10" + bits.tobytes())  # float_data
    model.graph.initializer.extend([raw, typed])
    assert problem(model) is None
    found = [tensor for _, tensor in constants(load(model))]
    assert [bytes(tensor.buffer) for tensor in found] == [bits.tobytes()] * 2
    assert canonical(emit(load(model))).count(bits.tobytes()) == 2


def test_attributes_without_a_type_survive() -> None:
    model = helper.make_model(relu_graph(), ir_version=1)
    model.graph.node[0].attribute.add(name="old", ints=[1, 2])
    assert problem(model) is None
