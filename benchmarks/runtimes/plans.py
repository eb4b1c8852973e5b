"""The models that runtimes are tried with: weights of all kinds alone, operators that use them, whole networks."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper
from onnx.helper import find_min_ir_version_for

import graphshrink
from benchmarks.measuring import ROOT
from benchmarks.runtimes.cases import POLICIES, Encode, Plan, encoded, show, shown_plan
from benchmarks.runtimes.jobs import Array
from graphshrink.encodings import Policy
from graphshrink.ir.tensor import tensor_of
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.fields import keep_in_place
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.onnx_io.tensors import write_tensor
from graphshrink.verify import SampleRequest
from tests.consumers import CONSUMERS, LARGE, VERSIONS
from tests.few_values import BFLOAT16, DTYPES, drawn, tensors
from tests.models import normal
from tests.runners import newest_opset

_TESTMODELS: Final = ROOT / "testmodels"
_BITS: Final = (4, 6)

Shape = tuple[int, ...]


# ---- weights alone


def _ordinary(dtype: np.dtype[Any], count: int, rng: np.random.Generator) -> Array:
    """Distinct finite numbers that every runtime should keep, both zeros among them."""
    numbers = np.arange(1, count - 1) * rng.choice([-1, 1], count - 2) / 64
    values: Array = np.concatenate([[0.0, -0.0], numbers]).astype(dtype)
    return values


def _skewed(dtype: np.dtype[Any], count: int, shape: Shape, rng: np.random.Generator) -> Array:
    """Values that are the rarer the farther they are from the middle one, as in a clustered Laplace distribution."""
    places = np.clip(np.rint(rng.laplace(0, count / 16, shape)) + count // 2, 0, count - 1).astype(int)
    array: Array = _ordinary(dtype, count, rng)[places]
    return array


def _sparse(array: Array, density: float, rng: np.random.Generator) -> Array:
    thinned: Array = np.where(rng.random(array.shape) < density, array, array.dtype.type(0))
    return thinned


def _structured(dtype: np.dtype[Any]) -> Iterator[Array]:
    """Larger weights, each of the kind that some way of storing is for."""
    rng = np.random.default_rng(1)
    shape = (300, 401)
    for count in (2, 3, 8, 16, 64, 128, 256):
        yield drawn(_ordinary(dtype, count, rng), (61, 67), rng)
    for count in (16, 64):
        yield _skewed(dtype, count, shape, rng)
    for density in (0.2, 0.05, 0.01):
        yield _sparse(drawn(_ordinary(dtype, 16, rng), shape, rng), density, rng)
    yield _sparse(normal(*shape).astype(dtype), 0.05, rng)
    steps = np.clip(np.rint(30 * rng.standard_normal(shape)), -127, 127).astype(dtype)
    yield np.asarray(steps * rng.uniform(0.01, 0.02, (shape[0], 1)).astype(dtype))  # as quantisers leave weights behind
    for number, narrow in enumerate((np.dtype(np.float16), BFLOAT16)):
        yield _normal_in(narrow, shape, number).astype(dtype)
    twice = normal(*shape, seed=3).astype(dtype)
    yield twice
    yield twice


def _normal_in(dtype: np.dtype[Any], shape: Shape, seed: int) -> Array:
    """Numbers of a narrow type that are neither zero nor subnormal in any type."""
    numbers = normal(*shape, seed=seed)
    array: Array = np.where(np.abs(numbers) < 1e-3, 1.0, numbers).astype(dtype)
    return array


def _holding(arrays: dict[str, Array], opset: int) -> onnx.ModelProto:
    """A model that has constants and does nothing."""
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        helper.make_graph([], "g", [], []), opset_imports=opsets, ir_version=max(4, find_min_ir_version_for(opsets))
    )
    for name, array in arrays.items():
        write_tensor(tensor_of(array, name), model.graph.initializer.add(), keep_in_place)
    return model


def weights_alone(opsets: Sequence[int], step: int = 1) -> Iterator[Plan]:
    """Weights of every element type, under every opset: ordinary numbers, and odd bits.

    The latter are signed zeros, subnormals, infinities and NaNs that carry something, in small tensors of all shapes,
    of which every `step`th is taken.
    """
    for dtype in DTYPES:
        for family, arrays in (
            ("ordinary weights", list(_structured(dtype))),
            ("odd bits", list(tensors(dtype))[::step]),
        ):
            for opset in opsets:
                if dtype != BFLOAT16 or opset >= 13:  # no operator moves it before
                    yield _alone(f"{family}, {dtype}, opset {opset}", family, arrays, opset)


def _alone(name: str, family: str, arrays: Sequence[Array], opset: int) -> Plan:
    held = {f"w{i}": array for i, array in enumerate(arrays)}
    model, expected = show(_holding(held, opset), held)
    encode = functools.partial(encoded, model, all_constants=True)
    return Plan(name, family, model, encode, {}, expected)


def long_streams() -> Iterator[Plan]:
    """More weights than float32 can count one by one, 2^24."""
    rng = np.random.default_rng(2)
    dtype, shape = np.dtype(np.float32), (4200, 4100)
    for name, array in (
        ("skewed", _skewed(dtype, 16, shape, rng)),
        ("sparse", _sparse(drawn(_ordinary(dtype, 16, rng), shape, rng), 0.05, rng)),
    ):
        yield _alone(f"{name}, 17 M weights", "17 M weights", [array], 13)


# ---- operators that use weights


# Some of the tests' models have weights large enough for what pays only where much is saved.
_CONSUMERS: Final = {**CONSUMERS, **{f"{name}, large": make for name, make in LARGE.items()}}


def consumers(versions: list[tuple[int, int]]) -> Iterator[Plan]:
    """Every operator that uses weights, as it is and with the weights shown; in bodies and functions they cannot be."""
    for opset, ir_version in versions:
        for name, make in _CONSUMERS.items():
            if name == "function" and ir_version < 8:
                continue
            case = make(opset, ir_version)
            encode = functools.partial(encoded, case.model)
            title = f"{name}, opset {opset}, IR {ir_version}"
            plan = Plan(title, "operators", case.model, encode, case.feeds, {})
            yield from (plan, shown_plan(plan))


def consumer_versions() -> list[tuple[int, int]]:
    """Those of the tests, and the newest."""
    newest = newest_opset()
    return [*VERSIONS, (newest, find_min_ir_version_for([helper.make_opsetid("", newest)]))]


# ---- networks


@functools.cache
def _compiled(path: Path, bits: int, policy: Policy, portable: bool) -> onnx.ModelProto:
    passes = f"weight-sharing{{bits={bits}}}"
    return graphshrink.compile(path, passes, encoding=policy, portable=portable, verify=False).model


def networks(names: list[str], bits: tuple[int, ...] = _BITS) -> Iterator[Plan]:
    """Whole models, weights shared by the pass."""
    with Runtime() as runtime:
        for name in names:
            path = _TESTMODELS / f"{name}.onnx"
            feeds = dict(SampleRequest().open(load(path), runtime.open(path))[0])
            for width in bits:
                encode = functools.partial(_compiled, path, width)
                for plain, policies in _alike(encode):
                    plan = Plan(f"{name}, {width} bits", "networks", plain, encode, feeds, {}, policies)
                    yield from (plan, shown_plan(plan))


def _alike(encode: Encode) -> Iterator[tuple[onnx.ModelProto, list[Policy]]]:
    """Plain models, each with the policies that give it: which weights a pass touches depends on what it saves."""
    found: dict[bytes, list[Policy]] = {}
    for policy in POLICIES:
        plain = emit(load(encode(policy, False)))
        found.setdefault(plain.SerializeToString(deterministic=True), []).append(policy)
    for content, policies in found.items():
        yield onnx.load_from_string(content), policies


def every_network() -> list[str]:
    """Names of the shipped models."""
    return sorted(path.stem for path in _TESTMODELS.glob("*.onnx"))
