"""Write the nodes of a graph one after the other."""

from typing import Any

import onnx
from onnx import helper


class Nodes(list[onnx.NodeProto]):
    """Nodes in order; each is added with the names of its inputs, and gives the name of its output."""

    def add(self, operator: str, name: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add the node `name`; its output is `name_out` unless named. Attributes are those of the operator."""
        output = f"{name}_out" if output is None else output
        self.append(helper.make_node(operator, list(inputs), [output], name, **attributes))
        return output
