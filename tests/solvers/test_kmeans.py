"""One-dimensional k-means against an independent exact solution, and its promises on hostile values."""

from collections.abc import Callable
from importlib import import_module

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphshrink.errors import InternalError
from graphshrink.ir.types import Array
from graphshrink.solvers import _kmeans_bins, _kmeans_search, kmeans
from graphshrink.solvers.kmeans import Clusters, cluster, cluster_rows

BFLOAT16 = np.dtype(import_module("ml_dtypes").bfloat16)
DTYPES = [np.dtype(np.float16), BFLOAT16, np.dtype(np.float32), np.dtype(np.float64)]
PROMISED = 1.001  # the contract: within 0.1 % of the exact optimum


def exact_distortion(values: Array, k: int, dtype: np.dtype[np.generic]) -> float:
    """Least distortion with centroids of type `dtype`, over all contiguous clusters with rounded means; O(k n**2)."""
    ordered = np.sort(values.astype(np.float64))
    n = ordered.size
    cost = np.full((n + 1, n + 1), np.inf)
    for left in range(n):
        relative = ordered[left:] - ordered[left]
        means = np.cumsum(relative) / np.arange(1, n - left + 1) + ordered[left]
        centroids = means.astype(dtype).astype(np.float64)
        distances = np.tril(ordered[np.newaxis, left:] - centroids[:, np.newaxis])
        cost[left, left + 1 :] = (distances**2).sum(axis=1)
    best = cost[0]
    for _ in range(min(k, n) - 1):
        best = np.minimum(best, (best[:, np.newaxis] + cost).min(axis=0))
    return float(best[n])


def check(values: Array, k: int, found: Clusters) -> None:
    """What holds for every result of one row: nearest labels, an honest distortion, ascending centroids."""
    flat = values.reshape(-1).astype(np.float64)
    centroids = found.centroids[0].astype(np.float64)
    labels = found.labels.reshape(-1)
    assert found.centroids.shape == (1, k)
    assert found.centroids.dtype == values.dtype
    assert found.labels.shape == values.shape
    assert found.labels.dtype == np.uint8
    assert np.all(np.diff(centroids) >= 0)
    distances = np.abs(flat[:, np.newaxis] - centroids)
    chosen = distances[np.arange(flat.size), labels]
    np.testing.assert_array_equal(chosen, distances.min(axis=1))
    # 1e-9: two orders of summing the same few thousand terms.
    np.testing.assert_allclose(found.distortion, [(chosen**2).sum()], rtol=1e-9)
    used = np.unique(labels)
    np.testing.assert_array_equal(used, np.arange(used.size))  # unused centroids come last ...
    assert np.all(centroids[used.size :] == centroids[used.size - 1])  # ... and repeat the last used one


def check_idempotent(values: Array, k: int, found: Clusters) -> None:
    clustered = np.take_along_axis(found.centroids, found.labels.reshape(1, -1).astype(np.intp), axis=1)
    again = cluster_rows(clustered, k)
    np.testing.assert_array_equal(again.centroids, found.centroids)
    np.testing.assert_array_equal(again.labels, found.labels.reshape(1, -1))
    assert again.distortion[0] == 0.0


def check_optimal(values: Array, k: int, found: Clusters) -> None:
    # The floor is for squares that underflow in one order of operations and not in the other.
    floor = np.finfo(np.float64).tiny
    assert found.distortion[0] <= PROMISED * exact_distortion(values.reshape(-1), k, values.dtype) + floor


def small_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send rows of a few hundred values down the path for large ones."""
    monkeypatch.setattr(kmeans, "_LARGE_ROW", 4)
    monkeypatch.setattr(_kmeans_bins, "_SAMPLE", 64)
    monkeypatch.setattr(_kmeans_bins, "_CHUNK", 50)
    monkeypatch.setattr(_kmeans_bins, "_BINS", 48)


def coarse_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make rows of a few hundred values larger than what dynamic programming takes at once."""
    monkeypatch.setattr(_kmeans_search, "LEAST_BINS", 4)
    monkeypatch.setattr(_kmeans_search, "BINS_PER_CLUSTER", 32)


