from collections.abc import Iterator

import pytest

from graphshrink.onnx_io.runtime import Runtime


@pytest.fixture(scope="session")
def runtime() -> Iterator[Runtime]:
    with Runtime(timeout=60) as warm:
        yield warm
