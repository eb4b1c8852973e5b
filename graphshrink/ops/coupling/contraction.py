"""Operators that add up products along an axis: what is removed there is removed from both factors."""

from collections.abc import Iterator
from typing import Final

from graphshrink.ir.types import Array
from graphshrink.ops.coupling.base import Links, Site
from graphshrink.ops.coupling.elementwise import aligned

_MIXES: Final = "mixes neighbours along this axis"


def matmul(site: Site, links: Links) -> None:
    """Joins of y (..., m, n) = a (..., m, k) @ b (..., k, n); a vector has k alone."""
    a, b = site.input_shape(0), site.input_shape(1)
    links.join(site.input(0, -1), site.input(1, -2 if len(b) > 1 else 0))
    last = len(site.output_shape(0))
    if len(b) > 1:
        last -= 1
        links.join(site.output(0, last), site.input(1, -1))
    if len(a) > 1:
        last -= 1
        links.join(site.output(0, last), site.input(0, -2))
    made = site.output_shape(0)[:last]
    for index, shape in ((0, a), (1, b)):
        for axis in range(-len(shape) + 2, 0):
            if shape[axis - 2] == made[axis]:
                links.join(site.input(index, axis - 2), site.output(0, last + axis))


def gemm(site: Site, links: Links) -> None:
    """Joins of y (m, n) = a (m, k) @ b (k, n) + c, where a and b may be turned around."""
    a = (1, 0) if site.operator.integer("transA", 0) else (0, 1)
    b = (1, 0) if site.operator.integer("transB", 0) else (0, 1)
    links.join(site.input(0, a[1]), site.input(1, b[0]))
    links.join(site.output(0, 0), site.input(0, a[0]))
    links.join(site.output(0, 1), site.input(1, b[1]))
    if site.has_input(2):
        aligned(site, links, 2, 0)


def convolution(site: Site, links: Links) -> None:
    """Channels of the input meet the second axis of the kernel, for a transposed one the first."""
    transposed = site.operator.op_type == "ConvTranspose"
    groups = site.operator.integer("group", 1)
    kernel, fed, made = site.input_shape(1), site.input(0, 1), site.output(0, 1)
    if len(fed) % groups or len(made) % groups or kernel[0] != len(fed if transposed else made):
        raise ValueError("channels do not divide into groups")
    links.join(site.input(0, 0), site.output(0, 0))
    for axis in range(2, len(kernel)):
        links.hold(site.input(1, axis), f"{site.title} has taps along this axis")
        links.hold(site.output(0, axis), f"{site.title} {_MIXES}")
        links.hold(site.input(0, axis), f"{site.title} {_MIXES}")
    if site.has_input(2):
        links.join(site.input(2, 0), made)
    links.join(site.input(1, 0), fed if transposed else made)
    ways = [way for possible, way in _ways(site, groups, transposed) if possible]
    links.choose(ways)


def _ways(site: Site, groups: int, transposed: bool) -> Iterator[tuple[bool, Links]]:
    """As many channels of every group, or groups as a whole."""
    fed, made = site.input(0, 1).reshape(groups, -1), site.output(0, 1).reshape(groups, -1)
    inner, outer = (made, fed) if transposed else (fed, made)  # what meets the second axis of the kernel, and the first
    shared = site.input(1, 1)
    of_each, whole = Links(), Links()
    of_each.join(inner, shared)
    if groups > 1:
        of_each.join(outer, outer[0])
        whole.hold(shared, f"{site.title} removes groups as a whole")
        whole.join(inner, outer[:, :1])
        whole.join(outer, outer[:, :1])
    yield groups == 1 or len(shared) > 1, of_each
    yield groups > 1, whole


def einsum(site: Site, links: Links) -> None:
    """Axes of one letter are one axis; diagonals and ellipses are held."""
    equation = site.operator.attributes["equation"].value
    text = equation.decode() if isinstance(equation, bytes) else ""
    left, arrow, right = text.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow or "." in text or any(len(set(term)) != len(term) for term in (*terms, right)):
        site.hold_all(links, f"{site.title} of '{text[:40]}'")
        return
    first: dict[str, Array] = {}
    axes = [(letter, site.input(i, axis)) for i, term in enumerate(terms) for axis, letter in enumerate(term)]
    axes += [(letter, site.output(0, axis)) for axis, letter in enumerate(right)]
    for letter, numbers in axes:
        known = first.setdefault(letter, numbers)
        if len(known) != len(numbers):
            links.hold(numbers, f"{site.title} broadcasts this axis")
            links.hold(known, f"{site.title} broadcasts this axis")
        else:
            links.join(known, numbers)
