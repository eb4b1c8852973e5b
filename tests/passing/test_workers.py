"""Work on threads and on a Dask cluster: answers in order, whoever is lost on the way."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import ClassVar

import numpy as np
import onnx
import pytest
import threadpoolctl
from onnx import helper, numpy_helper

import graphshrink
from graphshrink.errors import GraphshrinkError, UsageError
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.onnx_io.load import load
from graphshrink.passing import workers as module
from graphshrink.passing.base import Context, Pass, PassResult
from graphshrink.passing.pipeline import run_passes
from graphshrink.passing.workers import workers
from tests.models import model_of
from tests.passing.cluster import deadly, refusing, slowly

ROOT = Path(__file__).parents[2]


@contextmanager
def started() -> Generator[tuple[str, list[int], "subprocess.Popen[str]"]]:
    """The address of a cluster, the processes of its workers, and its own."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command, own = [sys.executable, "-m", "tests.passing.cluster"], {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(
        command, cwd=ROOT, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        address, *pids = process.stdout.readline().split()
        yield address, [int(pid) for pid in pids], process
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, list[int]]]:
    """The address of a cluster, and the processes of its workers."""
    with started() as (address, pids, _):
        yield address, pids


@pytest.mark.parametrize("jobs", [1, 3])
def test_threads_answer_in_order(jobs: int) -> None:
    with workers(jobs) as crew:
        assert crew.compute(abs, [-3, 2, -1]) == [3, 2, 1]


def test_work_of_a_killed_worker_is_done_by_another(cluster: tuple[str, list[int]]) -> None:
    address, pids = cluster
    with workers(1, address) as crew:
        killer = Timer(0.5, lambda: os.kill(pids[0], signal.SIGKILL))
        killer.start()
        answers = crew.compute(slowly, range(12))
        killer.join()
    assert [number for number, _ in answers] == list(range(12))
    assert pids[1] in {pid for _, pid in answers}


def small_network(folder: Path) -> tuple[Path, Path]:
    """Two layers, and inputs that say little more than a few numbers each, so that most weights can go."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
    ]
    held = {"v": rng.standard_normal((20, 12)), "w": rng.standard_normal((12, 4))}
    weights = {name: array.astype(np.float32) for name, array in held.items()}
    onnx.save(model_of(nodes, weights, {"x": ["n", 20]}, {"y": ["n", 4]}), folder / "model.onnx")
    inputs = rng.standard_normal((80, 3)) @ rng.standard_normal((3, 20))
    np.savez(folder / "inputs.npz", x=inputs.astype(np.float32))
    return folder / "model.onnx", folder / "inputs.npz"


def initializers(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_the_same_weights_from_a_cluster(cluster: tuple[str, list[int]], tmp_path: Path) -> None:
    """But for the last bits: Dask gives each worker one thread for its matrix products."""
    model, inputs = small_network(tmp_path)
    passes = "net-trim{epsilon=0.05}"
    here, there = (
        initializers(graphshrink.compile(model, passes, calibration=inputs, encoding="plain", cluster=address).model)
        for address in (None, cluster[0])
    )
    assert not all(array.all() for array in here.values())
    assert here.keys() == there.keys()
    for label, array in here.items():
        assert np.array_equal(array == 0, there[label] == 0)
        np.testing.assert_allclose(there[label], array, rtol=1e-4, atol=1e-6)


@dataclass(frozen=True)
class Counting(Pass):
    """Says how many threads a matrix product would use."""

    name: ClassVar[str] = "counting"
    buys: ClassVar[str] = "nothing"
    seen: ClassVar[list[int]] = []

    def run(self, graph: Graph, context: Context) -> PassResult:
        self.seen.extend(pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas")
        return PassResult()


def test_passes_multiply_with_one_thread(tmp_path: Path) -> None:
    model, _ = small_network(tmp_path)
    with threadpoolctl.threadpool_limits(limits=2, user_api="blas"):
        run_passes(load(model), [Counting()], Context(), None)
    assert set(Counting.seen) == {1}


def test_what_fails_there_fails_here(cluster: tuple[str, list[int]]) -> None:
    with workers(1, cluster[0]) as crew, pytest.raises(ArithmeticError):
        crew.compute(refusing, [1, 2])


def test_work_that_kills_its_workers_is_given_up(cluster: tuple[str, list[int]]) -> None:
    with workers(1, cluster[0]) as crew, pytest.raises(GraphshrinkError, match="--cluster"):
        crew.compute(deadly, [1])


def test_nobody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 1)
    with pytest.raises(GraphshrinkError, match="--cluster") as caught, workers(1, "tcp://127.0.0.1:1"):
        pass
    assert not isinstance(caught.value, UsageError)


def test_no_address() -> None:
    with pytest.raises(UsageError), workers(1, "somewhere"):
        pass


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match="pip install"), workers(1, "tcp://127.0.0.1:1"):
        pass


def test_the_scheduler_is_lost() -> None:
    with started() as (address, pids, process):
        with workers(1, address) as crew:
            killer = Timer(0.5, process.kill)
            killer.start()
            with pytest.raises(GraphshrinkError, match="--cluster"):
                crew.compute(slowly, range(200))
            killer.join()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