PATHS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "plain": lambda _: None,
    "coarse search": coarse_search,
    "bins": small_bins,
}


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    PATHS[request.param](monkeypatch)


Draw = Callable[[np.random.Generator, int], Array]


def with_outlier(values: Array, outlier: float) -> Array:
    values[values.size // 3] = outlier
    return values


DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "uniform": lambda rng, n: rng.uniform(-1, 1, n),
    "laplace": lambda rng, n: rng.laplace(size=n),
    "student t2": lambda rng, n: rng.standard_t(2, n),
    "cauchy": lambda rng, n: rng.standard_cauchy(n),
    "log-normal": lambda rng, n: np.exp(3 * rng.standard_normal(n)),
    "sparse": lambda rng, n: np.where(rng.random(n) < 0.95, 0.0, rng.standard_normal(n)),
    "integers": lambda rng, n: rng.integers(-20, 20, n).astype(np.float64),
    "far from zero": lambda rng, n: 1000 + rng.standard_normal(n),
    "two scales": lambda rng, n: np.where(rng.random(n) < 0.5, 1.0, 1e-4) * rng.standard_normal(n),
    "two islands": lambda rng, n: np.where(rng.random(n) < 0.5, 1000.0, 0.0) + rng.standard_normal(n),
    "outlier": lambda rng, n: with_outlier(rng.standard_normal(n), 5e4),
    "high outlier and low": lambda rng, n: np.append(with_outlier(rng.standard_normal(n - 1), -6e4), 5e4),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("k", [1, 2, 3, 16])
@pytest.mark.usefixtures("path")
def test_distortion_is_within_the_promise(name: str, k: int) -> None:
    rng = np.random.default_rng(k)
    for dtype in (np.dtype(np.float32), BFLOAT16):
        values = DISTRIBUTIONS[name](rng, 150).astype(dtype)
        found = cluster(values, k)
        check(values, k, found)
        check_idempotent(values, k, found)
        check_optimal(values, k, found)


@pytest.mark.parametrize("outlier", [1e6, -1e6, 1e12, -1e30])
@pytest.mark.usefixtures("path")
def test_an_outlier_costs_one_centroid_and_no_digits(outlier: float) -> None:
    values = np.random.default_rng(1).standard_normal(200).astype(np.float32)
    alone = cluster(values, 7)
    found = cluster(np.append(values, np.float32(outlier)), 8)
    assert found.distortion[0] <= PROMISED * alone.distortion[0]


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1.0, 1e30])
@pytest.mark.usefixtures("path")
def test_scale_does_not_matter(scale: float) -> None:
    values = (np.random.default_rng(2).standard_normal(150) * scale).astype(np.float32)
    found = cluster(values, 5)
    check(values, 5, found)
    check_optimal(values, 5, found)


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e-200, 1e200, 1e307])
@pytest.mark.usefixtures("path")
def test_float64_beyond_the_range_of_its_squares(scale: float) -> None:
    values = np.rint(np.random.default_rng(3).uniform(-16, 16, 200)) * scale
    expected = cluster(values / scale, 6)
    found = cluster(values, 6)
    np.testing.assert_allclose(found.centroids / scale, expected.centroids, atol=0.5 if scale < 1e-323 else 1e-12)
    exact = cluster(values, 40)
    np.testing.assert_array_equal(exact.centroids[0][exact.labels], values)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.usefixtures("path")
def test_coarse_element_types(seed: int) -> None:
    # Near 1000 the steps of float16 are wider than the clusters near 0, so rounding decides where the centroids go.
    rng = np.random.default_rng(seed)
    values = DISTRIBUTIONS["two islands"](rng, 60 + 10 * seed).astype(np.float16)
    found = cluster(values, 4 + seed)
    check(values, 4 + seed, found)
    check_optimal(values, 4 + seed, found)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.usefixtures("path")
