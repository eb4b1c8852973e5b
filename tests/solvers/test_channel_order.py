"""Orders of channels, each against a direct computation, and what they cost against a fit."""

import itertools
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphshrink.errors import InternalError
from graphshrink.ir.types import Array
from graphshrink.solvers._channel_group_lasso import GroupLasso
from graphshrink.solvers._channel_lasso import Knot, lasso_path
from graphshrink.solvers._channel_problem import contributions
from graphshrink.solvers.channel_order import (
    CRITERIA,
    ChannelGroup,
    Consumer,
    channel_order,
    masked_costs,
    obs,
    repaired_costs,
    repaired_weights,
)
from tests.models import normal

CHANNELS = 6
cp: Any = import_module("cvxpy")


def samples(owner: Array, outputs: int, rows: int = 120, seed: int = 0) -> tuple[Array, Array, Array]:
    """Correlated inputs X (groups, P, N), targets Y that no weights give exactly, and present weights."""
    groups, inputs = owner.shape
    mixing = normal(groups, inputs, inputs, seed=seed).astype(np.float64)
    x = normal(groups, rows, inputs, seed=seed + 1) @ mixing + normal(groups, rows, 1, seed=seed + 4)
    weights = normal(groups, inputs, outputs, seed=seed + 2).astype(np.float64)
    return x, x @ weights + 2 * normal(groups, rows, outputs, seed=seed + 3), weights


def consumer(owner: Array, outputs: int, seed: int = 0) -> Consumer:
    x, y, weights = samples(np.atleast_2d(owner), outputs, seed=seed)
    turned = x.swapaxes(1, 2)
    return Consumer(turned @ x, turned @ y, weights, float(np.square(y).sum()), owner)


def group_of(seed: int = 0) -> ChannelGroup:
    """Three taps a channel; one input a channel with strangers, in two groups; and some channels alone, unevenly."""
    taps = np.repeat(np.arange(CHANNELS), 3)
    mixed = np.array([[0, 1, -1, 2], [5, 4, 3, -1]])
    uneven = np.array([3, 3, 0, -1, 1, 3, 0])
    consumers = [consumer(taps, 4, seed), consumer(mixed, 3, seed + 10), consumer(uneven, 5, seed + 20)]
    return ChannelGroup(CHANNELS, consumers, [normal(CHANNELS, 7, seed=seed), normal(CHANNELS, 2, 3, 3, seed=seed + 1)])


def error(consumer: Consumer, weights: Array) -> float:
    quadratic = np.einsum("gnm,gnm->", weights, consumer.hessian @ weights - 2 * consumer.cross)
    return float(quadratic) / consumer.energy


def fitted(consumer: Consumer, gone: list[int]) -> Array:
    """Least squares on the inputs that stay, written down."""
    found = np.zeros(consumer.cross.shape)
    owners = np.broadcast_to(consumer.owner, consumer.cross.shape[:2])
    for index, owner in enumerate(owners):
        stay = np.flatnonzero(~np.isin(owner, gone))
        hessian = consumer.hessian[index][np.ix_(stay, stay)]
        found[index, stay] = np.linalg.solve(hessian, consumer.cross[index, stay])
    return found


def rise(group: ChannelGroup, gone: list[int]) -> float:
    return sum(error(c, fitted(c, gone)) - error(c, fitted(c, [])) for c in group.consumers)


@pytest.mark.parametrize("criterion", sorted(CRITERIA))
def test_an_order_has_every_channel_and_costs_what_the_fit_loses(criterion: str) -> None:
    group = group_of()
    removed, cost = channel_order(group, criterion)
    assert sorted(removed.tolist()) == list(range(CHANNELS))
    expected = [rise(group, removed[:count].tolist()) for count in range(1, CHANNELS + 1)]
    np.testing.assert_allclose(cost, expected, rtol=1e-8)
    assert (np.diff(cost) >= 0).all()
    again = channel_order(group, criterion)
    assert again.removed.tobytes() == removed.tobytes()
    assert again.cost.tobytes() == cost.tobytes()


@given(st.integers(0, 50), st.permutations(range(CHANNELS)), st.integers(0, CHANNELS))
def test_costs_of_any_choice_are_those_of_its_fit(seed: int, channels: list[int], count: int) -> None:
    group = group_of(seed)
    some = np.array(channels[:count], np.intp)
    np.testing.assert_allclose(repaired_costs(group.consumers, some, [0, count]), [0, rise(group, channels[:count])])
    kept = ~np.isin(np.arange(CHANNELS), some)
    for layer in group.consumers:
        np.testing.assert_allclose(repaired_weights(layer, kept), fitted(layer, channels[:count]), rtol=1e-6, atol=1e-9)


