"""What becomes of files with wrong bytes in them."""

import onnx

from graphshrink.encodings import lift
from graphshrink.errors import ModelError
from graphshrink.onnx_io.load import load_as_stored


def expect_read_or_refused(content: bytes) -> None:
    """A file is read as something, or it is a ModelError."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as e:  # protobuf's own
        assert type(e).__name__ == "DecodeError"
        return
    try:
        graph = load_as_stored(model)
    except (ModelError, ValueError):  # ValueError: a type of attribute that nobody knows
        return
    try:
        lift(graph)
    except ModelError as e:
        assert "damaged" in str(e)
