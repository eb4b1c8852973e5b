"""The baseline: Net-Trim's ADMM as published, with rho = 1 all the way (arXiv:1806.06457, and its authors' code).

Data are divided by c = 0.3 sqrt(max X X^T), one factor is computed once, and there is no over-relaxation. A bias is a
row of ones whose weights are not thresholded, so that the program is the same as ours.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from graphshrink.ir.types import Array
from graphshrink.solvers.net_trim import AT_LEAST, AT_MOST, EQUAL, Problem


class State(NamedTuple):
    """Where it is: iterations and seconds so far, and the l1 norm."""

    iterations: int
    seconds: float
    objective: float


def plain_admm(problem: Problem, rho: float = 1.0, look: int = 10) -> Iterator[State]:
    """Iterate for ever; the state after each few iterations."""
    started = time.process_time()
    samples, inputs, neurons = problem.shape
    ones = np.ones((samples, int(problem.bias)), problem.inputs.dtype)
    x = np.hstack([problem.inputs, ones])
    gram = (x.T @ x).astype(np.float64)
    size = 0.3 * float(np.sqrt(gram.max()))
    x = x / x.dtype.type(size)
    target, epsilon = problem.target / x.dtype.type(size), problem.epsilon / size
    factor = cho_factor(gram / size**2 + np.eye(len(gram)), lower=True)
    equal, most, least = (problem.kind == kind for kind in (EQUAL, AT_MOST, AT_LEAST))
    outputs = np.zeros((samples, neurons), x.dtype)
    dual_outputs = np.zeros_like(outputs)
    dense, weights, dual_weights = np.zeros((3, x.shape[1], neurons))
    threshold = np.where(np.arange(x.shape[1]) < inputs, 1 / rho, 0.0)[:, np.newaxis]
    iterations = 0
    while True:
        reached = x @ dense.astype(x.dtype) - dual_outputs
        difference = np.where(equal, reached - target, 0)
        norm = float(np.linalg.norm(difference))
        outputs = np.where(equal, target + difference * min(1.0, epsilon / max(norm, 1e-30)), reached)
        np.minimum(outputs, target, out=outputs, where=most)
        np.maximum(outputs, target, out=outputs, where=least)
        weights = _soft(dense - dual_weights, threshold)
        dense = cho_solve(factor, x.T @ (outputs + dual_outputs) + weights + dual_weights)
        dual_outputs += outputs - x @ dense.astype(x.dtype)
        dual_weights += weights - dense
        iterations += 1
        if iterations % look == 0:
            yield State(iterations, time.process_time() - started, float(np.abs(weights[:inputs]).sum()))


def _soft(values: Array, threshold: Array) -> Array:
    shrunk: Array = np.sign(values) * np.maximum(np.abs(values) - threshold, 0.0)
    return shrunk
