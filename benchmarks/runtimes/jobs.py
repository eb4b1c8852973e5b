"""What the benchmark and the runtimes tell each other, through files: models to run, and the bits that came out.

A runtime is a process: it reads jobs from a JSON file, and appends one line of JSON to a file of answers for each job
as soon as that is done, so that a crash costs one job. Tensors travel as raw bytes in files of their own; types have
the names that NumPy gives them. Only NumPy is needed here, because this also runs where graphshrink is not installed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class TensorFile:
    """A tensor whose bytes lie in a file of their own."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str

    def content(self) -> bytes:
        """The elements, little-endian."""
        return Path(self.file).read_bytes()

    def read(self) -> Array:
        """The tensor; writable, as OpenVINO wants it."""
        return np.frombuffer(bytearray(self.content()), self.dtype).reshape(self.shape)


def write_tensor(name: str, array: Array, file: Path) -> TensorFile:
    """Write a tensor's bytes."""
    file.write_bytes(np.ascontiguousarray(array).tobytes())
    return TensorFile(name, str(array.dtype), tuple(map(int, array.shape)), str(file))


@dataclass(frozen=True, slots=True)
class Job:
    """A model to run once.

    Attributes:
        name: of the job, unique.
        model: path of the file.
        inputs: what to feed.
        outputs: names of its outputs, in the model's order.
    """

    name: str
    model: str
    inputs: tuple[TensorFile, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a job: its outputs by name, or why the runtime refused it."""

    outputs: Mapping[str, TensorFile]
    refused: str | None = None


def write_jobs(jobs: Sequence[Job], file: Path) -> None:
    """Write what a runtime is to do."""
    file.write_text(json.dumps([asdict(job) for job in jobs]), encoding="utf-8")


def read_jobs(file: Path) -> list[Job]:
    """Read what a runtime is to do."""
    return [
        Job(job["name"], job["model"], tuple(map(_tensor_file, job["inputs"])), tuple(job["outputs"]))
        for job in json.loads(file.read_text(encoding="utf-8"))
    ]


def answer_line(job: str, outputs: Sequence[TensorFile], refused: str | None = None) -> str:
    """One line of the file of answers."""
    return json.dumps({"job": job, "outputs": [asdict(output) for output in outputs], "refused": refused}) + "\n"


def read_answers(file: Path) -> dict[str, Answer]:
    """Answers by the name of the job; a line that a crash cut short is none."""
    answers: dict[str, Answer] = {}
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
    for line in lines:
        if line.endswith("\n"):
            held = json.loads(line)
            outputs = map(_tensor_file, held["outputs"])
            answers[held["job"]] = Answer({output.name: output for output in outputs}, held["refused"])
    return answers


def _tensor_file(held: Mapping[str, Any]) -> TensorFile:
    return TensorFile(held["name"], held["dtype"], tuple(held["shape"]), held["file"])
