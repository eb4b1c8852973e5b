"""Every model whose channels are removed: the zoo, the onnx wheel's, those of testmodels/ and the corpus, torch's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeAlias

import onnx

from benchmarks.channels.zoo import ZOO, feeds
from benchmarks.channels.zoo.torch_exports import available
from benchmarks.channels.zoo.wheel import WHEEL
from benchmarks.net_trim.inputs import SOURCES
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Feeds
from graphshrink.onnx_io.load import load

Inputs: TypeAlias = Callable[[int, int], Sequence[Feeds]]
"""Gives so many at most, of so many rows each where that is open and nothing else says how many."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model and inputs of it.

    Attributes:
        kind: "zoo", "wheel", "torch", or "real" for trained weights.
        graph: loads it; raises FetchError.
        inputs: random ones where weights are random.
    """

    name: str
    kind: str
    graph: Callable[[], Graph]
    inputs: Inputs

    @property
    def random(self) -> bool:
        """Whether weights and inputs are."""
        return self.kind != "real"


def _made(kind: str, name: str, build: Callable[[], onnx.ModelProto]) -> Source:
    model = cache(build)

    def inputs(count: int, batch: int) -> Sequence[Feeds]:
        return [feeds(model(), seed, batch) for seed in range(count)]

    return Source(name, kind, lambda: load(model()), inputs)


def _real(name: str) -> Source:
    source = SOURCES[name]
    return Source(
        f"testmodels.{name}" if name in ZOO else name,
        "real",
        lambda: load(source.model()),
        lambda count, _: source.fit(count),
    )


def _all() -> Mapping[str, Source]:
    made = (
        *(_made("zoo", *item) for item in ZOO.items()),
        *(_made("wheel", *item) for item in WHEEL.items()),
        *(_made("torch", f"torch.{name}", build) for name, build in available().items()),
        *(_real(name) for name in SOURCES),
    )
    return {source.name: source for source in made}


MODELS: Final = _all()
"""By name; torch's are there where torch is installed."""
