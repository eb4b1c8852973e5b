"""What ONNX operators mean: which inputs are weights, how they are laid out, what a run costs."""

from graphshrink.ops.base import Rule
from graphshrink.ops.layout import output_axis, rule_of, why_not_a_parameter, why_not_a_weight
from graphshrink.ops.table import RULES

__all__ = ["RULES", "Rule", "output_axis", "rule_of", "why_not_a_parameter", "why_not_a_weight"]
