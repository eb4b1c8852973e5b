"""A few hundred damaged models in every run; `scripts/fuzz` goes on from there for as long as one likes."""

import random
from collections import Counter
from pathlib import Path

import onnx
import pytest

from graphshrink.errors import GraphshrinkError
from graphshrink.onnx_io.load import load
from tests.fuzz.mutator import mutated
from tests.fuzz.target import one_input
from tests.random_graphs.examples import examples
from tests.random_graphs.models import random_models
from tests.random_graphs.results import compressed
from tests.random_graphs.steps import Steps
from tests.strategies import models

MUTANTS = 20  # of each seed


@pytest.fixture(scope="module")
def seeds() -> list[bytes]:
    """Small models, encoded ones and messy ones among them."""
    drawn = [example.model for example in examples(random_models(), 12)]
    steps = Steps("weight-sharing{bits=2}").passes
    found = [*drawn, *(compressed(model, steps, "small").encoded for model in drawn), *examples(models(), 12)]
    return [model.SerializeToString() for model in found]


def test_damaged_messages_are_loaded_or_refused(seeds: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(256))
    outcomes: Counter[bool] = Counter()
    for data in seeds:
        for seed in range(MUTANTS):
            mutant = mutated(data, seed, 1 << 20)
            if mutant is not None:
                one_input(mutant, tmp_path)
                outcomes[loads(mutant)] += 1
    assert min(outcomes[True], outcomes[False]) > 100  # else the mutants are too tame or too wild to find anything


def test_damaged_bytes_are_loaded_or_refused(seeds: list[bytes], tmp_path: Path) -> None:
    rng = random.Random(0)
    for data in seeds:
        for _ in range(MUTANTS):
            damaged = bytearray(data)
            for _ in range(rng.randint(1, 4)):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            one_input(bytes(damaged[: rng.randint(1, len(damaged))] if rng.random() < 0.2 else damaged), tmp_path)


def loads(data: bytes) -> bool:
    model = onnx.ModelProto()
    model.ParseFromString(data)
    try:
        load(model)
    except GraphshrinkError:
        return False
    return True
