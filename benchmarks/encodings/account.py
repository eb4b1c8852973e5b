"""Where the bytes of a file with encoded weights are; the parts add up to the file, byte for byte."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Final

import numpy as np
import onnx
from google.protobuf.message import Message

from graphshrink.encodings.base import FUNCTIONS, MARK
from graphshrink.encodings.chunks import Chunks
from graphshrink.encodings.codebook import CodebookEncoded
from graphshrink.encodings.grid import GridEncoded
from graphshrink.encodings.grouped import GroupedEncoded
from graphshrink.encodings.half import HalfEncoded
from graphshrink.encodings.huffman import HuffmanEncoded
from graphshrink.encodings.pairs import PairsEncoded
from graphshrink.encodings.place import Stored
from graphshrink.encodings.sparse import SparseEncoded
from graphshrink.encodings.stream import Stream

_FUNCTIONS_KEY: Final = 2  # bytes of the key of field 25; fields below 16 have one


# ---- a file


@dataclass(frozen=True, slots=True)
class Account:
    """Bytes of a file.

    Attributes:
        functions: the functions that decode weights, and the import of their domain.
        contents: of the constants that weights are computed from.
        text: the operators that compute them, and names, types and shapes of these constants.
        host: everything else: the model itself, and weights that are stored plainly.
    """

    functions: int = 0
    contents: int = 0
    text: int = 0
    host: int = 0

    @property
    def encoded(self) -> int:
        """All that encoded weights take."""
        return self.functions + self.contents + self.text

    @property
    def file(self) -> int:
        """All."""
        return self.encoded + self.host


def account(model: onnx.ModelProto) -> Account:
    """Account for the bytes of a model without external data.

    What belongs to encoded weights is found by their marks: the marked operators, and what they are computed from.
    """
    functions = sum(_framed(f, _FUNCTIONS_KEY) for f in model.functions if f.domain == FUNCTIONS)
    functions += sum(_framed(used) for used in model.opset_import if used.domain == FUNCTIONS)
    contents = text = 0
    for nodes, tensors in _scopes(model):
        for part in _decoding(nodes, tensors):
            inside = sum(len(tensor.raw_data) for tensor in _tensors(part))
            contents += inside
            text += _framed(part) - inside
    return Account(functions, contents, text, model.ByteSize() - functions - contents - text)


_Scope = tuple[Sequence[onnx.NodeProto], Sequence[onnx.TensorProto]]


def _scopes(model: onnx.ModelProto) -> Iterator[_Scope]:
    """Nodes and initializers of the graph, of graphs nested in it, and of functions that are not ours."""
    waiting: list[_Scope] = [(model.graph.node, model.graph.initializer)]
    waiting += [(function.node, ()) for function in model.functions if function.domain != FUNCTIONS]
    while waiting:
        nodes, tensors = waiting.pop()
        yield nodes, tensors
        waiting += [(graph.node, graph.initializer) for graph in _nested(nodes)]


def _nested(nodes: Iterable[onnx.NodeProto]) -> list[onnx.GraphProto]:
    """The graphs that nodes run, but not those inside of these."""
    attributes = [attribute for node in nodes for attribute in node.attribute]
    return [graph for each in attributes for graph in ([each.g] if each.HasField("g") else each.graphs)]


def _decoding(
    nodes: Sequence[onnx.NodeProto], tensors: Iterable[onnx.TensorProto]
) -> list[onnx.NodeProto | onnx.TensorProto]:
    """The nodes that compute weights, and the initializers that nothing else takes."""
    wanted = {name for node in nodes if node.name.startswith(MARK) for name in node.output}
    found: list[onnx.NodeProto | onnx.TensorProto] = []
    others: list[onnx.NodeProto] = []
    for node in reversed(nodes):  # which are in topological order
        if wanted.isdisjoint(node.output):
            others.append(node)
        else:
            found.append(node)
            wanted.update(node.input)
    # A weight that is stored plainly may be repeated by an encoded one.
    wanted -= _taken(others)
    return found + [tensor for tensor in tensors if tensor.name in wanted]


def _taken(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    """Names that nodes take, also in the graphs that they run."""
    names: set[str] = set()
    waiting = [nodes]
    while waiting:
        some = waiting.pop()
        names.update(name for node in some for name in node.input)
        waiting += [graph.node for graph in _nested(some)]
    return names


def _tensors(part: onnx.NodeProto | onnx.TensorProto) -> list[onnx.TensorProto]:
    if isinstance(part, onnx.TensorProto):
        return [part]
    return [attribute.t for attribute in part.attribute if part.op_type == "Constant" and attribute.HasField("t")]


def _framed(message: Message, key: int = 1) -> int:
    """Bytes of a message inside another: key, length, content."""
    size = message.ByteSize()
    return key + max(1, -(-size.bit_length() // 7)) + size


# ---- an encoded tensor


@dataclass(frozen=True, slots=True)
class Parts:
    """What an encoded tensor consists of.

    Attributes:
        codes: bytes of what stands for the single weights.
        tables: bytes of what says what the codes mean.
        symbols: how many symbols its alphabets have: values, and lengths of steps.
        phrases: how many codes there are for them.
    """

    codes: int = 0
    tables: int = 0
    symbols: int = 0
    phrases: int = 0

    def __add__(self, other: "Parts") -> "Parts":
        return Parts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def parts_of(encoded: object) -> Parts:
    """The parts of a tensor in encoded form."""
    match encoded:
        case Chunks():
            return sum(map(parts_of, encoded.parts), Parts())
        case CodebookEncoded():
            codes = sum(plane.nbytes for plane in encoded.codes)
            return Parts(codes, encoded.entries.nbytes, encoded.entries.size, encoded.entries.size)
        case GridEncoded():
            return parts_of(encoded.steps) + Parts(tables=encoded.scale.nbytes)
        case HalfEncoded():
            return Parts(encoded.stored.nbytes)
        case HuffmanEncoded() | GroupedEncoded():
            return parts_of(encoded.stream) + Parts(tables=encoded.entries.nbytes, symbols=encoded.entries.size)
        case PairsEncoded():
            codes = encoded.low.nbytes + encoded.high.nbytes
            return Parts(codes, encoded.entries.nbytes, encoded.entries.size, encoded.entries.size)
        case SparseEncoded():
            steps = encoded.steps
            rests = 0 if steps.rests is None else steps.rests.nbytes
            apart = Parts(rests, steps.units.nbytes, len(steps.units))
            return parts_of(steps.stream) + apart + parts_of(encoded.values)
        case Stream():
            tables = encoded.leaves.nbytes + encoded.lengths.nbytes + encoded.texts.nbytes
            return Parts(encoded.lanes.rows.nbytes, tables, phrases=len(encoded.leaves) // 2 + 1)
        case np.ndarray():
            return Parts(encoded.nbytes)
        case _:
            raise TypeError(f"what are codes and tables of {type(encoded).__name__}?")


@dataclass(frozen=True, slots=True)
class OneWeight:
    """Bytes of a file with one encoded weight.

    Attributes:
        codes, tables: see `Parts`.
        tensor: what else this weight takes: decode operators, names, shapes.
        functions: see `Account`.
        shared: tables that further weights would share.
        host: see `Account`.
    """

    codes: int
    tables: int
    tensor: int
    functions: int
    shared: int
    host: int

    @property
    def file(self) -> int:
        """All."""
        return int(sum(astuple(self)))

    @property
    def beyond_codes(self) -> int:
        """What every weight takes beside its codes."""
        return self.tables + self.tensor

    @property
    def once(self) -> int:
        """What a file takes once, however many weights it has."""
        return self.functions + self.shared


def one_weight(model: onnx.ModelProto, stored: Stored, parts: Parts) -> OneWeight:
    """Account for a file with one encoded weight."""
    whole = account(model)
    own = stored.stored_bytes
    shared = whole.contents + whole.text - own
    return OneWeight(parts.codes, parts.tables, own - parts.codes - parts.tables, whole.functions, shared, whole.host)
