"""Reshape and its kin: which axes are taken apart, and which are put together.

    (n, s, heads * d)  ──▶  (n, s, heads, d)

Sizes before and after are products of common factors. Of the factors of an axis that is taken apart, one can lose
indices while all others stay whole: here heads, or places within every head. Which, is a choice.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.ops.coupling.base import Links, Shape, Site


class Part(NamedTuple):
    """Neighbouring axes before and after that have the same number of elements, and no smaller parts.

    Attributes:
        before, after: axes.
        factors: common to both, the slowest first; empty where there are no such.
        of_before, of_after: for each axis, which factors it is the product of.
    """

    before: range
    after: range
    factors: tuple[int, ...]
    of_before: tuple[range, ...]
    of_after: tuple[range, ...]


def parts(before: Shape, after: Shape) -> Iterator[Part]:
    """How a reshape goes together, for shapes without zeros."""
    i = j = 0
    while i < len(before) or j < len(after):
        first, second = i, j
        i, j = min(i + 1, len(before)), min(j + 1, len(after))
        while (a := math.prod(before[first:i])) != (b := math.prod(after[second:j])):
            if a < b:
                i += 1
            else:
                j += 1
        yield _part(before, after, range(first, i), range(second, j))


def _part(before: Shape, after: Shape, at: range, to: range) -> Part:
    sizes, made = [before[axis] for axis in at], [after[axis] for axis in to]
    marks = sorted({*_products(sizes), *_products(made)})
    if any(larger % smaller for smaller, larger in pairwise(marks)):
        return Part(at, to, (), (), ())
    # Products from the last axis on are where the boundaries between factors lie.
    factors = tuple(larger // smaller for smaller, larger in pairwise(marks))[::-1]
    return Part(at, to, factors, _spans(sizes, marks), _spans(made, marks))


def _products(sizes: list[int]) -> list[int]:
    """1, the last size, the last two multiplied, ..."""
    return [math.prod(sizes[len(sizes) - count :]) for count in range(len(sizes) + 1)]


def _spans(sizes: list[int], marks: list[int]) -> tuple[range, ...]:
    products, count = _products(sizes)[::-1], len(marks) - 1
    bounds = [count - marks.index(product) for product in products]
    return tuple(range(a, b) for a, b in pairwise(bounds))


def reshape(site: Site, links: Links) -> None:
    """Reshape and Flatten."""
    before, after = site.input_shape(0), site.output_shape(0)
    if 0 in before or 0 in after:
        site.hold_all(links, f"{site.title} of nothing")
        return
    for part in parts(before, after):
        ways = [_way(site, part, factor) for factor, size in enumerate(part.factors) if size > 1]
        if len(part.before) == len(part.after) == 1:
            links.join(site.input(0, part.before[0]), site.output(0, part.after[0]))
        elif ways:
            links.choose(ways)
        elif not part.factors:
            _hold_rest(site, links, part, None)


def _way(site: Site, part: Part, factor: int) -> Links:
    """One factor loses indices."""
    links = Links()
    _hold_rest(site, links, part, factor)
    sides: list[tuple[Array, Array]] = []
    for axes, spans, numbers_of in (
        (part.before, part.of_before, site.input),
        (part.after, part.of_after, site.output),
    ):
        for axis, span in zip(axes, spans, strict=True):
            if factor in span:
                numbers = numbers_of(0, axis)
                sides.append((numbers, _coordinate(len(numbers), part.factors, span, factor)))
    ((_, places),) = sides[:1]
    first = np.unique(places, return_index=True)[1]
    anchor = sides[0][0][first]
    for numbers, coordinate in sides:
        links.join(numbers, anchor[coordinate])
    return links


def _coordinate(size: int, factors: tuple[int, ...], span: range, factor: int) -> Array:
    """Where along one factor each index of an axis lies."""
    inner = math.prod(factors[factor + 1 : span.stop])
    coordinate: Array = np.arange(size) // inner % factors[factor]
    return coordinate


def _hold_rest(site: Site, links: Links, part: Part, factor: int | None) -> None:
    """Axes that do not lose indices here cannot."""
    sides = ((part.before, part.of_before, site.input), (part.after, part.of_after, site.output))
    for axes, spans, numbers_of in sides:
        for place, axis in enumerate(axes):
            if factor is None or factor not in spans[place]:
                numbers = numbers_of(0, axis)
                if len(numbers) > 1:
                    links.hold(numbers, f"{site.title} takes it apart or puts it together")
