"""Opening a model in ONNX Runtime, alone in a process; imports as little as possible, since memory is measured."""

import os
import time

import onnxruntime as ort

from benchmarks.measuring import Peak


def open_session(path: str, first: str) -> dict[str, float]:
    """Seconds of creating a session with one thread, and the process's peak memory.

    Args:
        path: of the model.
        first: of a small model that is opened before the clock starts, for what ONNX Runtime does once a process.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    ort.InferenceSession(first, options, providers=["CPUExecutionProvider"])
    started = time.perf_counter()
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    seconds = time.perf_counter() - started
    peak = Peak()
    peak.look(os.getpid())
    del session
    return {"seconds": seconds, "resident_bytes": peak.resident}