def test_scales_too_far_apart_for_prefix_sums(seed: int) -> None:
    rng = np.random.default_rng(seed)
    centre, width = 10.0 ** rng.integers(-3, 10, 5), 10.0 ** rng.integers(-8, 2, 5)
    island = rng.integers(0, 5, 120)
    values = centre[island] + width[island] * rng.standard_normal(120)
    for k in (3, 6, 9):
        found = cluster(values, k)
        check(values, k, found)
        check_optimal(values, k, found)


wide = st.floats(allow_nan=False, allow_infinity=False, width=32)
narrow = st.sampled_from([0.0, -0.0, 1.0, float(np.nextafter(np.float32(1), np.float32(2))), 1e-45, -3e38, 1e10, 1e-10])
nasty = st.lists(st.one_of(wide, narrow, st.integers(-50, 50).map(float)), min_size=1, max_size=40)


@given(nasty, st.integers(1, 12))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nasty_float32(numbers: list[float], k: int) -> None:
    values = np.array(numbers, dtype=np.float32)
    found = cluster(values, k)
    check(values, k, found)
    check_idempotent(values, k, found)
    check_optimal(values, k, found)


@given(
    st.lists(st.floats(-1e3, 1e3, width=16), min_size=1, max_size=40),
    st.integers(1, 12),
    st.sampled_from([np.dtype(np.float16), BFLOAT16, np.dtype(np.float64)]),
)
@settings(max_examples=100, deadline=None)
def test_nasty_other_types(numbers: list[float], k: int, dtype: np.dtype[np.generic]) -> None:
    values = np.array(numbers).astype(dtype)
    found = cluster(values, k)
    check(values, k, found)
    check_idempotent(values, k, found)
    check_optimal(values, k, found)


