"""The way of a model through a compilation."""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import onnx

from graphshrink.calibration.engine import DEFAULT_MEMORY, Calibration
from graphshrink.calibration.sources import split
from graphshrink.compiler.memory import affordable_jobs, bounded_memory
from graphshrink.compiler.options import Options
from graphshrink.compiler.result import Compiled
from graphshrink.compiler.shapes import Shapes
from graphshrink.compiler.timeline import Timeline
from graphshrink.encodings import Cost, Stored, encode_graph
from graphshrink.errors import JudgeError, ModelError
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import ExternalData, FilledData
from graphshrink.ir.weight import Weight, constants, weights
from graphshrink.metrics.latency import Latency, compare_latency
from graphshrink.metrics.size import affordable_gzip
from graphshrink.onnx_io.emit import emit, stage
from graphshrink.onnx_io.external import model_files
from graphshrink.onnx_io.load import MappedPages, load
from graphshrink.onnx_io.recheck import check_written
from graphshrink.onnx_io.runtime import TEMPORARY, Session
from graphshrink.onnx_io.shapes import known_shapes
from graphshrink.ops import why_not_a_parameter
from graphshrink.passing.base import Context, Progress
from graphshrink.passing.final import Verification, verify_written
from graphshrink.passing.judge import Judge, Scores
from graphshrink.passing.pipeline import PassRecord, missed, run_passes
from graphshrink.passing.workers import workers
from graphshrink.report.ledger import After, Facts, Model, build_report
from graphshrink.verify import Original

ModelLike: TypeAlias = str | PathLike[str] | onnx.ModelProto