def test_masked_costs_are_the_energy_of_what_is_gone() -> None:
    group = group_of()
    removed = np.array([4, 0, 2])
    for count, cost in enumerate(masked_costs(group, removed), 1):
        lost = 0.0
        for layer in group.consumers:
            gone = np.isin(np.broadcast_to(layer.owner, layer.cross.shape[:2]), removed[:count])
            masked = layer.weights * gone[:, :, None]
            lost += float(np.einsum("gnm,gnm->", masked, layer.hessian @ masked)) / layer.energy
        assert cost == pytest.approx(lost, rel=1e-9)


def greedily(group: ChannelGroup, price: Callable[[ChannelGroup, list[int]], float]) -> list[int]:
    gone: list[int] = []
    while len(gone) < group.channels:
        left = [channel for channel in range(group.channels) if channel not in gone]
        gone.append(min(left, key=lambda channel: price(group, [*gone, channel])))
    return gone


@pytest.mark.parametrize("seed", range(8))
def test_obs_is_greedy_by_the_fit(seed: int) -> None:
    group = group_of(seed)
    assert obs(group, step=1).tolist() == greedily(group, rise)


def masked(group: ChannelGroup, gone: list[int]) -> float:
    return float(masked_costs(group, np.array(gone))[-1])


@pytest.mark.parametrize("seed", range(8))
def test_thinet_is_greedy_by_the_energy_of_what_is_gone(seed: int) -> None:
    group = group_of(seed)
    assert CRITERIA["greedy"](group).tolist() == greedily(group, masked)


def wide(seed: int, channels: int = 96) -> ChannelGroup:
    taps = consumer(np.repeat(np.arange(channels), 2), 5, seed)
    return ChannelGroup(channels, [taps, consumer(np.arange(channels), 9, seed + 5)])


@pytest.mark.parametrize("step", [2, 6, 24, 96])
def test_several_channels_a_step_cost_hardly_more(step: int) -> None:
    """Summed over all numbers of channels; 5 % is some five times what is found."""
    for seed in range(3):
        group = wide(seed)
        exact, quick = (repaired_costs(group.consumers, obs(group, step=s)) for s in (1, step))
        assert quick.sum() < 1.05 * exact.sum()


