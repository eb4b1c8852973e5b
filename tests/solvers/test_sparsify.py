"""Removal traces, SparseGPT, fits on a support and allocation, each against a direct computation."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphshrink.ir.types import Array
from graphshrink.solvers.allocation import Curve, allocate
from graphshrink.solvers.obs import removal_trace
from graphshrink.solvers.quadratic import Piece, Quadratic
from graphshrink.solvers.sparse_gpt import dearest, sparse_gpt
from tests.models import normal


def quadratic(groups: int = 2, inputs: int = 24, outputs: int = 6, rows: int = 80, seed: int = 0) -> Quadratic:
    """Correlated inputs, and targets that no weights give exactly."""
    mixing = normal(groups, inputs, inputs, seed=seed).astype(np.float64)
    x = normal(groups, rows, inputs, seed=seed + 1) @ mixing
    y = x @ normal(groups, inputs, outputs, seed=seed + 2) + 3 * normal(groups, rows, outputs, seed=seed + 3)
    turned = x.swapaxes(1, 2)
    return Quadratic(turned @ x, turned @ y, np.einsum("gpm,gpm->gm", y, y))


def surgeon(problem: Quadratic, group: int, output: int) -> tuple[list[int], list[float]]:
    """Optimal brain surgeon as it is written down: one output, the whole inverse, one weight at a time."""
    inverse, w = np.linalg.inv(problem.hessian[group]), problem.best[group, :, output].copy()
    order: list[int] = []
    costs: list[float] = []
    for _ in range(len(w)):
        saliency = np.array([np.inf if i in order else w[i] ** 2 / inverse[i, i] for i in range(len(w))])
        p = int(saliency.argmin())
        order.append(p)
        costs.append(float(saliency[p]))
        w -= inverse[:, p] * w[p] / inverse[p, p]
        inverse -= np.outer(inverse[:, p], inverse[p]) / inverse[p, p]
        w[order] = 0
    return order, costs


def errors(problem: Quadratic, weights: Array) -> float:
    return float(problem.errors(weights).sum())


@pytest.mark.parametrize("inputs", [5, 24, 60])
def test_a_trace_is_that_of_optimal_brain_surgeon(inputs: int) -> None:
    """24 and 60 inputs are cut down on the way; 5 never are."""
    problem = quadratic(inputs=inputs)
    trace = removal_trace(problem, Piece())
    for group, output in itertools.product(range(2), range(6)):
        order, costs = surgeon(problem, group, output)
        assert trace.order[group, output].tolist() == order
        np.testing.assert_allclose(trace.costs[group, output], costs, rtol=1e-6)


def test_inputs_that_are_worth_nothing_go_first() -> None:
    problem = quadratic()
    dead = [3, 4, 17]
    problem.hessian[:, dead], problem.hessian[:, :, dead], problem.cross[:, dead] = 0, 0, 0
    problem.hessian[:, dead, dead] = 1
    trace = removal_trace(problem, Piece())
    assert (np.sort(trace.order[:, :, :3]) == dead).all()
    assert not trace.costs[:, :, :3].any()
    order, costs = surgeon(problem, 1, 2)
    assert trace.order[1, 2].tolist() == order
    np.testing.assert_allclose(trace.costs[1, 2], costs, rtol=1e-6)


@pytest.mark.parametrize("piece", [Piece(), Piece(4, 1), Piece(1, 3), Piece(8, 2)])
@pytest.mark.parametrize("share", [0.25, 0.75, 1.0])
def test_costs_add_up_to_what_the_refit_loses(piece: Piece, share: float) -> None:
    problem = quadratic()
    trace = removal_trace(problem, piece)
    count = round(share * trace.order.size)
    gone = piece.spread(trace.removed(count, 24))
    assert gone.sum() == count * piece.size
    taken = sum(
        trace.costs[group, strip, : int(steps)].sum()
        for (group, strip), steps in np.ndenumerate(gone.swapaxes(1, 2)[:, :: piece.outputs].sum(2) // piece.inputs)
    )
    lost = errors(problem, problem.fitted(~gone)) - errors(problem, problem.best)
    assert lost == pytest.approx(float(taken), rel=1e-6)


@pytest.mark.parametrize("piece", [Piece(4, 1), Piece(2, 3)])
def test_the_first_block_to_go_is_the_one_that_costs_least(piece: Piece) -> None:
    problem = quadratic(groups=1)
    trace = removal_trace(problem, piece)
    for strip in range(6 // piece.outputs):
        costs: list[float] = []
        for block in range(24 // piece.inputs):
            kept = np.ones((1, 24, 6), bool)
            kept[0, block * piece.inputs :][: piece.inputs, strip * piece.outputs :][:, : piece.outputs] = False
            costs.append(errors(problem, problem.fitted(kept)) - errors(problem, problem.best))
        assert trace.order[0, strip, 0] == np.argmin(costs)
        assert trace.costs[0, strip, 0] == pytest.approx(min(costs), rel=1e-6)


@pytest.mark.parametrize("among", [(2, 4), (1, 4), (3, 6)])
def test_n_of_every_m_stay(among: tuple[int, int]) -> None:
    problem, (stay, group) = quadratic(), among
    trace = removal_trace(problem, Piece(), among)
    kept = ~trace.removed(trace.order.size, 24)
    swept, swept_kept = sparse_gpt(problem, Piece(), 1.0, among)
    for support in (kept, swept_kept, swept != 0):
        assert (support.reshape(2, 24 // group, group, 6).sum(axis=2) == stay).all()
    assert errors(problem, problem.fitted(kept)) < errors(problem, problem.fitted(swept_kept))


def test_one_trace_beats_magnitudes_at_every_density() -> None:
    problem = quadratic(seed=4)
    trace = removal_trace(problem, Piece())
    for density in (0.7, 0.5, 0.3, 0.1):
        gone = trace.removed(round((1 - density) * trace.order.size), 24)
        largest = dearest(problem.best**2, density, None)
        swept, _ = sparse_gpt(problem, Piece(), density)
        ours = errors(problem, problem.fitted(~gone))
        assert ours < errors(problem, problem.fitted(largest))
        assert ours < errors(problem, swept)


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_a_fit_is_least_squares_on_its_support(seed: int, density: float) -> None:
    problem = quadratic(seed=seed % 7)
    support = np.random.default_rng(seed).random((2, 24, 6)) < density
    support[0, :, 0] = False
    found = problem.fitted(support)
    assert not found[~support].any()
    for group, output in itertools.product(range(2), range(6)):
        kept = support[group, :, output]
        hessian = problem.hessian[group][np.ix_(kept, kept)]
        best = np.linalg.solve(hessian, problem.cross[group, kept, output])
        np.testing.assert_allclose(found[group, kept, output], best, rtol=1e-6, atol=1e-9)


def test_sparse_gpt_loses_what_its_costs_say() -> None:
    """Within one block the costs of what went are the whole loss: each is made up for by the inputs behind it."""
    problem = quadratic(groups=1)
    weights, kept = sparse_gpt(problem, Piece(), 0.4)
    assert kept.mean() == pytest.approx(0.4, abs=0.01)
    assert not weights[~kept].any()
    assert errors(problem, problem.fitted(kept)) <= errors(problem, weights) * (1 + 1e-9)
    first = np.zeros((1, 24, 6), bool)
    first[0, 0] = True  # only the first input may go: the rest is then the best there is
    only = Quadratic(problem.hessian, problem.cross.copy(), problem.energy)
    tiny = only.best
    tiny[0, 0] *= 1e-6
    shrunk = Quadratic(only.hessian, only.hessian @ tiny, only.energy)
    weights, kept = sparse_gpt(shrunk, Piece(), 23 / 24)
    assert (kept == ~first).all()
    np.testing.assert_allclose(weights, shrunk.fitted(kept), rtol=1e-6, atol=1e-9)


def test_sparse_gpt_decides_block_by_block() -> None:
    problem = quadratic(groups=1)
    for block in (4, 8, 24):
        _, kept = sparse_gpt(problem, Piece(2, 1), 0.5, block=block)
        shares = kept.reshape(24 // block, -1).mean(axis=1)
        np.testing.assert_allclose(shares, 0.5)


# ---- allocation


def brute_force(curves: list[Array], total: int) -> float:
    choices = itertools.product(*(range(len(curve)) for curve in curves))
    enough = (choice for choice in choices if sum(choice) >= total)
    return min(float(sum(c[i] for c, i in zip(curves, choice, strict=True))) for choice in enough)


@given(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=5), min_size=1, max_size=3), st.floats(0, 1))
def test_the_cheapest_removals_of_all_layers(steps: list[list[float]], share: float) -> None:
    costs = [np.sort(np.array(one)) for one in steps]
    curves = [Curve.of(one) for one in costs]
    total = int(share * sum(map(len, costs)))
    found = allocate(curves, total, [float(len(one)) for one in costs])
    assert sum(found) == pytest.approx(total)
    cost = sum(np.interp(gone, curve.removed, curve.cost) for gone, curve in zip(found, curves, strict=True))
    assert cost <= brute_force([curve.cost for curve in curves], total) + 1e-9


def test_no_layer_gives_more_than_it_may() -> None:
    free, dear = Curve.of(np.zeros(10)), Curve.of(np.ones(10))
    assert allocate([free, dear], 10, [8.0, 10.0]) == [8.0, 2.0]
    assert allocate([free, dear], 30, [8.0, 10.0]) == [8.0, 10.0]


def test_a_curve_that_bends_back_is_replaced_by_its_hull() -> None:
    curve = Curve(np.array([0.0, 1, 2, 3]), np.array([0.0, 5, 4, 6]))
    removed, cost = curve.convex
    assert (removed.tolist(), cost.tolist()) == ([0.0, 3.0], [0.0, 6.0])


def test_how_much_goes_for_a_budget() -> None:
    curve = Curve.of(np.array([1.0, 2.0, 3.0]), 4)
    assert [curve.within(budget) for budget in (0.0, 1.0, 2.0, 6.0, 9.0)] == [0.0, 4.0, 6.0, 12.0, 12.0]
    assert Curve.of(np.zeros(3)).within(0.0) == 3.0
