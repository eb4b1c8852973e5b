"""Sizes and digests of files."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from graphshrink.metrics.size import GZIP_UP_TO, affordable_gzip, file_chunks, gzip_bytes, sha256

CONTENTS = [b"", b"a", b"abc" * 1000, np.random.default_rng(0).bytes(3_000_000), bytes(2_500_000)]


@pytest.mark.parametrize("content", CONTENTS, ids=len)
def test_gzip_is_that_of_the_tool(content: bytes) -> None:
    assert gzip_bytes([content]) == len(gzip.compress(content, 6))


def test_parts_are_one_stream() -> None:
    content = b"".join(CONTENTS)
    assert gzip_bytes(iter([memoryview(part) for part in CONTENTS])) == gzip_bytes([content])
    assert gzip_bytes([]) == len(gzip.compress(b""))


def test_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    paths = [tmp_path / str(index) for index in range(len(CONTENTS))]
    for path, content in zip(paths, CONTENTS, strict=True):
        path.write_bytes(content)
    whole = b"".join(CONTENTS)
    assert b"".join(file_chunks(paths)) == whole
    assert max(map(len, file_chunks(paths))) <= 1 << 20
    assert sha256(paths) == hashlib.sha256(whole).hexdigest()
    assert sha256([]) == hashlib.sha256().hexdigest()


def test_gzip_is_measured_only_where_it_is_affordable() -> None:
    assert affordable_gzip([b"a" * 1000], 1000) == gzip_bytes([b"a" * 1000])
    assert affordable_gzip([b"a" * 1000], GZIP_UP_TO + 1) is None
