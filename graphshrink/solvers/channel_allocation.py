"""How many channels each coupled group keeps, so that all layers fit a budget at the least predicted error.

A layer costs a coefficient times the share that is kept of the channels that it takes, times the share of those that it
makes. Which level each group is at is a choice x of zeros and ones, one in each group, so

    min  sum of costs x      s.t.   sum of linear x  +  sum_gh P_gh s_g s_h  <=  budget

With u_g = log s_g, linear in x, products are P_gh exp(u_g + u_h): convex. So any tangent of the resources is a bound on
them, and a linear program with some tangents for the budget bounds the cost. The search branches on that, adding
tangents where solutions are over the budget (outer approximation, Duran & Grossmann 1986; within one tree, Quesada &
Grossmann 1992). Linear programs are left to HiGHS (Huangfu & Hall 2018), the integer one is not: what SciPy and cvxpy
bring along writes to the standard output. Choices within the budget come from a greedy repair and exchanges.
"""

from collections.abc import Sequence
from typing import Final

from graphshrink.solvers._channel_program import Allocation, Group, Layer, Program
from graphshrink.solvers._channel_search import Search

__all__ = ["GAP", "Allocation", "Group", "Layer", "allocate_channels"]

GAP: Final = 1e-3
"""Of the cost, to which it is the least."""


def allocate_channels(groups: Sequence[Group], layers: Sequence[Layer], budget: float, gap: float = GAP) -> Allocation:
    """The allocation of least cost within a budget.

    Args:
        groups: of channels.
        layers: all that uses resources.
        budget: for the sum over layers.
        gap: the share of the cost by which a better allocation may be missed. Where the search is cut short (after
            1,000 nodes, sooner in large networks), `Allocation.bound` says how much it can be.
    """
    program = Program(groups, layers, budget)
    lowest = program.ends - 1
    if program.resource(lowest) > program.limit:
        return program.allocation(lowest, float(program.cost[lowest].sum()))
    if not groups:
        return program.allocation(lowest, 0.0)
    start = program.polished(program.repaired(program.starts))
    if not program.cost[start].any():
        return program.allocation(start, 0.0)
    search = Search(program, start, gap)
    bound = search.run()
    return program.allocation(search.best, min(bound, search.upper))
