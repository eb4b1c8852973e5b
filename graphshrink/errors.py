"""Every error a user can cause, in one tree.

    GraphshrinkError            exit code 1
    ├── UsageError              2   an option, a pass specification or a path that cannot be meant
    ├── ModelError              1   the model is broken, or is no ONNX model
    ├── CalibrationError        1   the sample inputs do not fit the model, or are empty or not finite
    │   ├── NotFiniteError      1   an activation is NaN or infinite
    │   └── UnfitError          1   activations of which no layer can be made; a pass leaves it alone
    ├── JudgeError              1   a judge (checker, ONNX Runtime) refused, crashed or ran out of time or memory
    ├── VerificationError       3   the result differs from the original by more than its bound; nothing was written
    └── InternalError          70   graphshrink broke its own promise; a bug to be reported

A message is one line: the place (file, value, layer or option), what is wrong, the cure. Code 4, "something asked for
was missed", is no error: the best verified result is written (see `Compiled.missed`).
"""

from typing import ClassVar


class GraphshrinkError(Exception):
    """Base of all errors that graphshrink raises on purpose."""

    exit_code: ClassVar[int] = 1


class UsageError(GraphshrinkError):
    """An option, a pass specification or a path that cannot be meant."""

    exit_code = 2


class ModelError(GraphshrinkError):
    """The model is broken, or the file is no ONNX model."""


class CalibrationError(GraphshrinkError):
    """The sample inputs do not fit the model, are empty, or are not finite."""


class NotFiniteError(CalibrationError):
    """An activation is NaN or infinite.

    Attributes:
        value: its name in the graph.
    """

    def __init__(self, message: str, value: str) -> None:
        super().__init__(message)
        self.value = value


class UnfitError(CalibrationError):
    """Activations do not go together, so that no layer can be fitted to them; a pass says so and leaves it alone."""


class JudgeError(GraphshrinkError):
    """A judge (the ONNX checker, ONNX Runtime) refused the model, crashed, or ran out of time or memory."""


class VerificationError(GraphshrinkError):
    """The result differs from the original by more than the bound, so nothing was written."""

    exit_code = 3


class InternalError(GraphshrinkError):
    """graphshrink broke its own promise: a bug."""

    exit_code = 70
