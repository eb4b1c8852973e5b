"""`compile`, for programs."""

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path

from graphshrink.calibration.sources import Source
from graphshrink.compiler.options import DEFAULT_PASSES, DEFAULTS, Options
from graphshrink.compiler.result import Compiled
from graphshrink.compiler.run import ModelLike, compile_with
from graphshrink.encodings import Storage, policy_named
from graphshrink.errors import UsageError
from graphshrink.onnx_io.runtime import Limits
from graphshrink.passing.base import Progress, Selection
from graphshrink.passing.scoring import ScoreFunction, metric_from
from graphshrink.registry import Sections, catalogue, plan_from
from graphshrink.verify import SampleRequest


def compile(
    model: ModelLike,
    passes: str | None = None,
    *,
    settings: Sections | None = None,
    calibration: Source | None = None,
    samples: int = 128,
    max_error: float | None = None,
    metric: str | ScoreFunction | None = None,
    max_drop: float | None = None,
    require_faster: bool = False,
    encoding: str = "fast",
    portable: bool = False,
    load_memory: int | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    seed: int = 0,
    jobs: int = 1,
    cluster: str | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    providers: Iterable[str] = ("CPUExecutionProvider",),
    save_as_external_data: bool | None = None,
    verify: bool = True,
    plugins: Iterable[str | PathLike[str]] = (),
    limits: Limits | None = None,
    max_memory: int | None = None,
    file_name: str = "model.onnx",
    progress: Progress | None = None,
) -> Compiled:
    """Compress a model and verify the result against the original in ONNX Runtime.

    Args:
        model: a path, or a model in memory.
        passes: what to do, such as "weight-sharing{bits=4}"; "none" for nothing; by default weight-sharing at 8 bits.
        settings: further options by name of pass, and those for single layers, as in a configuration file:
            {"weight-sharing": {"bits": 4, "operators": {"Conv": {"bits": 6}}, "layers": {"head.*": {"skip": True}}}}.
        calibration: sample inputs; see `graphshrink.calibration.sources`. Without them the outputs are compared on
            random inputs.
        samples: how many samples to use at most; 80 % to fit, 20 % to judge.
        max_error: bound on the error of every output, ||Y' - Y|| / ||Y||; by default 0.1 with sample inputs, and none
            without.
        metric: a function that scores a model, the larger the better, or "file.py:function"; see
            `graphshrink.passing.scoring`.
        max_drop: how far the score may fall; needs `metric`.
        require_faster: measure latency, and say in `missed` when the result is slower than the original.
        encoding: how weights are stored: "plain", "fast", "small" or "quantised".
        portable: no functions of the model, for runtimes that know none.
        load_memory: bytes that all weights, and what they are computed from, may take while the result is loaded.
        include: glob patterns over weights, and names and types of the operators that use them; empty for all.
        exclude: likewise, what to leave alone.
        seed: of every random choice.
        jobs: how many threads may work at once; the result does not depend on it.
        cluster: address of a Dask scheduler whose workers solve layers, such as "tcp://10.0.0.5:8786".
        input_shapes: shapes to run inputs of unknown size with, by name.
        providers: ONNX Runtime's execution providers.
        save_as_external_data: keep weights in a file of their own; None decides by size.
        verify: False skips everything that runs the model.
        plugins: Python files with further passes and encodings; they are run.
        limits: time and memory that running the models may take.
        max_memory: bytes that this process may use beside mapped files (Linux).
        file_name: under which the result will be saved, since external data is named after it.
        progress: called with (what is being done, steps done, steps in all).

    Raises:
        GraphshrinkError: see `graphshrink.errors`; nothing was written.
    """
    if max_drop is not None and metric is None:
        raise UsageError("--max-drop bounds what a metric says; give --metric as well")
    known = catalogue(map(Path, plugins))
    plan = plan_from(passes or DEFAULT_PASSES, settings or {}, known, {} if passes else DEFAULTS)
    options = Options(
        passes=plan.passes,
        rules=plan.rules,
        request=SampleRequest(calibration, samples, seed, input_shapes or {}),
        max_error=max_error,
        storage=Storage(policy_named(encoding), known.encodings, portable, load_memory),
        selection=Selection(tuple(include), tuple(exclude)),
        jobs=jobs,
        cluster=cluster,
        providers=tuple(providers),
        external_data=save_as_external_data,
        verify=verify,
        metric=None if metric is None else metric_from(metric, max_drop),
        require_faster=require_faster,
        limits=limits or Limits(),
        max_memory=max_memory,
        file_name=file_name,
        origins=plan.origins,
    )
    return compile_with(model, options, progress or (lambda stage, done, total: None))
