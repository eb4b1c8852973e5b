"""compile: load -> run passes -> encode -> write -> verify -> report."""

import math
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Final, TypeAlias

import onnx

from graphshrink.calibration.sources import Source, split
from graphshrink.encodings import Policy, Stored, encode_graph, policy_named
from graphshrink.errors import InternalError, JudgeError, ModelError, UsageError
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import ExternalData
from graphshrink.ir.weight import Weight, constants, weights
from graphshrink.metrics.size import affordable_gzip, sha256
from graphshrink.onnx_io.emit import Staged, emit, stage
from graphshrink.onnx_io.external import model_files
from graphshrink.onnx_io.load import MappedPages, load
from graphshrink.onnx_io.recheck import check_written
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.onnx_io.shapes import known_shapes
from graphshrink.ops import why_not_a_weight
from graphshrink.passing.base import Context, Pass, Progress, Selection
from graphshrink.passing.final import Verification, verify_written
from graphshrink.passing.judge import Judge
from graphshrink.passing.pipeline import PassRecord, missed, run_passes
from graphshrink.registry import passes_from
from graphshrink.report.ledger import After, Facts, Model, build_report
from graphshrink.verify import Original, SampleRequest

DEFAULT_PASSES: Final = "weight-sharing{bits=8}"

ModelLike: TypeAlias = str | PathLike[str] | onnx.ModelProto


@dataclass(frozen=True, slots=True)
class Options:
    """What a compilation is asked to do; the command line and `compile` share it."""

    passes: tuple[Pass, ...]
    request: SampleRequest = field(default_factory=SampleRequest)
    max_error: float | None = None
    encoding: Policy = "fast"
    selection: Selection = field(default_factory=Selection)
    jobs: int = 1
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    external_data: bool | None = None
    verify: bool = True
    file_name: str = "model.onnx"  # which external data is named after

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return {
            "passes": [{"name": step.name, **asdict(step)} for step in self.passes],  # type: ignore[call-overload]
            "samples": self.request.limit,
            "max_error": self.max_error,
            "encoding": self.encoding,
            "include": list(self.selection.include),
            "exclude": list(self.selection.exclude),
            "seed": self.request.seed,
            "input_shapes": {name: list(shape) for name, shape in self.request.shapes.items()},
            "providers": list(self.providers),
            "save_as_external_data": self.external_data,
            "verify": self.verify,
        }