def test_copies_do_not_go_together() -> None:
    """Every channel is there twice, so half of them cost nothing: one of each pair."""
    channels = 64
    x, _, weights = samples(np.arange(channels // 2)[None], 8)
    x = np.concatenate([x[0], x[0]], axis=1)
    weights = np.concatenate([weights, weights], axis=1)
    y = x @ weights[0]
    gram = x.T @ x + 1e-6 * np.eye(channels)
    layer = Consumer(gram[None], (x.T @ y)[None], weights, float(np.square(y).sum()), np.arange(channels))
    for step in (1, 8, 32):
        removed = obs(ChannelGroup(channels, [layer]), step=step)
        assert sorted(removed[:32] % 32) == list(range(32))
        assert repaired_costs([layer], removed)[31] < 1e-6


def test_dead_channels_go_first_and_cost_nothing() -> None:
    group = group_of()
    dead = [1, 4]
    for layer in group.consumers:
        for index, owner in enumerate(np.broadcast_to(layer.owner, layer.cross.shape[:2])):
            rows = np.isin(owner, dead)
            layer.hessian[index, rows] = layer.hessian[index, :, rows] = layer.cross[index, rows] = 0
    for criterion in ("obs", "energy", "greedy", "lasso", "group-lasso"):
        removed, cost = channel_order(group, criterion)
        assert sorted(removed[:2].tolist()) == dead, criterion
        assert not cost[:2].any()
        assert cost[2] > 0


@pytest.mark.parametrize("criterion", sorted(CRITERIA))
def test_fewer_samples_than_inputs_are_no_crash(criterion: str) -> None:
    """Not damped, so that half of the inputs can go for nothing; and one channel is a copy of another."""
    x, y, weights = samples(np.repeat(np.arange(20), 3)[None], 8, rows=30)
    x[:, :, 3:6] = x[:, :, :3]
    y = x @ weights
    turned = x.swapaxes(1, 2)
    layer = Consumer(turned @ x, turned @ y, weights, float(np.square(y).sum()), np.repeat(np.arange(20), 3))
    removed, cost = channel_order(ChannelGroup(20, [layer], [weights.reshape(20, -1)]), criterion)
    assert sorted(removed.tolist()) == list(range(20))
    assert cost[6] < 1e-6
    assert cost[-1] == pytest.approx(1, rel=1e-6)


def test_norms_are_those_of_all_producers() -> None:
    first, second = np.array([[3.0, 0], [2, 2], [0, 1]]), np.array([[0.0], [0], [2.5]])
    group = ChannelGroup(3, [], [first, second])
    assert CRITERIA["l1"](group).tolist() == [0, 2, 1]
    assert CRITERIA["l2"](group).tolist() == [2, 1, 0]


def test_channels_that_nobody_takes_cost_nothing() -> None:
    group = ChannelGroup(3, [consumer(np.array([1, 1, -1]), 2)])
    for criterion in ("obs", "energy", "greedy", "lasso", "group-lasso"):
        removed, cost = channel_order(group, criterion)
        assert removed[-1] == 1, criterion
        assert not cost[:2].any()


def test_a_silent_layer_does_not_count() -> None:
    group = group_of()
    loud = group.consumers[0]
    silent = Consumer(loud.hessian, 0 * loud.cross, 0 * loud.weights, 0.0, loud.owner)
    for criterion in ("obs", "energy", "greedy", "lasso", "group-lasso"):
        alone, both = (channel_order(ChannelGroup(CHANNELS, layers), criterion) for layers in ([loud], [loud, silent]))
        assert both.removed.tolist() == alone.removed.tolist()
        np.testing.assert_allclose(both.cost, alone.cost)


def test_a_matrix_that_is_none_of_inputs_is_refused() -> None:
    ones, owner = np.ones((1, 3, 1)), np.arange(3)
    with pytest.raises(InternalError, match="semidefinite"):
        repaired_costs([Consumer(np.eye(3)[None] - 0.9, ones, ones, 1.0, owner)], owner)
    with pytest.raises(InternalError, match="owner"):
        Consumer(np.eye(3)[None], ones, ones, 1.0, owner[:2])


def lasso_by_cvxpy(products: Array, targets: Array, lam: float) -> Array:
    root = np.linalg.cholesky(products)
    aim = np.linalg.solve(root, targets)
    beta = cp.Variable(len(targets))
    cp.Problem(cp.Minimize(cp.sum_squares(root.T @ beta - aim) / 2 + lam * cp.norm1(beta))).solve(cp.CLARABEL)
    return np.asarray(beta.value)


def between(knots: list[Knot], lam: float) -> Array:
    at = next(index for index, knot in enumerate(knots) if knot.lam <= lam)
    (high, before), (low, after) = knots[at - 1], knots[at]
    share = (high - lam) / (high - low)
    return before + share * (after - before)


@pytest.mark.parametrize("seed", range(4))
def test_the_lasso_path_is_that_of_cvxpy(seed: int) -> None:
    products, targets = contributions(group_of(seed))
    knots = list(lasso_path(products, targets))
    assert not knots[0].beta.any()
    for share in (0.9, 0.5, 0.2, 0.05, 0.001):
        lam = share * knots[0].lam
        expected = lasso_by_cvxpy(products, targets, lam)
        np.testing.assert_allclose(between(knots, lam), expected, atol=1e-5)


@given(st.integers(0, 10_000), st.integers(1, 70))
def test_the_lasso_path_is_optimal_everywhere(seed: int, size: int) -> None:
    """No correlation is above lam, and those of channels that are in are lam with their sign; also with copies."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((size + 5, size)) @ generator.standard_normal((size, size))
    x[:, size // 2] = x[:, 0]
    products, targets = x.T @ x, x.T @ generator.standard_normal(size + 5)
    scale = float(np.abs(targets).max())
    lams: list[float] = []
    for knot in lasso_path(products, targets):
        correlation, norm = targets - products @ knot.beta, float(np.abs(knot.beta).sum())
        assert np.abs(correlation).max() <= knot.lam + 1e-5 * scale
        assert knot.lam * norm - correlation @ knot.beta <= 1e-5 * scale * norm
        lams.append(knot.lam)
    assert lams == sorted(lams, reverse=True)
    assert lams[-1] <= 1e-6 * lams[0]


def test_lasso_removes_last_what_came_in_first() -> None:
    group = group_of(3)
    products, targets = contributions(group)
    entered: list[int] = []
    for lam in np.geomspace(1, 1e-4, 300) * np.abs(targets).max():
        beta = lasso_by_cvxpy(products, targets, float(lam))
        entered += [int(c) for c in np.flatnonzero(np.abs(beta) > 1e-4) if c not in entered]
    assert CRITERIA["lasso"](group).tolist()[-len(entered) :] == entered[::-1]


def group_lasso_by_cvxpy(program: GroupLasso, lam: float) -> list[Array]:
    weights = [cp.Variable(cross.shape) for cross in program.crosses]
    loss: Any = 0
    for hessian, cross, w in zip(program.hessians, program.crosses, weights, strict=True):
        root = np.linalg.cholesky(hessian)
        loss += cp.sum_squares(root.T @ w - np.linalg.solve(root, cross)) / 2
    for block in program.blocks:
        loss += lam * cp.norm(cp.hstack([cp.vec(weights[layer][rows], order="F") for layer, rows in block.places]))
    cp.Problem(cp.Minimize(loss)).solve(cp.CLARABEL)
    return [np.asarray(w.value) for w in weights]


def objective(program: GroupLasso, weights: list[Array], lam: float) -> float:
    layers = zip(program.hessians, program.crosses, weights, strict=True)
    return sum(float(np.vdot(w, h @ w / 2 - c)) for h, c, w in layers) + lam * float(program.norms(weights).sum())


@pytest.mark.parametrize("seed", range(2))
def test_group_lasso_is_that_of_cvxpy(seed: int) -> None:
    program = GroupLasso.of(group_of(seed))
    weights = program.start()
    largest = float(program.norms(program.gradients(weights)).max())
    for share in (0.9, 0.5, 0.2, 0.02):
        program.solve(share * largest, weights, tolerance=1e-9, sweeps=5000)
        expected = group_lasso_by_cvxpy(program, share * largest)
        for ours, theirs in zip(weights, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
        assert objective(program, weights, share * largest) <= objective(program, expected, share * largest) + 1e-9


def test_strangers_are_eliminated_from_group_lasso() -> None:
    """For tiny lam its weights are those of the whole fit, in its own units."""
    owner = np.array([0, -1, 1, 2, -1])
    layer = consumer(owner, 3)
    program = GroupLasso.of(ChannelGroup(3, [layer]))
    weights = program.start()
    program.solve(0.0, weights, tolerance=1e-12, sweeps=20_000)
    best = fitted(layer, [])[0, owner >= 0]
    unit = weights[0][0, 0] / best[0, 0]
    np.testing.assert_allclose(weights[0], unit * best, rtol=1e-5)


def test_many_outputs_are_those_of_their_principal_directions() -> None:
    """80 outputs that are mixed of 4: what 64 directions leave out is nothing."""
    layer = consumer(np.arange(12), 4)
    mixed = Consumer(layer.hessian, layer.cross @ normal(4, 80), layer.weights @ normal(4, 80), 1.0, layer.owner)
    whole = GroupLasso.of(ChannelGroup(12, [mixed]), outputs=80)
    program = GroupLasso.of(ChannelGroup(12, [mixed]))
    assert program.crosses[0].shape == (12, 64)
    np.testing.assert_allclose(program.norms(program.crosses), whole.norms(whole.crosses), rtol=1e-9)


def test_every_criterion_that_sees_data_beats_chance() -> None:
    """On a group that has an order to it: channels matter by a factor of their own."""
    channels = 24
    matter = np.geomspace(0.03, 1, channels)[np.random.default_rng(7).permutation(channels)]
    x, _, weights = samples(np.arange(channels)[None], 8, rows=400)
    weights *= matter[None, :, None]
    y = x @ weights
    turned = x.swapaxes(1, 2)
    layer = Consumer(turned @ x, turned @ y, weights, float(np.square(y).sum()), np.arange(channels))
    group = ChannelGroup(channels, [layer], [matter[:, None]])
    chance = np.mean([repaired_costs([layer], np.random.default_rng(s).permutation(channels)) for s in range(20)], 0)
    costs = {name: channel_order(group, name).cost for name in CRITERIA}
    for name, cost in costs.items():
        assert cost[: channels // 2].sum() < 0.5 * chance[: channels // 2].sum(), name
    for other, half in itertools.product(costs, (6, 12, 18)):
        assert costs["obs"][half] <= 1.1 * costs[other][half]
