"""One worker runs what all of these tests look at."""

from collections.abc import Generator

import pytest

from graphshrink.onnx_io.runtime import Runtime


@pytest.fixture(scope="session")
def runtime() -> Generator[Runtime]:
    with Runtime(timeout=60) as runtime:
        yield runtime
