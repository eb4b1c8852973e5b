"""The baseline: Net-Trim's program as it is written down, in cvxpy, at Clarabel's defaults."""

import time
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from graphshrink.solvers.net_trim import AT_LEAST, AT_MOST, EQUAL, Problem


class Optimum(NamedTuple):
    """What cvxpy found.

    Attributes:
        value: the l1 norm; infinite where there is no solution.
        seconds: of the processor, for stating and solving.
    """

    status: str
    value: float
    seconds: float


def full_program(problem: Problem) -> Optimum:
    """State all rows and solve."""
    cvxpy: Any = import_module("cvxpy")
    started = time.process_time()
    samples, inputs, neurons = problem.shape
    weights = cvxpy.Variable((inputs, neurons))
    output = problem.inputs.astype(np.float64) @ weights
    if problem.bias:
        output = output + np.ones((samples, 1)) @ cvxpy.Variable((1, neurons))
    residual = output - problem.target
    constraints: list[Any] = []
    for kind, sign in ((AT_MOST, 1.0), (AT_LEAST, -1.0)):
        if (problem.kind == kind).any():
            constraints.append(sign * residual[np.nonzero(problem.kind == kind)] <= 0)
    constraints.append(cvxpy.norm(residual[np.nonzero(problem.kind == EQUAL)]) <= problem.epsilon)
    whole = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(cvxpy.abs(weights))), constraints)
    whole.solve(solver="CLARABEL")
    return Optimum(str(whole.status), float(whole.value), time.process_time() - started)
