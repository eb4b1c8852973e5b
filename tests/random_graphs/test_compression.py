"""What holds for every model, whatever passes and encodings do to it."""

from collections import Counter
from typing import Final, get_args

import onnx
from hypothesis import given, settings

from graphshrink.encodings import ENCODINGS, Policy
from graphshrink.encodings.base import FUNCTIONS
from graphshrink.ir.compare import difference
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.registry import PASSES
from tests.random_graphs.models import Drawn, random_models
from tests.random_graphs.results import (
    Compressed,
    bytes_of,
    compressed,
    decoded,
    distance,
    exposed,
    interface,
    not_finite,
)
from tests.random_graphs.steps import Steps, some_steps
from tests.runners import OPTIMISED, run_all

EXAMPLES: Final = max(300, settings().max_examples)
_MANY: Final = 2000  # with fewer it is chance whether the seldom encodings, those of large skewed weights, come up
TOLERANCE: Final = 1e-4
HALF_TOLERANCE: Final = 1e-2
POLICIES: Final[tuple[Policy, ...]] = get_args(Policy)


def test_models_keep_their_promises() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES)
    @given(random_models(), some_steps())
    def promises(drawn: Drawn, steps: Steps) -> None:
        seen.update(steps.names)
        seen.update(keeps_its_promises(drawn, steps))

    promises()
    print(f"\n{dict(seen)}")
    assert {cls.name for cls in PASSES} <= seen.keys()
    if settings().max_examples >= _MANY:
        assert {encoding.name for encoding in ENCODINGS} | {"shared"} <= seen.keys()


def keeps_its_promises(drawn: Drawn, steps: Steps) -> Counter[str]:
    """Everything that holds for one model under every policy; returns how often which encoding was used."""
    assert emit(load(drawn.model)) == drawn.model
    used: Counter[str] = Counter()
    known: set[bytes] = set()
    for policy in POLICIES:
        result = compressed(drawn.model, steps.passes, policy)
        used.update(item.encoding for item in result.stored)
        _keeps_what_must_stay(drawn.model, result)
        _is_no_larger(drawn.model, result)
        _is_stable(drawn.model, steps, policy, result)
        encoded = bytes_of(result.encoded)
        if encoded not in known and encoded != bytes_of(result.plain):
            _computes_the_same(drawn, result)
        known.add(encoded)
    return used


def _keeps_what_must_stay(model: onnx.ModelProto, result: Compressed) -> None:
    again = load(result.encoded)
    assert difference(result.graph, again) is None
    assert interface(result.plain) == interface(model)
    assert interface(result.encoded) == interface(model)
    functions = any(function.domain == FUNCTIONS for function in result.encoded.functions)
    assert result.encoded.ir_version == (max(8, model.ir_version) if functions else model.ir_version)
    before = load(model)
    assert exposed(again) == exposed(before)
    assert not_finite(again) == not_finite(before)


def _is_no_larger(model: onnx.ModelProto, result: Compressed) -> None:
    assert result.plain.ByteSize() <= model.ByteSize()
    assert result.encoded.ByteSize() <= result.plain.ByteSize()
    assert all(item.stored_bytes <= item.plain_bytes for item in result.stored)


def _is_stable(model: onnx.ModelProto, steps: Steps, policy: Policy, result: Compressed) -> None:
    wanted = bytes_of(result.encoded)
    assert bytes_of(compressed(model, steps.passes, policy).encoded) == wanted
    assert bytes_of(compressed(result.encoded, [], policy).encoded) == wanted
    if steps.shares_out:
        return
    again = bytes_of(compressed(result.encoded, steps.passes, policy).encoded)
    if len(result.encoded.graph.input) == len(model.graph.input):
        assert again == wanted
    else:  # encoded weights of IR version 3 are inputs no more, so that now they may get other names
        assert len(again) <= len(wanted)


def _computes_the_same(drawn: Drawn, result: Compressed) -> None:
    samples = [drawn.feeds(1), drawn.feeds(2, override=True)]
    for optimised in OPTIMISED:
        for found, wanted in decoded(result, optimised=optimised):
            assert (found.dtype, found.shape, found.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())
        plain = run_all(result.plain, samples, optimised=optimised)
        coded = run_all(result.encoded, samples, optimised=optimised)
        tolerance = 0.0 if optimised else HALF_TOLERANCE if drawn.half else TOLERANCE
        for a, b in zip(plain, coded, strict=True):
            assert a.keys() == b.keys()
            assert max(distance(a[name], b[name]) for name in a) <= tolerance
