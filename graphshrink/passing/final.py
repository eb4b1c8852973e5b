"""The last word on a written file: every judge is asked, and what differs from the original is measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from graphshrink.encodings import Stored
from graphshrink.errors import InternalError, JudgeError, VerificationError
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import T
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.onnx_io.temporary import written
from graphshrink.passing.judge import Judge, Measured
from graphshrink.passing.products import check_products
from graphshrink.verify import Verdict, compare_files, some

# How far an encoded file may be from the same weights stored plainly. The weights are equal bit for bit, or to some
# units in the last place (`products`); ONNX Runtime may still fuse and order the two graphs differently, which costs
# rounding, more of it in half precision.
_TOLERANCE: Final = 1e-4
_HALF_TOLERANCE: Final = 1e-2
# Kernels of few bits round what they multiply: 0.6 % for each layer, which grows on the way through many.
_FUSED_TOLERANCE: Final = 0.1
_AGREEMENT: Final = 0.99  # of integer outputs, such as indices of nearly equal scores
_HALF: Final = (T.FLOAT16, T.BFLOAT16)
_EMISSION_SAMPLES: Final = 4


@dataclass(frozen=True, slots=True)
class Verification:
    """What the judges said.

    Attributes:
        inputs: where the samples came from.
        random: whether they were made up.
        bound: the largest error allowed, or None.
        fit: figures on the samples that passes could fit to.
        held_out: figures on the others.
        judges: what each judge said.
        scores: what the user's metric gives for both models, or None.
    """

    inputs: str
    random: bool
    bound: float | None
    fit: Verdict
    held_out: Verdict
    judges: Mapping[str, str]
    scores: Mapping[str, Any] | None = None


def verify_written(judge: Judge, path: Path, graph: Graph, stored: Sequence[Stored], *, changed: bool) -> Verification:
    """Ask every judge about a written file.

    Args:
        judge: compares with the original.
        path: the file.
        graph: what it was made from, with its weights plain.
        stored: how the weights are stored in it.
        changed: whether any pass changed anything; outputs that say nothing are no objection to what is the same.

    Raises:
        VerificationError: the outputs are further from the original's than the bound, or quantised weights do harm.
        JudgeError: a judge refuses the result but not the original.
        InternalError: the encoded file computes something else than its plain weights do.
    """
    runtime = judge.original.runtime
    checker = _ask_checker(runtime, judge.original.path, path)
    if any(item.encoding != "plain" for item in stored):
        fused = any(item.encoding == "quantised" for item in stored)
        with written(graph) as plain:
            _check_decoding(judge, plain, path, graph, optimise=not fused)
            check_products(runtime, path, graph, [item.label for item in stored if item.encoding == "spectral"])
            if fused:
                _check_kernels(judge, plain, path)
    fit, held_out = judge.verdicts(path)
    if changed and not held_out.says_something and judge.bound is not None:
        raise VerificationError("the outputs are empty or not finite on these inputs, so that nothing can be compared")
    measured = Measured(held_out.worst, None if judge.scores is None else judge.scores.drop(runtime, path))
    if not judge.allows(measured):
        raise VerificationError(f"{judge.complaint(measured)}; nothing was written")
    judges = {"checker": checker, "onnxruntime": "runs"}
    scores = None if judge.scores is None or measured.drop is None else judge.scores.as_dict(measured.drop)
    return Verification(judge.description, judge.random, judge.bound, fit, held_out, judges, scores)


def _check_decoding(judge: Judge, plain: Path, path: Path, graph: Graph, *, optimise: bool) -> None:
    """The second half of the emission check: the encoded file against the same weights stored plainly."""
    samples = some(judge.held_out, _EMISSION_SAMPLES)
    verdict = compare_files(judge.original.runtime, plain, path, samples, optimise=optimise)
    half = any(weight.tensor.elem_type in _HALF for weight in weights(graph))
    tolerance = _HALF_TOLERANCE if half else _TOLERANCE
    for name, output in verdict.outputs.items():
        far = output.note is not None or (output.relative_l2 or 0.0) > tolerance
        if far or (output.agreement is not None and output.agreement < _AGREEMENT):
            raise InternalError(
                f"output {name!r} of the encoded model differs by {output.error:.3g} "
                "from that of the same weights stored plainly"
            )


def _check_kernels(judge: Judge, plain: Path, path: Path) -> None:
    """That ONNX Runtime has kernels for all quantised weights, and what these add to the error of the outputs.

    Floating outputs alone: where indices of nearly equal scores go, the bound on the error to the original says.

    Raises:
        VerificationError: weights would be decoded anew at every run, or the error is more than rounding explains.
    """
    runtime = judge.original.runtime
    with runtime.open(plain) as before, runtime.open(path) as after:
        decoded = after.operator_counts().get("DequantizeLinear", 0)
        decoded -= before.operator_counts().get("DequantizeLinear", 0)
    if decoded > 0:
        raise VerificationError(
            f"this ONNX Runtime has no kernels for {decoded} of the quantised weights, and would decode them at every "
            "run; use --encoding fast, or --exclude what they belong to; nothing was written"
        )
    verdict = compare_files(runtime, plain, path, some(judge.held_out, _EMISSION_SAMPLES))
    for name, output in verdict.outputs.items():
        if output.note is not None or (output.relative_l2 or 0.0) > _FUSED_TOLERANCE:
            raise VerificationError(
                f"output {name!r} differs by {output.error:.3g} (at most {_FUSED_TOLERANCE:g}) once ONNX Runtime "
                "multiplies by quantised weights; use --encoding fast; nothing was written"
            )


def _ask_checker(runtime: Runtime, original: Path, result: Path) -> str:
    """What the checker says, in its full mode, or without shape inference where that refuses the input itself.

    Raises:
        JudgeError: it takes the input and refuses the result.
    """
    refusals: list[str] = []
    for full in (True, False):
        complaint = _complaint(runtime, original, full=full)
        if complaint is None:
            if (new := runtime.check(result, full=full)) is not None:
                raise JudgeError(f"the ONNX checker accepts the input but refuses the result: {new}")
            return "accepts" if full else f"accepts, but in its full mode refuses the input itself: {refusals[0]}"
        refusals.append(complaint)
    return f"refuses the input itself: {refusals[-1]}"


def _complaint(runtime: Runtime, original: Path, *, full: bool) -> str | None:
    """What the checker has against the input; one that comes to no verdict has no say about the result either."""
    try:
        return runtime.check(original, full=full)
    except JudgeError as e:
        return str(e)
