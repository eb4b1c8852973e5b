"""What torch's exporters write, where torch is installed; and what is said where it is not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.channels.zoo.feeds import feeds
from benchmarks.channels.zoo.torch_exports import available
from benchmarks.channels.zoo.torch_networks import NETWORKS
from benchmarks.corpus.base import runner
from benchmarks.tools.base import version_of
from tests.models import saved


def test_what_is_not_installed_is_named_and_not_available() -> None:
    network = replace(NETWORKS["resnet"], package="no-such-package")

    assert (network.missing() or "").endswith("no-such-package not installed")
    assert all(version_of(NETWORKS[name.partition(".")[0]].package) for name in available())


@pytest.mark.parametrize("name", available())
def test_an_exported_model_is_valid_and_its_output_depends_on_its_input(name: str, tmp_path: Path) -> None:
    model = available()[name]()

    onnx.checker.check_model(model, full_check=True)
    run = runner(saved(model, tmp_path))
    one, other, three = (run(feeds(model, seed, batch))["output"] for seed, batch in ((0, 1), (1, 1), (0, 3)))
    assert np.isfinite(three).all() and three.shape == (3, *one.shape[1:])
    assert np.abs(one - other).max() > 1e-3
