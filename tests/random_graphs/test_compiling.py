"""`graphshrink.compile` on random models: the bound that was asked for holds, and the report says what is so."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphshrink
from graphshrink.calibration.samples import Indexed
from graphshrink.calibration.sources import split
from graphshrink.encodings import Policy
from graphshrink.ir.types import Array, Feeds
from graphshrink.onnx_io.runtime import Limits, Runtime
from tests.random_graphs.models import Drawn, random_models
from tests.random_graphs.results import bytes_of, distance, interface
from tests.random_graphs.steps import Steps, some_steps
from tests.runners import run_all

EXAMPLES: Final = max(300, settings().max_examples) // 5
SAMPLES: Final = 6


class Kept(Runtime):
    """A runtime that stays when a compilation is done with it: starting a worker takes longer than a small model."""

    def __exit__(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class OneWorker(Limits):
    """Gives every compilation the same runtime."""

    kept: Runtime = field(default_factory=Kept)

    def runtime(self, files: Iterable[Path], providers: Sequence[str] = ()) -> Runtime:
        return self.kept


@pytest.fixture(scope="module")
def limits() -> Generator[Limits]:
    one = OneWorker()
    yield one
    one.kept.close()


@settings(max_examples=EXAMPLES)
@given(
    random_models(finite=True),
    some_steps(),
    st.sampled_from([0.1, 0.0, 1e-4, 1e-2, 1.0]),
    st.sampled_from(get_args(Policy)),
)
def test_the_bound_holds(limits: Limits, drawn: Drawn, steps: Steps, bound: float, policy: Policy) -> None:
    samples = [drawn.feeds(seed) for seed in range(SAMPLES)]

    def compiled() -> graphshrink.Compiled:
        return graphshrink.compile(
            drawn.model, steps.spec, calibration=samples, max_error=bound, encoding=policy, limits=limits
        )

    first = compiled()
    told = first.report["verification"]
    fit, held_out = split(Indexed(SAMPLES, samples.__getitem__, "drawn"))
    for part, said in ((fit, told["fit"]), (held_out, told["held_out"])):
        assert said["samples"] == len(part)
        found = _error(drawn, first, [part[index] for index in range(len(part))])
        assert said["error"] == pytest.approx(found, rel=1e-9, abs=1e-12)
    assert told["held_out"]["error"] <= bound
    assert first.report["output"]["bytes"] <= first.report["input"]["bytes"] == drawn.model.ByteSize()
    assert interface(first.model) == interface(drawn.model)
    assert bytes_of(compiled().model) == bytes_of(first.model)


def _error(drawn: Drawn, compiled: graphshrink.Compiled, samples: Sequence[Feeds]) -> float:
    """The worst output's ||Y' - Y|| / ||Y||, over all samples together."""
    wanted = run_all(drawn.model, samples, optimised=True)
    found = run_all(compiled.model, samples, optimised=True)

    def stacked(outputs: Sequence[Any], name: str) -> Array:
        return np.stack([output[name] for output in outputs])

    return max(distance(stacked(wanted, name), stacked(found, name)) for name in wanted[0])
