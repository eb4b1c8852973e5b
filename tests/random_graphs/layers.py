"""The table of layers, and the step that adds one of those that fit."""

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from tests.random_graphs import bodies, convolution, dense, functions, moves, recurrent
from tests.random_graphs.maker import Maker, Scope, Value

_LARGEST: Final = 1500  # elements of a value; a model runs in milliseconds
_DEEPEST: Final = 2


class Layer(NamedTuple):
    """A kind of layer.

    Attributes:
        make: adds it behind a value.
        ranks: of values that it takes.
        share: how often it is drawn, relative to others.
        fits: what else must hold.
    """

    make: Callable[[Maker, Scope, Value], Value]
    ranks: tuple[int, ...]
    share: int = 1
    fits: Callable[[Maker, Scope, Value], bool] = lambda maker, scope, x: True


def _shallow(maker: Maker, scope: Scope, x: Value) -> bool:
    return scope.depth < _DEEPEST


def _callable(maker: Maker, scope: Scope, x: Value) -> bool:
    return maker.ir_version >= 8 and scope.depth < _DEEPEST and len(maker.functions) < 3


def _has_ids(maker: Maker, scope: Scope, x: Value) -> bool:
    return bool(maker.ids) and not scope.isolated


def _takes_sparse(maker: Maker, scope: Scope, x: Value) -> bool:
    return scope.place == "main" and maker.opset >= 11 and maker.ir_version >= 6


LAYERS: Final = (
    Layer(moves.activation, (1, 2, 3, 4)),
    Layer(moves.lengthen, (0, 1), 4),
    Layer(moves.clip, (2, 3, 4)),
    Layer(moves.arithmetic, (2, 3, 4)),
    Layer(moves.residual, (2, 3, 4), 2),
    Layer(moves.concat, (2, 3, 4), 2),
    Layer(moves.flatten, (3, 4)),
    Layer(moves.reshape, (2, 3, 4)),
    Layer(moves.transpose, (2, 3, 4)),
    Layer(dense.gemm, (2,), 10),
    Layer(dense.matmul, (2, 3, 4), 4),
    Layer(dense.matmul_left, (2, 3, 4), 2),
    Layer(dense.matmul_twice, (2, 3, 4), 4),
    Layer(dense.matmul_vector, (2, 3)),
    Layer(dense.matmul_sparse, (2, 3), 3, _takes_sparse),
    Layer(dense.matmul_empty, (2, 3)),
    Layer(dense.embedding, (1, 2, 3, 4), 6, _has_ids),
    Layer(convolution.conv, (3, 4), 8),
    Layer(convolution.conv_transpose, (3, 4), 3),
    Layer(convolution.batch_normalization, (2, 3, 4)),
    Layer(convolution.instance_normalization, (3, 4)),
    Layer(convolution.pool, (3, 4)),
    Layer(recurrent.recurrent, (3,), 14),
    Layer(bodies.branch, (1, 2, 3, 4), 4, _shallow),
    Layer(bodies.loop, (1, 2, 3, 4), 2, _shallow),
    Layer(bodies.scan, (2, 3, 4), 2, _shallow),
    Layer(functions.call, (2, 3, 4), 5, _callable),
)


def step(maker: Maker, scope: Scope) -> Value:
    """Add a layer of a drawn kind behind one of the values, most often the newest; returns its result."""
    x = maker.pick(*reversed(scope.values)) if maker.chance(4) else scope.values[-1]
    fitting = [layer for layer in LAYERS if len(x.shape) in layer.ranks and layer.fits(maker, scope, x)]
    layer = maker.pick(*(layer for layer in fitting for _ in range(layer.share)))
    result: Value = layer.make(maker, scope, x)
    if len(result.shape) <= 4 and math.prod(result.shape) <= _LARGEST:
        scope.values.append(result)
    return result
