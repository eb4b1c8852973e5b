from pathlib import Path

import numpy as np
import onnx
import pytest

from graphshrink.calibration.samples import held
from graphshrink.errors import JudgeError
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.verify import Original, SampleRequest, compare_models, some
from tests.models import normal, saved, two_layers


def scaled(factor: float) -> onnx.ModelProto:
    model = two_layers()
    tensor = model.graph.initializer[1]
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
    return model


def test_error_is_relative_to_the_expected_outputs(tmp_path: Path) -> None:
    a, b = saved(two_layers(), tmp_path, "a.onnx"), saved(scaled(1.25), tmp_path, "b.onnx")
    samples = held([{"x": normal(1, 32, seed=seed)} for seed in range(6)], "six")
    with Runtime() as runtime, Original(runtime, a) as original:
        verdict = original.compare(b, samples)
        assert verdict.worst == pytest.approx(0.25, rel=1e-5)
        assert verdict.samples == 6
        assert verdict.outputs["y"].top1_agreement == 1.0
        assert original.compare(a, samples).worst == 0.0
        assert original.compare(b, some(samples, 2)).samples == 2


def test_remembered_outputs_are_those_of_the_same_samples(tmp_path: Path) -> None:
    """Samples are told apart by identity, which must not be given to others while outputs are remembered."""
    a = saved(two_layers(), tmp_path)
    with Runtime() as runtime, Original(runtime, a) as original:
        for seed in range(20):
            assert original.compare(a, held([{"x": normal(1, 32, seed=seed)}], "one")).worst == 0.0


@pytest.mark.parametrize(("bound", "passed"), [(None, True), (0.3, True), (0.2, False)])
def test_bounds(tmp_path: Path, bound: float | None, passed: bool) -> None:
    a, b = saved(two_layers(), tmp_path, "a.onnx"), saved(scaled(1.25), tmp_path, "b.onnx")
    comparison = compare_models(a, b, SampleRequest(), bound)
    assert (comparison.passed, comparison.random, comparison.bound) == (passed, True, bound)


def test_sample_inputs_bring_a_default_bound(tmp_path: Path) -> None:
    a, b = saved(two_layers(), tmp_path, "a.onnx"), saved(scaled(1.25), tmp_path, "b.onnx")
    comparison = compare_models(a, b, SampleRequest([{"x": normal(1, 32)}]), None)
    assert comparison.bound == 0.1 and not comparison.passed


def test_models_with_other_inputs_are_refused(tmp_path: Path) -> None:
    other = two_layers()
    other.graph.input[0].name = other.graph.node[0].input[0] = "z"
    a, b = saved(two_layers(), tmp_path, "a.onnx"), saved(other, tmp_path, "b.onnx")
    with pytest.raises(JudgeError):
        compare_models(a, b, SampleRequest(), None)
