"""Which bases a model keeps when each is stored once: beside every choice that there is."""

from itertools import chain, combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graphshrink.ir.tensor import tensor_of
from graphshrink.passes._frequency_bases import Basis, Layout
from graphshrink.passes._frequency_fit import Form, settled, smallest
from graphshrink.passes._weight_sharing_fit import Fitted
from graphshrink.solvers.transform import Rotation, cosine

_BASES = [
    Basis("block", Layout((1, k), (k,)), Rotation(np.arange(k, dtype=np.intp), cosine(k).astype(np.float32)))
    for k in (4, 8, 10)
]


def form(number: int | None, size: int) -> Form:
    array = np.zeros(1, np.float32)
    basis = None if number is None else _BASES[number]
    return Form(basis, Fitted(array, None, 0.0, 0.0), tensor_of(array), size, 1.0, 0.0)


def total(forms: list[Form]) -> int:
    tables = {one.basis.key: one.basis.table for one in forms if one.basis is not None}
    return sum(one.bytes for one in forms) + sum(tables.values())


@st.composite
def layers(draw: st.DrawFn) -> list[list[Form]]:
    sizes = st.integers(50, 600)
    return [
        [form(None, draw(sizes)), *(form(n, draw(sizes)) for n in draw(st.sets(st.integers(0, 2), max_size=2)))]
        for _ in range(draw(st.integers(1, 4)))
    ]


@given(layers())
def test_never_more_than_without_bases_and_no_basis_is_worth_giving_up(model: list[list[Form]]) -> None:
    found = settled(model)
    assert total(found) <= sum(forms[0].bytes for forms in model)
    keys = {one.basis.key for one in found if one.basis is not None}
    for gone in keys:
        left = [
            min((f for f in forms if f.basis is None or f.basis.key in keys - {gone}), key=lambda f: f.bytes)
            for forms in model
        ]
        assert total(found) <= total(left)


@given(layers())
def test_two_bases_at_most_are_settled_as_well_as_can_be(model: list[list[Form]]) -> None:
    model = [[f for f in forms if f.basis is None or f.basis is not _BASES[2]] for forms in model]
    keys = [basis.key for basis in _BASES[:2]]
    subsets = chain.from_iterable(combinations(keys, n) for n in range(3))
    every = [
        total(
            [
                min((f for f in forms if f.basis is None or f.basis.key in kept), key=lambda f: f.bytes)
                for forms in model
            ]
        )
        for kept in subsets
    ]
    assert total(settled(model)) == min(every)


def test_a_basis_that_two_layers_share_costs_each_a_half() -> None:
    table = _BASES[0].table
    forms = [form(None, 500), form(0, 500 - table // 2 - 2)]
    assert smallest(forms, {_BASES[0].key: 2}).basis is _BASES[0]
    assert smallest(forms, {}).basis is None
