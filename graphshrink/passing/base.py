"""What a pass is, what it is given, and what it answers."""

import fnmatch
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Generic, NamedTuple, Self, TypeAlias, TypeVar

import numpy as np

from graphshrink.encodings import Policy, Storage
from graphshrink.errors import InternalError
from graphshrink.ir.graph import Graph
from graphshrink.ir.weight import Weight, weights
from graphshrink.ops import why_not_a_parameter, why_not_a_weight
from graphshrink.passing.rules import LayerRule, settings_for
from graphshrink.passing.workers import Threads, Workers

if TYPE_CHECKING:  # it runs models, which naming passes need not wait for
    from graphshrink.calibration.engine import Calibration

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""

P = TypeVar("P", bound="Pass")
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A layer that was left alone, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Changed:
    """A layer that was changed.

    Attributes:
        detail: what was done, in a few words.
        weight_error: ||W' - W|| / ||W||, Frobenius norms.
        seconds: time spent on this layer, where a pass takes it.
        part_of: label of the layer that it was changed together with, such as that of a bias; None for a layer itself.
    """

    detail: str
    weight_error: float
    seconds: float | None = field(default=None, compare=False)
    part_of: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A layer whose values stay as they are, and what there is to say of them.

    Attributes:
        detail: what was found, in a few words.
    """

    detail: str


Outcome: TypeAlias = Changed | Found | Skipped


@dataclass(slots=True)
class PassResult:
    """What a pass did.

    Attributes:
        layers: to each layer, by weight label.
        graph: to the graph as a whole, in lines; empty if nothing.
        kept: what of the graph as a whole it left alone, and why, in lines.
        missed: what was asked for and could not be done, in lines.
    """

    layers: dict[str, Outcome] = field(default_factory=lambda: dict[str, Outcome]())
    graph: list[str] = field(default_factory=lambda: list[str]())
    kept: list[str] = field(default_factory=lambda: list[str]())
    missed: list[str] = field(default_factory=lambda: list[str]())

    @property
    def changed(self) -> list[str]:
        """Labels of the layers that were changed."""
        return [label for label, outcome in self.layers.items() if isinstance(outcome, Changed)]

    @property
    def units(self) -> dict[str, list[str]]:
        """Labels of what was changed together, by the label of the layer that settings are given to."""
        units: dict[str, list[str]] = {}
        for label, outcome in self.layers.items():
            if isinstance(outcome, Changed):
                units.setdefault(outcome.part_of or label, []).append(label)
        return units

    @property
    def did_anything(self) -> bool:
        """Whether the graph is another one now."""
        return bool(self.changed or self.graph)


class Pass(ABC):
    """A transformation of a graph. Subclasses are frozen dataclasses, and their fields are their options.

    A pass changes the graph in place through `graphshrink.ir.edit` alone, replaces arrays and never writes into them,
    and says for every layer, or for the graph as a whole, what it did. It leaves the model's inputs, outputs, operator
    sets, documentation and metadata as they are, and knows nothing of how weights are stored.
    """

    name: ClassVar[str]
    buys: ClassVar[str]
    """What the pass makes smaller or faster, for users: "disk", "MACs", ..."""
    on_weights: ClassVar[bool] = True
    """Whether it works weight by weight, rather than on the graph as a whole."""
    on_parameters: ClassVar[bool] = False
    """Whether it also takes what stands beside weights: biases, scales, parameters of normalisations."""
    as_one: ClassVar[bool] = False
    """Whether what it does to one layer is nothing without the others, so that milder settings are for all of them."""

    @abstractmethod
    def run(self, graph: Graph, context: "Context") -> PassResult:
        """Transform `graph` in place."""

    def refuses(self, weight: Weight, policy: Policy) -> str | None:
        """Why this pass would leave a weight alone, as far as a look at it can tell; None if it would work on it."""
        return None

    @classmethod
    def is_for(cls, weight: Weight) -> str | None:
        """Why a constant is none that such a pass may change; None if it is."""
        return why_not_a_parameter(weight) if cls.on_parameters else why_not_a_weight(weight)

    def gentler(self) -> Self | None:
        """The same pass with a milder setting, for a layer that did too much harm; None if there is none left."""
        return None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which layers a run may touch: glob patterns over weights, and names and types of the operators that use them."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def refuses(self, weight: Weight) -> str | None:
        """Why a weight is not selected, or None if it is."""
        names = (*weight.names, *weight.operator_types)
        if self.include and not _any_match(names, self.include):
            return "not included"
        return "excluded" if _any_match(names, self.exclude) else None


def _any_match(names: Iterable[str], patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


@dataclass(frozen=True, slots=True)
class Context:
    """What the manager gives a pass.

    Attributes:
        storage: how weights will be stored, for passes that weigh error against bytes.
        selection: what the user lets passes touch.
        rules: other settings for some layers.
        milder: for layers that did too much harm, the pass with milder settings to use, or None to leave them alone.
        progress: to be told how far the work is.
        seed: of every random choice.
        jobs: how much may run at once.
        workers: who does what is heavy and pickles.
        calibration: activations on sample inputs; None where no model may be run (--no-verify).
        max_error: the bound on the error of the model's outputs, to be divided up; None where there is none.
    """

    storage: Storage = field(default_factory=Storage)
    selection: Selection = Selection()
    rules: tuple[LayerRule, ...] = ()
    milder: Mapping[str, Pass | None] = field(default_factory=lambda: dict[str, Pass | None]())
    progress: Progress = lambda stage, done, total: None
    seed: int = 0
    jobs: int = 1
    workers: Workers = field(default_factory=Threads)
    calibration: "Calibration | None" = None
    max_error: float | None = None

    @property
    def policy(self) -> Policy:
        """The policy alone."""
        return self.storage.policy

    def layers(self, graph: Graph, settings: P) -> tuple[list["Layer[P]"], PassResult]:
        """The weights that a pass may change, each with the settings for it; the others in the result, with reasons."""
        chosen: list[Layer[P]] = []
        result = PassResult()
        for weight in weights(graph):
            own = self.settings(settings, weight)
            reason = settings.is_for(weight) or self.selection.refuses(weight)
            if reason is None and own is not None:
                reason = own.refuses(weight, self.policy)
            if reason is None and own is not None:
                chosen.append(Layer(weight, own))
                continue
            given_up = "changed the outputs too much" if weight.label in self.milder else "a layer rule says so"
            result.layers[weight.label] = Skipped(reason or given_up)
        return chosen, result

    def settings(self, step: P, weight: Weight) -> P | None:
        """The settings of a pass for one layer; None if it is to be left alone.

        Raises:
            InternalError: the milder settings are those of another pass.
        """
        if weight.label not in self.milder:
            return settings_for(step, weight, self.rules)
        milder = self.milder[weight.label]
        if milder is not None and not isinstance(milder, type(step)):
            raise InternalError(f"{step.name} is given settings of {milder.name}")
        return milder

    def generator(self, label: str) -> np.random.Generator:
        """Random numbers that depend on the seed and on the layer, and on nothing else."""
        return np.random.default_rng([self.seed, zlib.crc32(label.encode())])

    def map(self, stage: str, function: Callable[[A], B], items: list[A]) -> list[B]:
        """Apply a function to all items, several at a time, in order, with progress."""
        results: list[B] = []
        with ThreadPoolExecutor(max_workers=self.jobs) as pool:
            for done, answer in enumerate(pool.map(function, items), 1):
                results.append(answer)
                self.progress(stage, done, len(items))
        return results


class Layer(NamedTuple, Generic[P]):
    """A weight that a pass may change, and the settings it is to use."""

    weight: Weight
    settings: P
