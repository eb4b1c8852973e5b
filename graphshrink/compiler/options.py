"""What a compilation is asked to do; the command line and `compile` share it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from graphshrink.encodings import Storage
from graphshrink.errors import UsageError
from graphshrink.ir.graph import Graph
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.runtime import Limits
from graphshrink.passing.base import Pass, Selection
from graphshrink.passing.rules import LayerRule
from graphshrink.passing.scoring import Metric
from graphshrink.verify import SampleRequest

DEFAULT_PASSES: Final = "weight-sharing"
DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {"weight-sharing": {"bits": 8}}
"""Options of the passes that run where none are asked for."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to do, and within which bounds.

    Attributes:
        passes: in order.
        rules: other settings for some layers.
        request: where samples come from.
        max_error: bound on every output's error; None for the default.
        storage: how weights are stored.
        selection: which layers may be touched.
        jobs: threads.
        cluster: address of the Dask scheduler whose workers do what is heavy, or None.
        providers: ONNX Runtime's execution providers.
        external_data: whether weights go to a file of their own; None decides by size.
        verify: whether outputs are compared with the original's.
        metric: the user's own.
        require_faster: whether to measure latency, and miss something where the result is slower.
        limits: of the process in which models run.
        max_memory: bytes that this process may use, or None.
        file_name: of the model to be, which external data is named after.
        origins: who brings the passes that are not built in.
    """

    passes: tuple[Pass, ...]
    rules: tuple[LayerRule, ...] = ()
    request: SampleRequest = field(default_factory=SampleRequest)
    max_error: float | None = None
    storage: Storage = field(default_factory=Storage)
    selection: Selection = field(default_factory=Selection)
    jobs: int = 1
    cluster: str | None = None
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    external_data: bool | None = None
    verify: bool = True
    metric: Metric | None = None
    require_faster: bool = False
    limits: Limits = field(default_factory=Limits)
    max_memory: int | None = None
    file_name: str = "model.onnx"
    origins: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return {
            "passes": [{"name": step.name, **asdict(step)} for step in self.passes],  # type: ignore[call-overload]
            "layer_rules": [{**asdict(rule), "by": rule.by.name.lower()} for rule in self.rules],
            "plugins": dict(self.origins),
            "samples": self.request.limit,
            "max_error": self.max_error,
            "metric": None if self.metric is None else self.metric.name,
            "max_drop": None if self.metric is None else self.metric.max_drop,
            "require_faster": self.require_faster,
            "encoding": self.storage.policy,
            "encodings": [encoding.name for encoding in self.storage.extra],
            "portable": self.storage.portable,
            "load_memory": self.storage.load_memory,
            "include": list(self.selection.include),
            "exclude": list(self.selection.exclude),
            "seed": self.request.seed,
            "input_shapes": {name: list(shape) for name, shape in self.request.shapes.items()},
            "providers": list(self.providers),
            "save_as_external_data": self.external_data,
            "verify": self.verify,
            "max_memory": self.max_memory,
            "worker_memory": self.limits.memory,
            "time_limit": self.limits.seconds,
        }

    def expect_sensible(self) -> None:
        """Raises: UsageError, if a number is out of range, or options contradict each other."""
        _expect_numbers(self)
        unmeasured = {
            "--max-error": self.max_error is not None,
            "--metric": self.metric is not None,
            "--require-faster": self.require_faster,
        }
        for option, given in unmeasured.items():
            if given and not self.verify:
                raise UsageError(f"{option} is about what --no-verify does not measure; leave one of them out")

    def expect_matches(self, graph: Graph) -> None:
        """Raises: UsageError, if a pattern matches nothing: a typing error would touch what was to be protected."""
        found = weights(graph)
        for option, patterns in (("--include", self.selection.include), ("--exclude", self.selection.exclude)):
            for pattern in patterns:
                if not any(Selection(include=(pattern,)).refuses(weight) is None for weight in found):
                    raise UsageError(
                        f"{option} {pattern!r}: matches no weight, operator or type; see graphshrink inspect"
                    )
        for rule in self.rules:
            if not any(rule.matches(weight) for weight in found):
                what = "layer" if rule.by.name == "NAME" else "type of operator"
                raise UsageError(f"[{rule.step}]: {rule.pattern!r} matches no {what}; see `inspect`")


def _expect_numbers(options: Options) -> None:
    for name, bound in (("--max-error", options.max_error), ("--max-drop", _max_drop(options))):
        if bound is not None and not 0 <= bound < math.inf:
            raise UsageError(f"{name} {bound}: give a number from 0")
    if not 0 < options.limits.seconds < math.inf:
        raise UsageError(f"--time-limit {options.limits.seconds:g}: give a number of seconds above 0")
    for name, value, least in (
        ("--samples", options.request.limit, 1),
        ("--jobs", options.jobs, 1),
        ("--seed", options.request.seed, 0),
        ("--worker-memory", options.limits.memory, 1),
        ("--max-memory", options.max_memory, 1),
        ("--load-memory", options.storage.load_memory, 1),
    ):
        if value is not None and value < least:
            raise UsageError(f"{name} {value}: give a number from {least}")


def _max_drop(options: Options) -> float | None:
    return None if options.metric is None else options.metric.max_drop
