"""Tensors that are declared to be coefficients in a basis."""

import numpy as np
import pytest

from graphshrink.errors import InternalError
from graphshrink.ir.basis import SpectralData
from graphshrink.ir.compare import same_tensor
from graphshrink.ir.tensor import T, Tensor, tensor_of
from graphshrink.ir.types import Array
from tests.frequencies import cosines
from tests.models import normal


def tensor(*shape: int) -> Tensor:
    return tensor_of(np.zeros(shape, np.float32), "w")


def test_values_come_from_the_coefficients() -> None:
    coefficients, basis = normal(10, 4), cosines(4)
    found = tensor(2, 5, 4).in_basis(coefficients, basis)
    assert (found.name, found.elem_type, found.dims) == ("w", T.FLOAT, (2, 5, 4))
    np.testing.assert_allclose(found.array.reshape(10, 4), coefficients @ basis, atol=1e-6)
    assert bytes(found.buffer) == found.array.tobytes()
    assert not found.array.flags.writeable
    assert np.shares_memory(found.array, found.array)


def test_matrices_of_coefficients() -> None:
    coefficients, basis = normal(3, 4, 5), cosines(4)
    found = tensor(12, 5).in_basis(coefficients, basis)
    np.testing.assert_allclose(found.array.reshape(3, 4, 5), basis.T @ coefficients, atol=1e-6)


def test_other_values_have_no_basis() -> None:
    found = tensor(2, 4).in_basis(normal(2, 4), cosines(4)).with_array(normal(2, 4))
    assert not isinstance(found.data, SpectralData)


def test_coefficients_cannot_be_written_to() -> None:
    found = tensor(2, 4).in_basis(normal(2, 4), cosines(4))
    assert isinstance(found.data, SpectralData)
    for part in (found.data.coefficients, found.data.basis):
        with pytest.raises(ValueError, match="read-only"):
            part[0] = 0


def test_what_is_the_same() -> None:
    first = tensor(2, 4).in_basis(normal(2, 4), cosines(4))
    assert same_tensor(first, tensor(2, 4).in_basis(normal(2, 4), cosines(4)))
    assert same_tensor(first, first.with_array(first.array))  # the values count where one is declared alone
    assert not same_tensor(first, tensor(2, 4).in_basis(normal(2, 4, seed=1), cosines(4)))
    assert not same_tensor(first, tensor(2, 4).in_basis(normal(2, 4), -cosines(4)))
    assert not same_tensor(first, tensor(4, 2).in_basis(normal(2, 4), cosines(4)))
    zeros = [np.full((2, 4), zero, np.float32) for zero in (0.0, -0.0)]
    assert not same_tensor(*(tensor(2, 4).in_basis(zero, cosines(4)) for zero in zeros))


@pytest.mark.parametrize(
    ("coefficients", "basis"),
    [
        (normal(2, 4), 1.001 * cosines(4)),
        (normal(2, 4), np.ones((4, 4), np.float32)),
        (normal(2, 4), np.full((4, 4), np.nan, np.float32)),
        (normal(2, 4), cosines(4)[:3]),
        (normal(2, 4), cosines(2)),
        (normal(2, 4), cosines(4).astype(np.float64)),
        (normal(2, 4).astype(np.float64), cosines(4)),
        (normal(2, 4).astype(np.float16), cosines(4)),
        (normal(8), cosines(8)),
        (normal(4, 2), cosines(4)),
        (normal(3, 4), cosines(4)),
        (normal(1, 1, 2, 4), cosines(4)),
        (normal(0, 4), cosines(4)),
        (np.full((2, 4), np.inf, np.float32), cosines(4)),
        (np.full((2, 4), np.nan, np.float32), cosines(4)),
        (np.full((2, 4), 3e38, np.float32), cosines(4)),  # sums would pass float32
    ],
)
def test_what_is_no_basis_or_no_coefficients(coefficients: Array, basis: Array) -> None:
    with pytest.raises(InternalError, match="orthonormal"):
        tensor(2, 4).in_basis(coefficients, basis)


def test_float32_alone() -> None:
    with pytest.raises(InternalError, match="orthonormal"):
        tensor_of(np.zeros((2, 4)), "w").in_basis(normal(2, 4), cosines(4))