@given(nasty, st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_nasty_values_in_bins(numbers: list[float], k: int) -> None:
    values = np.array(numbers * 2, dtype=np.float32)
    with pytest.MonkeyPatch.context() as monkeypatch:
        small_bins(monkeypatch)
        found = cluster(values, k)
    check(values, k, found)
    check_optimal(values, k, found)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.usefixtures("path")
def test_few_distinct_values_are_reproduced(dtype: np.dtype[np.generic]) -> None:
    rng = np.random.default_rng(4)
    for k in (1, 2, 16, 256):
        values = rng.choice(rng.standard_normal(k), (9, 31)).astype(dtype)
        found = cluster(values, k)
        np.testing.assert_array_equal(found.centroids[0][found.labels], values)
        assert found.distortion[0] == 0.0
        check(values, k, found)
        check_idempotent(values, k, found)


def test_negative_zero_is_zero() -> None:
    found = cluster(np.array([0.0, -0.0, 1.0, -0.0], dtype=np.float32), 2)
    np.testing.assert_array_equal(found.labels, [0, 0, 1, 0])
    assert not np.signbit(found.centroids).any()


def test_unused_centroids_repeat_the_last() -> None:
    found = cluster(np.array([3.0, -1.0, 3.0], dtype=np.float32), 4)
    np.testing.assert_array_equal(found.centroids, [[-1, 3, 3, 3]])
    np.testing.assert_array_equal(found.labels, [1, 0, 1])


def test_centroids_are_rounded_means() -> None:
    values = np.random.default_rng(5).standard_normal(3000).astype(np.float32)
    found = cluster(values, 16)
    means = [values[found.labels == label].astype(np.float64).mean() for label in range(16)]
    np.testing.assert_array_equal(found.centroids[0], np.array(means).astype(np.float32))


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_nothing_to_cluster(shape: tuple[int, int]) -> None:
    found = cluster_rows(np.zeros(shape, dtype=np.float32), 3)
    assert found.labels.shape == shape
    np.testing.assert_array_equal(found.centroids, np.zeros((shape[0], 3)))
    np.testing.assert_array_equal(found.distortion, np.zeros(shape[0]))


def test_any_shape() -> None:
    values = np.random.default_rng(6).standard_normal((2, 3, 4)).astype(np.float16)
    assert cluster(values, 3).labels.shape == (2, 3, 4)
    assert cluster(values[0, 0, 0], 3).labels.shape == ()


@pytest.mark.parametrize(
    ("rows", "k"),
    [
        (np.zeros((2, 2), np.float32), 0),
        (np.zeros((2, 2), np.float32), 257),
        (np.zeros(2, np.float32), 1),
        (np.zeros((2, 2), np.int32), 1),
        (np.array([[1.0, np.nan]]), 1),
        (np.array([[1.0, -np.inf]]), 1),
    ],
)
def test_what_is_refused(rows: Array, k: int) -> None:
    with pytest.raises(InternalError):
        cluster_rows(rows, k)


@pytest.mark.usefixtures("path")
def test_rows_do_not_depend_on_each_other() -> None:
    rng = np.random.default_rng(7)
    rows = np.stack([draw(rng, 120) for draw in DISTRIBUTIONS.values()] + [np.zeros(120), np.arange(120) % 3]).astype(
        np.float32
    )
    together = cluster_rows(rows, 5)
    for row, values in enumerate(rows):
        alone = cluster(values, 5)
        np.testing.assert_array_equal(together.centroids[row], alone.centroids[0])
        np.testing.assert_array_equal(together.labels[row], alone.labels)
        # 1e-12: rows of a block are summed in another order than one row.
        np.testing.assert_allclose(together.distortion[row], alone.distortion[0], rtol=1e-12)


def test_many_batches_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(8).laplace(size=(40, 60)).astype(np.float32)
    once = cluster_rows(rows, 6)
    monkeypatch.setattr(kmeans, "_BATCH_VALUES", 200)
    monkeypatch.setattr(kmeans, "_LABEL_BLOCK", 25)
    batched = cluster_rows(rows, 6)
    np.testing.assert_array_equal(batched.centroids, once.centroids)
    np.testing.assert_array_equal(batched.labels, once.labels)


@pytest.mark.usefixtures("path")
def test_the_same_input_gives_the_same_bits() -> None:
    values = np.random.default_rng(9).standard_normal(700).astype(np.float32)
    first, second = cluster(values, 9), cluster(values.copy(), 9)
    assert first.centroids.tobytes() == second.centroids.tobytes()
    assert first.labels.tobytes() == second.labels.tobytes()
    assert first.distortion.tobytes() == second.distortion.tobytes()


def test_many_centroids() -> None:
    values = np.random.default_rng(10).standard_normal(700).astype(np.float32)
    found = cluster(values, 256)
    check(values, 256, found)
    ordered = np.sort(values)
    by_rank = sum(part.astype(np.float64).var() * part.size for part in np.array_split(ordered, 256))
    assert found.distortion[0] < by_rank / 2


def test_bins_come_close_to_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    for draw in DISTRIBUTIONS.values():
        values = draw(np.random.default_rng(11), 30000).astype(np.float32)
        whole = cluster(values, 16)
        with monkeypatch.context() as patch:
            patch.setattr(kmeans, "_LARGE_ROW", 1000)
            patch.setattr(_kmeans_bins, "_SAMPLE", 1500)
            patch.setattr(_kmeans_bins, "_CHUNK", 7000)
            patch.setattr(_kmeans_bins, "_BINS", 1024)
            binned = cluster(values, 16)
        check(values, 16, binned)
        assert binned.distortion[0] <= PROMISED * whole.distortion[0]


def test_a_rare_value_that_the_sample_misses_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    small_bins(monkeypatch)
    values = np.zeros(4000, dtype=np.float32)
    values[1234], values[3456], values[7] = 1e-20, 2e-20, 5.0
    found = cluster(values, 4)
    np.testing.assert_array_equal(found.centroids[0], np.array([0.0, 1e-20, 2e-20, 5.0], dtype=np.float32))
    assert found.distortion[0] == 0.0
    three = cluster(values, 3)
    np.testing.assert_array_equal(np.sort(three.labels)[-2:], [1, 2])
