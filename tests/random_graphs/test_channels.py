"""Channels of random models: what can be removed is removed as if it had been zero, and channel-removal itself runs."""

from collections import Counter
from collections.abc import Generator, Mapping
from typing import Final

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.observing import observe
from graphshrink.calibration.samples import held
from graphshrink.encodings import Storage
from graphshrink.errors import NotFiniteError
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.ops.coupling.analysis import analyse
from graphshrink.ops.coupling.cutting import Gone, cut_of
from graphshrink.ops.coupling.masking import masked
from graphshrink.passes.channel_removal import ChannelRemoval
from graphshrink.passing.base import Context
from graphshrink.passing.pipeline import run_passes
from tests.random_graphs.models import Drawn, random_models
from tests.random_graphs.results import bytes_of, distance, interface
from tests.removing import Look, narrow_of, some
from tests.runners import run

EXAMPLES: Final = settings().max_examples
TOLERANCE: Final = 1e-3
HALF_TOLERANCE: Final = 3e-2


@pytest.fixture(scope="module")
def runtime() -> Generator[Runtime]:
    with Runtime(timeout=60) as runtime:
        yield runtime


def test_what_can_be_removed_is_as_good_as_zero(runtime: Runtime) -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES)
    @given(random_models(finite=True), st.integers(0, 99))
    def removable(drawn: Drawn, seed: int) -> None:
        graph, feeds = load(drawn.model), drawn.feeds(1)
        observed = observe(graph, feeds, runtime)
        found = Look(graph, analyse(graph, observed.shapes, observed.known), observed, feeds)
        seen.update({"models": 1, "groups": len(found.free), "models with groups": bool(found.free)})
        trials: list[Gone] = [some(found.free, seed), some(found.free, seed, most=True)]
        trials += [some([group], seed) for group in found.free]
        for gone in trials if found.free else []:
            _is_as_good_as_zero(drawn, found, gone)

    removable()
    print(f"\n{dict(seen)}")
    assert seen["models with groups"] > seen["models"] / 5


def _is_as_good_as_zero(drawn: Drawn, found: Look, gone: Gone) -> None:
    wide = emit(masked(found.couplings, cut_of(found.couplings, gone), found.observed.dtypes))
    narrow = emit(narrow_of(found, gone)[0])
    tolerance = HALF_TOLERANCE if drawn.half else TOLERANCE
    for feeds in (drawn.feeds(1), drawn.feeds(2)):
        _are_close(run(wide, feeds, optimised=False), run(narrow, feeds, optimised=False), tolerance)


def _are_close(wanted: Mapping[str, Array], given: Mapping[str, Array], tolerance: float) -> None:
    for name, array in wanted.items():
        small = np.isfinite(array).all() and np.abs(array).max(initial=0) < 1e-4  # nothing but rounding
        assert distance(array, given[name]) <= tolerance or (small and np.abs(given[name]).max(initial=0) < 1e-3)


@st.composite
def _options(draw: st.DrawFn) -> ChannelRemoval:
    return ChannelRemoval(
        ratio=draw(st.sampled_from([0.3, 0.0, 0.1, 0.5, 0.9])),
        of=draw(st.sampled_from(["macs", "params", "bytes", "macs+params"])),
        criterion=draw(st.sampled_from(["auto", "l1", "l2", "energy", "greedy"])),
        repair=draw(st.booleans()),
        multiple=draw(st.sampled_from([0, 1, 4])),
    )


def test_the_pass_runs(runtime: Runtime) -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES * 3 // 5)
    @given(random_models(), _options(), st.booleans())
    def passes(drawn: Drawn, step: ChannelRemoval, random: bool) -> None:
        def compressed() -> tuple[Graph, list[str]]:
            calibration = Calibration(held([drawn.feeds(seed) for seed in range(4)], "drawn"), runtime, random=random)
            graph, [record] = run_passes(
                load(drawn.model), [step], Context(Storage("plain"), calibration=calibration), None
            )
            seen.update(changed=bool(record.result.did_anything), missed=bool(record.result.missed), models=1)
            return graph, record.result.kept

        try:
            graph, kept = compressed()
        except NotFiniteError:  # weights of NaN make activations of NaN, which nothing is fitted to
            assert "not finite" in drawn.features or drawn.half  # or beyond float16
            return
        model = emit(graph)
        assert not [line for line in kept if "(a bug)" in line]
        assert interface(model) == interface(drawn.model)
        onnx.checker.check_model(model, full_check=True)
        wanted = run(drawn.model, drawn.feeds(1), optimised=False)
        given = run(model, drawn.feeds(1), optimised=False)
        assert {n: (a.shape, a.dtype) for n, a in given.items()} == {n: (a.shape, a.dtype) for n, a in wanted.items()}
        assert bytes_of(emit(compressed()[0])) == bytes_of(model)

    passes()
    print(f"\n{dict(seen)}")
    assert seen["changed"] > seen["models"] / 40  # most are too small, or hold NaN
