"""Letting a runtime, a process of its own, do all jobs; a job that takes the process down costs itself alone."""

import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks.measuring import ROOT
from benchmarks.runtimes.cases import Case
from benchmarks.runtimes.jobs import Answer, Job, answer_line, read_answers, write_jobs
from benchmarks.runtimes.verdict import Outcome, Verdict, judge

Command: TypeAlias = Sequence[str]
"""What starts a runtime; paths of the jobs, the answers and a folder for tensors are appended."""

_SECONDS: Final = 1200  # for all jobs of a runtime
_MOST_CRASHES: Final = 20  # then something else is wrong


def try_all(cases: Sequence[Case], command: Command, *, portable: bool, folder: Path) -> list[Verdict]:
    """Run the plain and the encoded model of every case, and the unfolded one where these two differ.

    Args:
        cases: what to try.
        command: the runtime.
        portable: whether it gets files without model-local functions.
        folder: an empty one for what it writes.
    """
    wanted = {case.name: case.portable if portable else case.encoded for case in cases}
    models = ((case, path) for case in cases for path in (case.plain, wanted[case.name]))
    answers = run_jobs(_jobs(models), command, folder / "first")
    verdicts = [judge(case, answers[case.plain], answers[wanted[case.name]]) for case in cases]
    again = [verdict.case for verdict in verdicts if verdict.outcome == Outcome.UNEQUAL]
    unfolded = run_jobs(_jobs((case, case.unfolded) for case in again), command, folder / "second")
    second = {
        case.name: judge(case, answers[case.plain], answers[wanted[case.name]], unfolded[case.unfolded])
        for case in again
    }
    return [second.get(verdict.case.name, verdict) for verdict in verdicts]


def _jobs(models: Iterable[tuple[Case, str]]) -> list[Job]:
    """Each model once, though several cases may have it."""
    return list({path: Job(path, path, case.inputs, case.outputs) for case, path in models}.values())


def run_jobs(jobs: Sequence[Job], command: Command, folder: Path) -> dict[str, Answer]:
    """Answers by the name of the job."""
    folder.mkdir(parents=True)
    answers_file = folder / "answers.jsonl"
    for attempt in range(_MOST_CRASHES):
        answers = read_answers(answers_file)
        left = [job for job in jobs if job.name not in answers]
        if not left:
            return answers
        round_folder = folder / str(attempt)
        round_folder.mkdir()
        write_jobs(left, round_folder / "jobs.json")
        ended = _run([*command, str(round_folder / "jobs.json"), str(answers_file), str(round_folder)])
        _blame_first(left, answers_file, ended)
    raise RuntimeError(f"{' '.join(command)} ended {_MOST_CRASHES} times before its work was done")


def _blame_first(jobs: Sequence[Job], answers_file: Path, ended: str) -> None:
    """Where a process ended before its work was done, the job that it was at is answered with that."""
    answers = read_answers(answers_file)
    at = next((job for job in jobs if job.name not in answers), None)
    if at is not None:
        whole = answers_file.read_bytes() if answers_file.exists() else b""
        answers_file.write_bytes(whole[: whole.rfind(b"\n") + 1] + answer_line(at.name, (), ended).encode())


def _run(command: Command) -> str:
    """How a process ended, in one line."""
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        try:
            code = subprocess.run(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, timeout=_SECONDS, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            return f"gave no answer within {_SECONDS} s"
        errors.seek(0)
        said = errors.read().split("\n")
    return f"the process ended with {code}: {' '.join(said[-4:]).strip()[-300:]}"