def compile_with(model: ModelLike, options: Options, progress: Progress) -> Compiled:
    """`compile` with its options in one object."""
    options.expect_sensible()
    folder = Path(tempfile.mkdtemp(prefix=TEMPORARY))
    try:
        with bounded_memory(options.max_memory):
            compiled = _compile(model, options, progress, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(compiled, shutil.rmtree, folder, ignore_errors=True)
    return compiled


def _compile(model: ModelLike, options: Options, progress: Progress, folder: Path) -> Compiled:
    timeline = Timeline()
    progress("loading", 0, 1)
    with timeline("loading"):
        graph = load(model)
        options.expect_matches(graph)
        path = _as_file(model, graph, folder)
        pages = MappedPages(graph)

    def report(stage: str, done: int, total: int) -> None:
        pages.release()  # a model of many layers is read one layer at a time
        progress(stage, done, total)

    runtime = options.limits.runtime(model_files(graph, path), options.providers)
    jobs = affordable_jobs(graph, options.jobs, options.max_memory)
    with workers(jobs, options.cluster) as crew, runtime, Original(runtime, path) as original:
        with timeline("running the original"):
            judge = _judge(graph, original, options)
        context = Context(
            options.storage,
            options.selection,
            options.rules,
            progress=report,
            seed=options.request.seed,
            jobs=jobs,
            workers=crew,
            calibration=None if judge is None else _calibration(judge, options),
            max_error=None if judge is None else judge.bound,
        )
        with timeline("measuring"):
            shapes = Shapes(runtime, graph, known_shapes(runtime, path))
        shrunk, records = _run_passes(graph, options, context, judge, timeline, shapes)
        report("encoding", 0, 1)
        with timeline("encoding"):
            encoded, stored = _encode(shrunk, options)
            staged = stage(encoded, folder / options.file_name, external=options.external_data, durable=False)
        report("verifying", 0, 1)
        with timeline("verifying"):
            decoding = {item.label: item.cost for item in check_written(staged.model, shrunk)}
            verification = _verified(judge, staged.model, shrunk, stored, records)
        report("measuring", 0, 1)
        with timeline("measuring"):
            latency = _latency(original, judge, staged.model) if options.require_faster else None
            left = shapes.of(shrunk)
    files = tuple(file for file in (staged.model, staged.data) if file is not None)
    facts = Facts(
        before=Model(graph, model_files(graph, path), shapes.known),
        after=Model(shrunk, files, left),
        options=options.as_dict(),
        records=records,
        stored=stored,
        decoding=decoding,
        verification=verification,
        latency=latency,
        missed=[
            *missed([record for record, _ in records]),
            *_too_slow(latency),
            *_too_much_to_load(shrunk, options, decoding.values()),
        ],
        notes=_notes(shrunk, encoded, verification),
        seconds=timeline.seconds,
    )
    return Compiled(
        build_report(facts), list(facts.missed), facts.before.files[1:], shrunk, encoded, staged, options.external_data
    )


def _verified(
    judge: Judge | None, path: Path, graph: Graph, stored: list[Stored], records: list[tuple[PassRecord, After | None]]
) -> Verification | None:
    if judge is None:
        return None
    return verify_written(judge, path, graph, stored, changed=any(record.result.did_anything for record, _ in records))


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
    bound, metric = options.request.bound(options.max_error), options.metric
    scores = None if metric is None else Scores(metric, metric.score(original.runtime, original.path))
    return Judge(original, fit, held_out, bound, options.request.random, samples.description, scores)


def _calibration(judge: Judge, options: Options) -> Calibration:
    """What passes fit to."""
    memory = DEFAULT_MEMORY if options.max_memory is None else options.max_memory
    seed = options.request.seed
    return Calibration(judge.fit, judge.original.runtime, memory=memory, seed=seed, random=judge.random)


def _run_passes(
    graph: Graph, options: Options, context: Context, judge: Judge | None, timeline: Timeline, shapes: Shapes
) -> tuple[Graph, list[tuple[PassRecord, After | None]]]:
    """Run the passes; each with the model after it (None for the last, whose result is the output)."""
    done: list[tuple[PassRecord, After | None]] = []
    for index, step in enumerate(options.passes):
        with timeline(step.name):
            graph, records = run_passes(graph, [step], context, judge)
            last = index == len(options.passes) - 1
            done += [(record, None if last else _after(graph, options, shapes)) for record in records]
    return graph, done


def _after(graph: Graph, options: Options, shapes: Shapes) -> After:
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
    return After(graph, size, affordable_gzip(_contents(proto, outside), size), shapes.of(graph))


def _contents(proto: onnx.ModelProto, outside: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """What would be written, made only if somebody asks."""
    yield proto.SerializeToString(deterministic=True)
    yield from outside


def _encode(graph: Graph, options: Options) -> tuple[Graph, list[Stored]]:
    """The graph as it will be written: a copy with its weights encoded."""
    encoded = graph.copy()
    chosen = [weight for weight in weights(encoded) if _may_encode(weight, options)]
    return encoded, encode_graph(encoded, chosen, options.storage)


def _may_encode(weight: Weight, options: Options) -> bool:
    if isinstance(weight.tensor.data, FilledData):  # a few bytes already
        return False
    return why_not_a_parameter(weight) is None and options.selection.refuses(weight) is None


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


def _latency(original: Original, judge: Judge | None, result: Path) -> Latency | None:
    """Measured on one sample, with one thread, side by side in one process."""
    if judge is None:
        return None
    feeds = judge.held_out[0]

    def timer(session: Session) -> Callable[[int], list[float]]:
        return lambda runs: session.time(feeds, runs)

    with original.runtime.open(original.path) as again, original.runtime.open(result) as shrunk:
        return compare_latency(timer(original.session), timer(again), timer(shrunk))


def _too_much_to_load(graph: Graph, options: Options, costs: Iterable[Cost]) -> list[str]:
    """Decoding is kept within bounds; the weights themselves cannot be."""
    most = options.storage.load_memory
    taken = sum(weight.tensor.nbytes for weight in weights(graph) if _may_encode(weight, options))
    taken += sum(cost.bytes for cost in costs)
    if most is None or taken <= most:
        return []
    return [f"loading the weights takes {taken:,} bytes, with nothing left to decode (--load-memory {most:,})"]


def _too_slow(latency: Latency | None) -> list[str]:
    if latency is None or not latency.slower:
        return []
    low, high = latency.spread
    noise = f"the original against itself: {low:.2f} to {high:.2f} x"
    return [f"the result is slower: {latency.ratio:.2f} x the original's time (--require-faster; {noise})"]
