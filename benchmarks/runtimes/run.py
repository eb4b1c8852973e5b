"""A Python runtime at work: `python -m benchmarks.runtimes.run RUNTIME JOBS ANSWERS FOLDER`; see `jobs`.

Only NumPy and the runtime itself are needed, so that it runs in the runtime's own environment. Each function takes the
path of a model and its inputs by name, and returns the outputs in the model's order.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from benchmarks.runtimes.jobs import Array, answer_line, read_jobs, write_tensor

Run: TypeAlias = Callable[[str, Mapping[str, Array]], list[Array]]

_LONGEST_REASON: Final = 300  # characters


def _onnx_runtime(level: str, model: str, feeds: Mapping[str, Array]) -> list[Array]:
    ort: Any = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found: list[Array] = session.run(None, dict(feeds))
    return found


def _reference(model: str, feeds: Mapping[str, Array]) -> list[Array]:
    evaluator: Any = importlib.import_module("onnx.reference").ReferenceEvaluator(model, new_ops=[_laid_out()])
    found: list[Array] = evaluator.run(None, dict(feeds))
    return found


def _laid_out() -> type:
    """MatMul as the reference has it, of operands that lie row by row: on some processors NumPy sums others otherwise.

    Which of its arrays lie column by column is the reference's affair, and differs between a weight and a decoded one.
    """
    base: Any = importlib.import_module("onnx.reference.op_run").OpRun

    class MatMul(base):  # type: ignore[misc]
        op_domain = ""

        def _run(self, a: Array, b: Array) -> tuple[Array]:
            return (np.matmul(np.ascontiguousarray(a), np.ascontiguousarray(b)),)

    return MatMul


def _openvino(model: str, feeds: Mapping[str, Array]) -> list[Array]:
    openvino: Any = importlib.import_module("openvino")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU")
    found = compiled(dict(feeds))
    return [found[output] for output in compiled.outputs]


RUNTIMES: Final[Mapping[str, Run]] = {
    "onnxruntime-off": partial(_onnx_runtime, "ORT_DISABLE_ALL"),
    "onnxruntime-basic": partial(_onnx_runtime, "ORT_ENABLE_BASIC"),
    "onnxruntime-extended": partial(_onnx_runtime, "ORT_ENABLE_EXTENDED"),
    "onnxruntime-all": partial(_onnx_runtime, "ORT_ENABLE_ALL"),
    "onnx.reference": _reference,
    "openvino": _openvino,
}


def main(runtime: str, jobs: str, answers: str, folder: str) -> None:
    """Do all jobs."""
    run = RUNTIMES[runtime]
    with Path(answers).open("a", encoding="utf-8") as file:
        for number, job in enumerate(read_jobs(Path(jobs))):
            try:
                arrays = run(job.model, {tensor.name: tensor.read() for tensor in job.inputs})
                named = zip(job.outputs, arrays, strict=True)
                held = [write_tensor(name, a, Path(folder) / f"{number}.{i}.bin") for i, (name, a) in enumerate(named)]
            except Exception as e:  # whatever it is, it is the runtime's word on this model
                file.write(answer_line(job.name, (), _one_line(e)))
            else:
                file.write(answer_line(job.name, held))
            file.flush()


def _one_line(e: Exception) -> str:
    return f"{type(e).__name__}: {' '.join(str(e).split())}"[:_LONGEST_REASON]


if __name__ == "__main__":
    main(*sys.argv[1:])
