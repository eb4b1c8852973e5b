"""A whole layer by ADMM, beside the full program and plain ADMM."""

import time
from dataclasses import replace
from typing import Any, Final

import numpy as np

from benchmarks.measuring import Request, table
from benchmarks.net_trim.full_program import full_program
from benchmarks.net_trim.plain_admm import State, plain_admm
from benchmarks.net_trim.problems import digits, lenet_layer, rectified
from graphshrink.solvers.net_trim import Problem, solve

_SAMPLES, _SAMPLES_SHORT = 10_000, 400
_SHARE: Final = 0.1
_NEURONS: Final = (0, 60, 120, 180, 240)
_BAR_FULL, _BAR_PLAIN = 100.0, 3.0
_NEAR: Final = 1e-3
_PATIENCE: Final = 4.0  # times our seconds


def speed(asked: Request) -> dict[str, Any]:
    """LeNet-300-100's first layer: 784 inputs and the bias, 300 neurons."""
    inputs, outputs = lenet_layer(0, digits(_SAMPLES_SHORT if asked.short else _SAMPLES, asked.short))
    problem = rectified(inputs, outputs[:, ::10] if asked.short else outputs, _SHARE)
    asked.note("our ADMM")
    started = time.process_time()
    found = solve(problem, "admm")
    ours = time.process_time() - started
    asked.note(f"{ours:.1f} s, gap {found.gap:.1e}; plain ADMM")
    plain = _until_near(problem, found.objective, ours * _PATIENCE)
    asked.note(f"{plain.seconds:.1f} s; the full program")
    each = [_one_neuron(problem, column) for column in ((0, 10) if asked.short else _NEURONS)]
    whole = float(np.mean([one["seconds"] for one in each])) * problem.shape[2]
    near = abs(plain.objective / found.objective - 1) <= _NEAR
    lines = [
        ("ours", f"{ours:.1f}", found.iterations, f"{found.objective:.2f}", 1),
        (
            "plain ADMM, rho 1",
            f"{plain.seconds:.1f}",
            plain.iterations,
            f"{plain.objective:.2f}",
            f"{plain.seconds / ours:.1f}",
        ),
        ("full program, from some neurons", f"{whole:.0f}", "-", "-", f"{whole / ours:.0f}"),
    ]
    print(
        f"\nA layer of {problem.shape[1]} inputs and a bias, {problem.shape[2]} neurons, {problem.shape[0]:,} samples"
    )
    print(table(("solver", "CPU seconds", "iterations", "objective", "times ours"), lines))
    print(f"certified gap {found.gap:.1e}, breach {found.violation:.1e}; {found.reason or 'converged'}")
    print(f"worst distance of one-neuron optima: {max(one['apart'] for one in each):.1e}")
    if not near:
        print("plain ADMM was broken off before it came near, so it takes longer than that")
    print(f"bar full / ours >= {_BAR_FULL:g}: {asked.verdict(_BAR_FULL * ours, whole)}")
    print(f"bar plain / ours >= {_BAR_PLAIN:g}: {asked.verdict(_BAR_PLAIN * ours, plain.seconds)}")
    return {
        "shape": problem.shape,
        "ours_seconds": ours,
        "iterations": found.iterations,
        "objective": found.objective,
        "gap": found.gap,
        "violation": found.violation,
        "density": float(np.mean(found.weights != 0)),
        "plain": {**plain._asdict(), "near": near},
        "full": each,
        "full_layer_seconds": whole,
    }


def _until_near(problem: Problem, objective: float, patience: float) -> State:
    """Plain ADMM until its objective is that of ours; its constraints need not hold by then."""
    state = State(0, 0.0, 0.0)
    for state in plain_admm(problem):
        if abs(state.objective / objective - 1) <= _NEAR or state.seconds > patience:
            break
    return state


def _one_neuron(problem: Problem, column: int) -> dict[str, Any]:
    """The full program for one neuron with its share of epsilon, and both our solvers beside it."""
    part = slice(column, column + 1)
    alone = replace(problem, target=problem.target[:, part], kind=problem.kind[:, part], epsilon=0.0)
    alone = replace(alone, epsilon=_SHARE * alone.norm())
    optimum = full_program(alone)
    started = time.process_time()
    reduced = solve(alone, "cvxpy")
    reduced_seconds = time.process_time() - started
    admm = solve(alone, "admm")
    apart = max(abs(one.objective / optimum.value - 1) for one in (reduced, admm))
    return {
        "neuron": column,
        "seconds": optimum.seconds,
        "value": optimum.value,
        "reduced_seconds": reduced_seconds,
        "apart": apart,
    }
