"""Names on the command line and in configuration files -> passes with their options."""

from graphshrink.registry.build import Sections, passes_from, plan_from, spec_of
from graphshrink.registry.known import BUILT_IN, PASSES, Catalogue, Known, catalogue, list_of
from graphshrink.registry.options import Option, options_of

__all__ = [
    "BUILT_IN",
    "PASSES",
    "Catalogue",
    "Known",
    "Option",
    "Sections",
    "catalogue",
    "list_of",
    "options_of",
    "passes_from",
    "plan_from",
    "spec_of",
]
