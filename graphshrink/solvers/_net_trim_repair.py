"""The last step: weights that break some inequalities by a little are moved by as little as keeps them.

Iterations bring an average residual down fast, and the worst of millions of inequalities slowly. So for each neuron by
itself the broken ones are made equalities: the weights that are not zero (and the bias) move by the least squares of
the change in the layer's output over all samples; where a neuron has so many weights that this would take long, inputs
count as uncorrelated. What is broken anew joins the equalities in the next round.
"""

from typing import Final

import numpy as np
from scipy.linalg import cho_factor, cho_solve, lstsq

from graphshrink.ir.types import Array
from graphshrink.solvers._net_trim_problem import BREACH, Problem, excess, output_of

_ROUNDS: Final = 15
_ENOUGH: Final = 0.5  # of the breach that is allowed
_WORTH: Final = 2.0  # steps of ADMM that the exact change of a neuron may take
_RIDGE: Final = 1e-7  # of the trace of X^T X, as much as its rounding: inputs that say the same make it indefinite


def repaired(problem: Problem, weights: Array, bias: Array | None, gram: Array) -> tuple[Array, Array | None]:
    """Weights and bias with the same zeros that keep the inequalities, as far as their freedom goes.

    `gram` is X^T X, with the bias's row and column where there is a bias.
    """
    found, moved = weights.copy(), np.zeros(problem.shape[2]) if bias is None else bias.astype(np.float64)
    held: dict[int, Array] = {}
    columns = np.arange(problem.shape[2])
    for _ in range(_ROUNDS):
        broken = broken_rows(problem, found, moved, columns)
        if not broken:
            break
        for column, rows in broken.items():
            held[column] = np.union1d(held.get(column, rows[:0]), rows)
            before = weights[:, column], 0.0 if bias is None else float(bias[column])
            found[:, column], moved[column] = _held(problem, column, held[column], before, gram)
        columns = np.array(sorted(broken))
    return found, None if bias is None else moved


def broken_rows(problem: Problem, weights: Array, bias: Array | None, columns: Array) -> dict[int, Array]:
    """The rows in which each of some neurons breaks an inequality by too much."""
    limit = _ENOUGH * BREACH * problem.scale()
    fitting = weights[:, columns].astype(problem.inputs.dtype)
    rows_of: dict[int, list[Array]] = {}
    for rows in problem.blocks():
        output = output_of(problem, rows, fitting, None if bias is None else bias[columns])
        over = excess(output - problem.target[rows, columns], problem.kind[rows, columns]) > limit
        for position in np.flatnonzero(over.any(axis=0)):
            rows_of.setdefault(int(columns[position]), []).append(np.flatnonzero(over[:, position]) + rows.start)
    return {column: np.concatenate(parts) for column, parts in rows_of.items()}


def _held(problem: Problem, column: int, rows: Array, before: tuple[Array, float], gram: Array) -> tuple[Array, float]:
    """One neuron's weights and bias, moved so that some rows reach their bounds."""
    weights, bias = before
    chosen = np.flatnonzero(weights)
    active = problem.inputs[np.ix_(rows, chosen)].astype(np.float64)
    missing = problem.target[rows, column] - active @ weights[chosen] - bias
    if problem.bias:
        active = np.hstack([active, np.ones((len(rows), 1))])
        chosen = np.append(chosen, len(weights))
    if chosen.size == 0:
        return weights, bias
    reach = _reach(problem, gram, chosen, active)
    whole = np.zeros(len(weights) + 1)
    whole[chosen] = reach @ lstsq(active @ reach, missing, cond=1e-10)[0]
    return weights + whole[:-1], bias + float(whole[-1])


def _reach(problem: Problem, gram: Array, chosen: Array, active: Array) -> Array:
    """(X^T X)^-1 times the transposed rows, both over the chosen weights, or its diagonal instead."""
    samples, inputs, _ = problem.shape
    ridge = _RIDGE * float(np.trace(gram) or 1.0)
    if len(chosen) ** 3 > _WORTH * 12.0 * samples * inputs:  # a factor takes a third of the cube, a step 4 P N
        diagonal: Array = np.diag(gram)[chosen, np.newaxis]
        return active.T / (diagonal + ridge)
    metric = gram[np.ix_(chosen, chosen)] + ridge * np.eye(len(chosen))
    return cho_solve(cho_factor(metric, lower=True), active.T)