@dataclass(slots=True, weakref_slot=True)
class Compiled:
    """A compressed model that was verified, and what is known about it.

    Attributes:
        report: as docs/report.md describes it.
        missed: what was asked for and could not be done, as lines for people.
    """

    report: dict[str, Any]
    missed: list[str]
    _plain: Graph
    _graph: Graph
    _staged: Staged
    _external: bool | None

    @property
    def model(self) -> onnx.ModelProto:
        """The model as a protobuf message."""
        return emit(self._graph)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model, atomically: the path holds what it held before, or the whole new model.

        Raises:
            GraphshrinkError: the path cannot be written.
        """
        staged = stage(self._graph, Path(path), external=self._external)
        try:
            if staged.data is None and sha256([staged.model]) != sha256([self._staged.model]):
                raise InternalError("the written file is not the one that was verified")
            if staged.data is not None:  # its name, which follows the model's, is part of the model file
                check_written(staged.model, self._plain)
            staged.commit()
        finally:
            staged.discard()


def compile(
    model: ModelLike,
    passes: str = DEFAULT_PASSES,
    *,
    calibration: Source | None = None,
    samples: int = 128,
    max_error: float | None = None,
    encoding: str = "fast",
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    seed: int = 0,
    jobs: int = 1,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    providers: Iterable[str] = ("CPUExecutionProvider",),
    save_as_external_data: bool | None = None,
    verify: bool = True,
    progress: Progress | None = None,
) -> Compiled:
    """Compress a model and verify the result against the original in ONNX Runtime.

    Args:
        model: a path, or a model in memory.
        passes: what to do, such as "weight-sharing{bits=4}"; "none" for nothing.
        calibration: sample inputs; see `graphshrink.calibration.sources`. Without them the outputs are compared on
            random inputs.
        samples: how many samples to use at most; 80 % to fit, 20 % to judge.
        max_error: bound on the error of every output, ||Y' - Y|| / ||Y||; by default 0.1 with sample inputs, and none
            without.
        encoding: how weights are stored: "plain", "fast" or "small".
        include: glob patterns over weights, and names and types of the operators that use them; empty for all.
        exclude: likewise, what to leave alone.
        seed: of every random choice.
        jobs: how many threads may work at once; the result does not depend on it.
        input_shapes: shapes to run inputs of unknown size with, by name.
        providers: ONNX Runtime's execution providers.
        save_as_external_data: keep weights in a file of their own; None decides by size.
        verify: False skips everything that runs the model.
        progress: called with (what is being done, steps done, steps in all).

    Raises:
        GraphshrinkError: see `graphshrink.errors`; nothing was written.
    """
    options = Options(
        tuple(passes_from(passes)),
        SampleRequest(calibration, samples, seed, input_shapes or {}),
        max_error,
        policy_named(encoding),
        Selection(tuple(include), tuple(exclude)),
        jobs,
        tuple(providers),
        save_as_external_data,
        verify,
    )
    return compile_with(model, options, progress or (lambda stage, done, total: None))


def compile_with(model: ModelLike, options: Options, progress: Progress) -> Compiled:
    """`compile` with its options in one object."""
    _expect_sensible(options)
    folder = Path(tempfile.mkdtemp(prefix="graphshrink-"))
    try:
        compiled = _compile(model, options, progress, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(compiled, shutil.rmtree, folder, ignore_errors=True)
    return compiled


def _expect_sensible(options: Options) -> None:
    if options.max_error is not None and not 0 <= options.max_error < math.inf:
        raise UsageError(f"--max-error {options.max_error}: give a number from 0")
    for name, value, least in (
        ("--samples", options.request.limit, 1),
        ("--jobs", options.jobs, 1),
        ("--seed", options.request.seed, 0),
    ):
        if value < least:
            raise UsageError(f"{name} {value}: give a number from {least}")


def _compile(model: ModelLike, options: Options, progress: Progress, folder: Path) -> Compiled:
    started = time.perf_counter()
    progress("loading", 0, 1)
    graph = load(model)
    _expect_matches(graph, options.selection)
    pages = MappedPages(graph)

    def report(stage: str, done: int, total: int) -> None:
        pages.release()  # a model of many layers is read one layer at a time
        progress(stage, done, total)

    path = _as_file(model, graph, folder)
    with Runtime(providers=options.providers) as runtime, Original(runtime, path) as original:
        judge = _judge(graph, original, options)
        context = Context(
            options.encoding, options.selection, progress=report, seed=options.request.seed, jobs=options.jobs
        )
        shrunk, records = _run_passes(graph, options, context, judge)
        report("encoding", 0, 1)
        encoded, stored = _encode(shrunk, options)
        staged = stage(encoded, folder / options.file_name, external=options.external_data, durable=False)
        report("verifying", 0, 1)
        check_written(staged.model, shrunk)
        verification = _verified(judge, staged.model, shrunk, stored, records)
        shapes = known_shapes(runtime, path)
    facts = Facts(
        Model(graph, model_files(graph, path)),
        Model(shrunk, tuple(file for file in (staged.model, staged.data) if file is not None)),
        options.as_dict(),
        records,
        stored,
        shapes,
        verification,
        missed([record for record, _ in records]),
        _notes(shrunk, encoded, verification),
        time.perf_counter() - started,
    )
    return Compiled(build_report(facts), list(facts.missed), shrunk, encoded, staged, options.external_data)


def _verified(
    judge: Judge | None, path: Path, graph: Graph, stored: list[Stored], records: list[tuple[PassRecord, After | None]]
) -> Verification | None:
    if judge is None:
        return None
    return verify_written(judge, path, graph, stored, changed=any(record.result.did_anything for record, _ in records))


def _expect_matches(graph: Graph, selection: Selection) -> None:
    """Raises: UsageError, if a pattern matches nothing: a typing error would compress what was to be protected."""
    found = weights(graph)
    for option, patterns in (("--include", selection.include), ("--exclude", selection.exclude)):
        for pattern in patterns:
            if not any(Selection(include=(pattern,)).refuses(weight) is None for weight in found):
                raise UsageError(f"{option} {pattern!r}: matches no weight, operator or type; see graphshrink inspect")


def _as_file(model: ModelLike, graph: Graph, folder: Path) -> Path:
    """The original as a file: where it is, or for a model in memory, in the temporary folder."""
    if not isinstance(model, onnx.ModelProto):
        return Path(model)
    if any(isinstance(t.data, ExternalData) for _, scope in graph.scopes() for _, t in constants(scope)):
        raise ModelError("the model has external data, which a model in memory cannot be asked for; give its path")
    path = folder / "original.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _judge(graph: Graph, original: Original, options: Options) -> Judge | None:
    """The judge; None when nothing is to be verified."""
    if not options.verify:
        return None
    try:
        samples = options.request.open(graph, original.session)
    except JudgeError as e:
        raise JudgeError(f"{e} (this is the model as it came in; --no-verify compresses it unseen)") from e
    original.expect_repeatable(samples)
    # Nothing is fitted to random inputs, so all of them may judge.
    fit, held_out = (samples, samples) if options.request.random else split(samples)
    bound = options.request.bound(options.max_error)
    return Judge(original, fit, held_out, bound, options.request.random, samples.description)


def _run_passes(
    graph: Graph, options: Options, context: Context, judge: Judge | None
) -> tuple[Graph, list[tuple[PassRecord, After | None]]]:
    """Run the passes; each with the model after it (None for the last, whose result is the output)."""
    done: list[tuple[PassRecord, After | None]] = []
    for index, step in enumerate(options.passes):
        graph, records = run_passes(graph, [step], context, judge)
        last = index == len(options.passes) - 1
        done += [(record, None if last else _after(graph, options)) for record in records]
    return graph, done


def _after(graph: Graph, options: Options) -> After:
    """The figures of a model as it would be written now, weights that still lie in external data included."""
    encoded = _encode(graph, options)[0]
    outside = [
        tensor.buffer
        for _, scope in encoded.scopes()
        for _, tensor in constants(scope)
        if isinstance(tensor.data, ExternalData)
    ]
    proto = emit(encoded)
    size = proto.ByteSize() + sum(map(len, outside))
    return After(graph, size, affordable_gzip(_contents(proto, outside), size))


def _contents(proto: onnx.ModelProto, outside: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """What would be written, made only if somebody asks."""
    yield proto.SerializeToString(deterministic=True)
    yield from outside


def _encode(graph: Graph, options: Options) -> tuple[Graph, list[Stored]]:
    """The graph as it will be written: a copy with its weights encoded."""
    encoded = graph.copy()
    return encoded, encode_graph(
        encoded, [weight for weight in weights(encoded) if _may_encode(weight, options)], options.encoding
    )


def _may_encode(weight: Weight, options: Options) -> bool:
    return why_not_a_weight(weight) is None and options.selection.refuses(weight) is None


def _notes(shrunk: Graph, encoded: Graph, verification: Verification | None) -> list[str]:
    notes: list[str] = []
    if verification is None:
        notes.append("nothing was verified (--no-verify)")
    elif verification.random:
        notes.append("outputs were compared on random inputs, which say little about real ones; give --calibration")
    if verification is not None and not verification.held_out.says_something:
        notes.append("the outputs were empty or not finite on these inputs: nothing could be compared")
    gone = sorted({info.name for info in shrunk.inputs} - {info.name for info in encoded.inputs})
    if gone:
        notes.append(
            f"{len(gone)} encoded weights are no longer graph inputs, where this IR version had to list them: "
            + ", ".join(gone[:3])
        )
    return notes
