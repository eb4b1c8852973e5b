import io
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from graphshrink.calibration.samples import held
from graphshrink.calibration.sources import Samples, open_samples, split
from graphshrink.errors import CalibrationError, UsageError
from graphshrink.ir.types import Array, Dim, TensorSpec


def spec(name: str, *shape: Dim, dtype: Any = np.float32) -> TensorSpec:
    return TensorSpec(name, np.dtype(dtype), shape)


X = spec("x", "batch", 3)
IDS = spec("ids", "batch", "length", dtype=np.int64)


def rows(count: int) -> Array:
    return np.arange(count * 3, dtype=np.float32).reshape(count, 3)


def firsts(samples: Samples, name: str = "x") -> list[float]:
    return [float(sample[name].flat[0]) for sample in samples]


def refused(source: Any, *inputs: TensorSpec, names: str) -> str:
    """The message of the refusal: one line without control characters that names the place."""
    with pytest.raises(CalibrationError) as raised:
        list(open_samples(source, inputs or [X]))
    message = str(raised.value)
    assert names in message
    assert message.isprintable()
    return message


class Reader:
    """As ONNX Runtime's CalibrationDataReader."""

    def __init__(self, samples: list[Any]) -> None:
        self.samples = iter(samples)
        self.asked = 0

    def get_next(self) -> Any:
        self.asked += 1
        return next(self.samples, None)


# --- objects


def values(samples: list[Any]) -> Any:
    """A collection with a length but without indices."""
    return dict(enumerate(samples)).values()


def stream(samples: list[Any]) -> Any:
    return iter(samples)


@pytest.mark.parametrize("make", [list[Any], tuple[Any, ...], Reader, values, stream])
def test_objects_that_give_samples(make: Callable[[list[Any]], Any]) -> None:
    samples = open_samples(make([{"x": rows(2)}, {"x": rows(1) + 1}]), [X])
    assert len(samples) == 2
    for _ in range(2):  # can be read again, even when the source cannot
        assert firsts(samples) == [0.0, 1.0]
    np.testing.assert_array_equal(samples[-2]["x"], rows(2))
    with pytest.raises(IndexError):
        samples[2]


def test_streams_are_read_no_further_than_the_limit() -> None:
    reader = Reader([{"x": rows(1)}] * 9)
    assert len(open_samples(reader, [X], limit=4)) == 4
    assert reader.asked == 4

    def endless() -> Iterator[dict[str, Array]]:
        yield {"x": rows(1)}
        yield {"x": rows(1)}
        raise AssertionError("asked too often")

    assert len(open_samples(endless(), [X], limit=2)) == 2


@pytest.mark.parametrize("make", [list[Any], values])
def test_evenly_spaced_when_the_length_is_known(make: Callable[[list[Any]], Any]) -> None:
    source = make([{"x": np.full((1, 3), i, np.float32)} for i in range(10)])
    samples = open_samples(source, [X], limit=4)
    assert firsts(samples) == [0, 2, 5, 7]
    assert "4 of 10" in samples.description


@given(st.integers(1, 3000), st.integers(1, 200))
def test_spacing(total: int, limit: int) -> None:
    samples = firsts(
        open_samples({"x": np.repeat(np.arange(total, dtype=np.float32)[:, None], 3, 1)}, [X], limit=limit)
    )
    assert len(samples) == min(total, limit)
    gaps = set(np.diff(samples).tolist())
    assert max(gaps, default=1) - min(gaps, default=1) <= 1
    assert min(gaps, default=1) >= 1


def test_only_the_chosen_items_of_an_indexed_source_are_asked_for() -> None:
    class Dataset:
        asked: list[int] = []  # noqa: RUF012

        def __len__(self) -> int:
            return 100

        def __getitem__(self, index: int) -> dict[str, Array]:
            self.asked.append(index)
            return {"x": rows(1) + index}

    assert firsts(open_samples(Dataset(), [X], limit=2)) == [0, 50]  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert Dataset.asked == [0, 50]


def test_values_that_are_almost_arrays() -> None:
    samples = open_samples([{"x": [[1, 2.5, 3]]}], [X])
    assert samples[0]["x"].dtype == np.float32


@pytest.mark.parametrize("source", [[], iter([]), Reader([]), {"x": rows(0)}, [{"x": rows(0)}]])
def test_empty_sources(source: Any) -> None:
    assert "empty" in refused(source, names="sample")


@pytest.mark.parametrize(
    "source", [7, None, [7], [rows(1)], rows(2), iter(["x"]), Reader(["x"]), [{"x": [[1], [2, 3]]}]]
)
def test_objects_that_give_no_samples(source: Any) -> None:
    refused(source, names="sample")


def test_failing_user_code() -> None:
    def broken() -> Iterator[dict[str, Array]]:
        yield {"x": rows(1)}
        raise RuntimeError("first line\nsecond \x1b[31m line")

    assert r"first line\nsecond" in refused(broken(), names="generator")


def test_a_limit_below_one() -> None:
    with pytest.raises(UsageError):
        open_samples([{"x": rows(1)}], [X], limit=0)


# --- one sample against the model


def test_inputs_come_in_the_order_of_the_model() -> None:
    sample = open_samples([{"ids": np.ones((1, 4), np.int64), "x": rows(1)}], [X, IDS])[0]
    assert list(sample) == ["x", "ids"]


def test_missing_inputs_are_listed_with_type_and_shape() -> None:
    message = refused([{"x": rows(1)}], X, IDS, names="'ids'")
    assert "int64 [batch, length]" in message
    assert "float32 [batch, 3]" in message


def test_unknown_names_are_escaped() -> None:
    assert r"\n::error::" in refused([{"x": rows(1), "\n::error::": rows(1)}], names="sample 0")


def test_long_names_are_cut() -> None:
    assert len(refused([{"x": rows(1), "y" * 10_000: rows(1)}], names="sample 0")) < 500


@pytest.mark.parametrize("shape", [(3,), (1, 4), (1, 1, 3), ()])
def test_wrong_shapes(shape: tuple[int, ...]) -> None:
    refused([{"x": np.zeros(shape, np.float32)}], names="'x'")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.complex64])
def test_not_finite(value: float, dtype: Any) -> None:
    refused([{"x": np.array([[1, value, 2]]).astype(dtype)}], spec("x", "batch", 3, dtype=dtype), names="'x'")


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.array([1.5, 1e30]), np.float32),
        (np.array([1.5, 2], np.float32), np.float64),
        (np.array([1.5, 2], ">f4"), np.float32),
        (np.array([1.5, 2], np.float32), np.float16),
        (np.array([1.5, 2], np.float32), ml_dtypes.bfloat16),
        (np.array([-5, 2**31 - 1], np.int64), np.int32),
        (np.array([-5, 7], np.int32), np.int64),
        (np.array([0, 255], np.int64), np.uint8),
        (np.array([-8, 7], np.int64), ml_dtypes.int4),
        (np.array([True, False]), np.int64),
        (np.array([0, 1], np.int64), np.bool_),
        (np.array([1 + 1j, 2], np.complex128), np.complex64),
    ],
)
def test_safe_casts(value: Array, dtype: Any) -> None:
    result = open_samples([{"x": value}], [spec("x", 2, dtype=dtype)])[0]["x"]
    assert result.dtype == dtype
    np.testing.assert_array_equal(result.astype(value.dtype), value.astype(dtype).astype(value.dtype))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.array([0, 255], np.uint8), np.float32),
        (np.array([0, 255], np.int64), np.float32),
        (np.array([True, False]), np.float32),
        (np.array([1.0, 2.0]), np.int64),
        (np.array([1.0, 2.0]), np.bool_),
        (np.array([1.0, 1e300]), np.float32),
        (np.array([1.0, 70000.0]), np.float16),
        (np.array([0, 2**31], np.int64), np.int32),
        (np.array([0, 2**63], np.uint64), np.int64),
        (np.array([-1, 0], np.int64), np.uint8),
        (np.array([0, 8], np.int64), ml_dtypes.int4),
        (np.array([0, 2], np.int64), np.bool_),
        (np.array([1j, 2]), np.float32),
        (np.array(["a", "b"]), np.float32),
        (np.array([1.0, 2.0]), object),
        (np.array(["a", 2], dtype=object), object),
        (np.array([b"\xff", b"b"]), object),
        (np.array(["2020", "2021"], dtype="M8[Y]"), np.int64),
        (np.zeros(2, "V2"), np.float16),
        (np.zeros(2, [("a", "f4")]), np.float32),
    ],
)
def test_unsafe_casts(value: Array, dtype: Any) -> None:
    refused([{"x": value}], spec("x", 2, dtype=dtype), names="'x'")


def test_images_are_not_scaled_by_a_guess() -> None:
    assert "scale" in refused([{"x": np.zeros((1, 3), np.uint8)}], names="'x'")


@pytest.mark.parametrize(
    "value", [["a", "ü"], np.array(["a", "ü"]), np.array(["a", "ü"], object), [b"a", "ü".encode()]]
)
def test_text(value: Any) -> None:
    assert open_samples([{"x": value}], [spec("x", 2, dtype=object)])[0]["x"].tolist() == ["a", "ü"]


def test_an_empty_input_beside_others_is_well() -> None:
    past = spec("past", "batch", "past_length", 4)
    samples = open_samples([{"x": rows(1), "past": np.zeros((1, 0, 4), np.float32)}], [X, past])
    assert samples[0]["past"].shape == (1, 0, 4)


def test_scalars_keep_rank_0() -> None:
    assert open_samples([{"x": 1.5}], [spec("x")])[0]["x"].shape == ()


def test_any_rank_will_do_when_the_model_says_none() -> None:
    free = TensorSpec("x", np.dtype(np.float32), None)
    assert open_samples([{"x": rows(5)}, {"x": np.zeros(2)}], [free])[1]["x"].shape == (2,)


# --- .npz and arrays in memory: the rules of cutting


def save(folder: Path, arrays: Mapping[str, Any], name: str = "data.npz", *, packed: bool = False) -> Path:
    path = folder / name
    if packed:
        np.savez_compressed(path, **arrays)
    else:
        np.savez(path, **arrays)
    return path


@pytest.fixture(params=["memory", "npz", "packed", "npy"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Mapping[str, Array]], Any]:
    """Ways to give the same arrays; a .npy file only when there is one."""

    def make(arrays: Mapping[str, Array]) -> Any:
        if request.param == "memory":
            return arrays
        if request.param != "npy" or len(arrays) > 1:
            return save(tmp_path, arrays, packed=request.param == "packed")
        np.save(tmp_path / "x.npy", next(iter(arrays.values())))
        return str(tmp_path / "x.npy")

    return make


Store = Callable[[Mapping[str, Array]], Any]


@pytest.mark.parametrize(
    ("model", "given", "count", "sample"),
    [
        (("batch", 3), (5, 2, 3), 5, (2, 3)),  # stacked
        ((1, 3), (5, 1, 3), 5, (1, 3)),
        ((), (5,), 5, ()),
        (("length",), (2, 7), 2, (7,)),
        (("batch", 3), (5, 3), 5, (1, 3)),  # split along the batch
        ((None, None), (5, 7), 5, (1, 7)),
        (("batch_size",), (5,), 5, (1,)),
        (("N",), (5,), 5, (1,)),
        ((1, 3), (5, 3), 5, (1, 3)),  # chunks of the fixed size
        ((2, 3), (6, 3), 3, (2, 3)),
        ((2, 3), (2, 3), 1, (2, 3)),
        ((), (), 1, ()),  # scalars
        ((1, "n"), (), 1, (1, 1)),
        (None, (5, 7), 5, (1, 7)),  # unknown rank
        (None, (), 1, ()),
    ],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_cutting(
    store: Store, order: Any, model: tuple[Dim, ...] | None, given: tuple[int, ...], count: int, sample: tuple[int, ...]
) -> None:
    array = np.asarray(np.arange(np.prod(given), dtype=np.float32).reshape(given), order=order)
    samples = open_samples(store({"x": array}), [TensorSpec("x", np.dtype(np.float32), model)])
    assert len(samples) == count
    assert {item["x"].shape for item in samples} == {sample}
    assert all(item["x"].flags.c_contiguous for item in samples)
    np.testing.assert_array_equal(np.concatenate([item["x"].ravel() for item in samples]), array.ravel())


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (("batch", 3), (3,)),
        (("batch", 3), (5, 4)),
        (("batch", 3), (5, 2, 4)),
        (("batch", 3), (5, 2, 2, 3)),
        ((2, 3), (5, 3)),
        ((0, 3), (5, 3)),
        (("batch", 3), ()),  # a scalar is no row of three
        (("samples",), (16000,)),  # a waveform, or 16,000 samples? No guess.
        ((None,), (16000,)),
    ],
)
def test_arrays_that_cannot_be_cut(store: Store, model: tuple[Dim, ...], given: tuple[int, ...]) -> None:
    refused(store({"x": np.zeros(given, np.float32)}), spec("x", *model), names="x")


@pytest.mark.parametrize(("model", "given"), [((None, 3), (0, 3)), ((None, 3), (0, 1, 3)), ((None, None), (4, 0))])
def test_arrays_without_samples(store: Store, model: tuple[Dim, ...], given: tuple[int, ...]) -> None:
    refused(store({"x": np.zeros(given, np.float32)}), spec("x", *model), names="is empty")


def test_several_inputs_are_cut_alike(store: Store) -> None:
    inputs = [X, IDS, spec("scale"), spec("lengths", "batch", dtype=np.int32)]
    arrays = {
        "x": rows(4),
        "ids": np.arange(20).reshape(4, 1, 5),
        "scale": np.array(0.5),
        "lengths": np.arange(4),
    }
    samples = open_samples(store(arrays), inputs)
    assert len(samples) == 4
    assert [array.tolist() for array in samples[2].values()] == [[[6, 7, 8]], [[10, 11, 12, 13, 14]], 0.5, [2]]


def test_different_numbers_of_samples(store: Store) -> None:
    message = refused(store({"x": rows(4), "ids": np.zeros((3, 5), np.int64)}), X, IDS, names="'ids' gives 3")
    assert "'x' gives 4" in message


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_limit_takes_evenly_spaced_samples(store: Store, order: Any) -> None:
    samples = open_samples(store({"x": np.asarray(rows(10), order=order)}), [X], limit=4)
    assert [sample["x"].tolist() for sample in samples] == [rows(10)[i : i + 1].tolist() for i in (0, 2, 5, 7)]
    assert "4 of 10" in samples.description


def test_names_of_inputs_are_free_text(tmp_path: Path) -> None:
    name = "model/input ids:0.npy"
    assert len(open_samples(save(tmp_path, {name: rows(2)}), [spec(name, "batch", 3)])) == 2


def test_large_members_are_read_in_blocks(tmp_path: Path) -> None:
    big = np.arange(900_000, dtype=np.float32).reshape(3, 1, 300_000)  # 1.2 MB a sample
    samples = open_samples(save(tmp_path, {"x": big}, packed=True), [spec("x", 1, None)], limit=2)
    assert firsts(samples) == [0.0, 300_000.0]


def test_npy_is_for_models_with_one_input(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", rows(2))
    refused(tmp_path / "x.npy", X, IDS, names="x.npy")


def test_npy_is_read_when_asked_for(tmp_path: Path) -> None:
    array = rows(3)
    array[2, 1] = np.nan
    np.save(tmp_path / "x.npy", array)
    samples = open_samples(tmp_path / "x.npy", [X])
    assert len(samples) == 3
    assert firsts(open_samples(tmp_path / "x.npy", [X], limit=1)) == [0.0]
    with pytest.raises(CalibrationError, match="sample 2"):
        samples[2]


def test_types_of_ml_dtypes_survive_numpys_files(store: Store) -> None:
    array = np.array([[1.5, -2, 3]], dtype=ml_dtypes.bfloat16)
    sample = open_samples(store({"x": array}), [spec("x", "batch", 3, dtype=ml_dtypes.bfloat16)])[0]["x"]
    assert (sample.dtype, sample.tolist()) == (array.dtype, array.tolist())


# --- NumPy's files: guards


def npy_bytes(array: Array, version: tuple[int, int] = (1, 0)) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version)
    return stream.getvalue()


def npy_with_header(header: str, data: bytes = b"") -> bytes:
    text = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def header(shape: str, descr: str = "'<f4'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"


@pytest.fixture(params=["npy", "npz"])
def raw(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[bytes], Path]:
    """Puts raw bytes where an array is expected."""

    def make(data: bytes) -> Path:
        path = tmp_path / f"data.{request.param}"
        if request.param == "npy":
            path.write_bytes(data)
            return path
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", data)
        return path

    return make


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_header_versions(raw: Callable[[bytes], Path], version: tuple[int, int]) -> None:
    assert len(open_samples(raw(npy_bytes(rows(2), version)), [X])) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"not an array",
        b"\x93NUMPY\x01\x00",
        b"\x93NUMPY\x03\x00" + npy_bytes(rows(2))[8:],
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
        npy_bytes(rows(2))[:-1],
        npy_bytes(rows(2)) + b"x",
        npy_with_header(header("(1000000000000, 3)")),
        npy_with_header(header("(-1, 3)"), bytes(12)),
        npy_with_header(header("(0x" + "f" * 8000 + ", 3)")),
        npy_with_header(header("(" + "9223372036854775807, " * 400 + ")")),
        npy_with_header(header("(1, 3)", "'<q9'"), bytes(12)),
        npy_with_header(header("(1, 3)", "'|O'"), bytes(12)),
        npy_with_header("(" * 5000),
        npy_with_header("{'descr': '\\d"),
        npy_with_header("__import__('os').system('true')"),
    ],
)
def test_broken_and_hostile_headers(raw: Callable[[bytes], Path], data: bytes) -> None:
    refused(raw(data), names="data.np")


@pytest.mark.parametrize("descr", ["'<U0'", "'|V0'", "('<f4', (0,))", "('<f4', (1,))", "[('a', '<f4')]"])
def test_element_types_without_size_or_with_parts(raw: Callable[[bytes], Path], descr: str) -> None:
    count = 12 if "f4" in descr and "0" not in descr else 0
    for dtype in (np.float32, object):
        message = refused(
            raw(npy_with_header(header("(1, 3)", descr), bytes(count))), spec("x", 1, 3, dtype=dtype), names="x"
        )
        assert "elements of type" in message


def test_headers_written_by_python_2(raw: Callable[[bytes], Path]) -> None:
    assert len(open_samples(raw(npy_with_header(header("(2L, 3L)"), bytes(24))), [X])) == 2


def test_objects_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return print, ("unpickled",)

    bomb = np.array([[Bomb()]], dtype=object)
    np.save(tmp_path / "x.npy", bomb, allow_pickle=True)
    for dtype in (np.float32, object):
        for path in (tmp_path / "x.npy", save(tmp_path, {"x": bomb})):
            assert "Python objects" in refused(path, spec("x", "batch", 1, dtype=dtype), names="x")
    assert "unpickled" not in capsys.readouterr().out


def test_headers_are_checked_before_any_data_is_read(tmp_path: Path) -> None:
    path = save(tmp_path, {"x": rows(5000), "ids": np.zeros((5000, 5), np.float32)})
    content = path.read_bytes()
    start = content.index(rows(5000).tobytes())
    path.write_bytes(content[:start] + bytes(60000) + content[start + 60000 :])  # the CRC of x is wrong now
    assert "takes int64" in refused(path, X, IDS, names="'ids'")


def test_damaged_data(tmp_path: Path) -> None:
    path = save(tmp_path, {"x": rows(5000)})
    content = bytearray(path.read_bytes())
    content[content.index(rows(5000).tobytes()) + 59990] ^= 1
    path.write_bytes(content)
    assert "CRC" in refused(path, names="data.npz")
    with pytest.raises(CalibrationError):  # also when the damage lies in what is not taken
        open_samples(path, [X], limit=1)


@pytest.mark.parametrize("name", ["x.npz", "x.npy", "x.py:f", "folder", "x.npz\x00", "x" * 5000, "", "a\x1b[2Jb.npz"])
def test_paths_that_lead_nowhere(tmp_path: Path, name: str) -> None:
    refused(f"{tmp_path}/{name}" if name else tmp_path / "none", names="")


@pytest.mark.parametrize("name", ["x.npz", "x.npy", "x.py"])
def test_no_regular_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    source = f"{path}:f" if name == "x.py" else path
    os.mkfifo(path)  # opening it would hang
    assert "no regular" in refused(source, names=name)
    path.unlink()
    path.write_bytes(b"")
    assert "empty" in refused(source, names=name)


@pytest.mark.parametrize("name", ["x.npz", "x.onnx", "x.txt", "input_0.pb"])
def test_unknown_kinds_of_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\n")
    refused(tmp_path / name, names=name)


def test_an_npz_with_other_members(tmp_path: Path) -> None:
    path = save(tmp_path, {"x": rows(2)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("read\nme.txt", "hello")
    refused(path, names=r"read\nme.txt")


def test_an_npz_with_two_arrays_of_one_name(tmp_path: Path) -> None:
    path = save(tmp_path, {"x": rows(2)})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning):
        archive.writestr("x.npy", npy_bytes(rows(3)))
    refused(path, names="data.npz")


def test_an_npz_without_arrays(tmp_path: Path) -> None:
    refused(save(tmp_path, {}), names="data.npz")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w", method) as archive:
        archive.writestr("x.npy", npy_bytes(rows(2)))
    refused(tmp_path / "data.npz", names="x.npy")


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (8, b"\x01\x00"),  # flag: encrypted
        (24, (2**31).to_bytes(4, "little")),  # uncompressed size
        (20, (2**31).to_bytes(4, "little")),  # compressed size
    ],
)
def test_an_npz_whose_directory_lies(tmp_path: Path, offset: int, value: bytes) -> None:
    path = save(tmp_path, {"x": rows(2)})
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + offset : entry + offset + len(value)] = value
    path.write_bytes(content)
    refused(path, names="data.npz")


def test_a_declared_size_that_deflate_cannot_reach(tmp_path: Path) -> None:
    huge = 2**31
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy_with_header(header(f"({huge // 12}, 3)")))
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    data = npy_with_header(header(f"({huge // 12}, 3)"))
    content[entry + 24 : entry + 28] = (len(data) + huge // 12 * 12).to_bytes(4, "little")  # agrees with the header
    path.write_bytes(content)
    assert "declares" in refused(path, names="x.npy")


@given(position=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_changed_byte_never_gives_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    path = save(tmp_path_factory.getbasetemp(), {"x": rows(4), "ids": np.zeros((4, 2), np.int64)}, packed=True)
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(content)
    try:
        samples = list(open_samples(path, [X, IDS]))
    except CalibrationError as error:
        assert str(error).isprintable()
    else:
        assert [sample["x"].tolist() for sample in samples] == [rows(4)[i : i + 1].tolist() for i in range(4)]


# --- folders


def write_pb(path: Path, array: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(numpy_helper.from_array(array).SerializeToString())


def test_a_folder_of_npz_files_may_be_ragged(tmp_path: Path) -> None:
    for i, length in enumerate([2, 7, 3]):
        save(tmp_path, {"ids": np.full((1, length), i)}, f"{i}.npz")
    samples = open_samples(tmp_path, [IDS])
    assert [sample["ids"].shape for sample in samples] == [(1, 2), (1, 7), (1, 3)]
    assert firsts(samples, "ids") == [0, 1, 2]


def test_folders_are_read_in_the_order_of_numbers_and_when_asked_for(tmp_path: Path) -> None:
    for i in range(11):
        save(tmp_path, {"x": rows(2) + i}, f"sample{i}.npz")
    (tmp_path / "._sample3.npz").write_bytes(b"what macOS leaves")
    samples = open_samples(tmp_path, [X], limit=5)
    assert firsts(samples) == [0, 2, 4, 6, 8]
    assert "5 of 11" in samples.description
    (tmp_path / "sample4.npz").unlink()
    with pytest.raises(CalibrationError, match="sample4"):
        samples[2]


def test_every_chosen_file_is_checked_before_the_first_is_used(tmp_path: Path) -> None:
    save(tmp_path, {"x": rows(1)}, "1.npz")
    save(tmp_path, {"x": rows(1).astype(np.uint8)}, "2.npz")
    with pytest.raises(CalibrationError, match=r"2\.npz"):
        open_samples(tmp_path, [X])


@pytest.mark.parametrize("array", [rows(1)[0], rows(1)[None], rows(0), np.full((1, 3), np.nan, np.float32)])
def test_a_file_in_a_folder_is_one_sample_as_it_is_fed(tmp_path: Path, array: Array) -> None:
    save(tmp_path, {"x": array}, "1.npz")
    refused(tmp_path, names="1.npz")


def test_an_empty_folder(tmp_path: Path) -> None:
    refused(tmp_path, names=tmp_path.name)


@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_files_in_folders_keep_their_order(tmp_path: Path, order: Any) -> None:
    save(tmp_path, {"x": np.asarray(rows(4), order=order)}, "1.npz")
    np.testing.assert_array_equal(open_samples(tmp_path, [X])[0]["x"], rows(4))


def test_test_data_sets(tmp_path: Path) -> None:
    for i in (0, 1, 10, 2):
        write_pb(tmp_path / f"test_data_set_{i}" / "input_0.pb", rows(2) + i)
        write_pb(tmp_path / f"test_data_set_{i}" / "input_1.pb", np.full((1, i + 1), i))
        write_pb(tmp_path / f"test_data_set_{i}" / "output_0.pb", rows(1))
    samples = open_samples(tmp_path, [X, IDS])
    assert firsts(samples) == [0, 1, 2, 10]
    assert samples[3]["ids"].shape == (1, 11)
    assert firsts(open_samples(tmp_path / "test_data_set_10", [X, IDS])) == [10]
    assert firsts(open_samples(str(tmp_path), [X, IDS], limit=2)) == [0, 2]


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array(["a", "ü"], object), object),
        (np.array([1.5, 2], ml_dtypes.bfloat16), ml_dtypes.bfloat16),
        (np.array([-8, 7], ml_dtypes.int4), ml_dtypes.int4),
        (np.array([True, False]), np.bool_),
        (np.array([1.5, 2.0]), np.float32),
    ],
)
def test_element_types_of_tensor_protos(tmp_path: Path, array: Array, dtype: Any) -> None:
    write_pb(tmp_path / "input_0.pb", array)
    sample = open_samples(tmp_path, [spec("x", 2, dtype=dtype)])[0]["x"]
    assert (sample.dtype, sample.tolist()) == (np.dtype(dtype), array.tolist())


@pytest.mark.parametrize("name", ["input_1.pb", "input_00.pb", "input_x.pb"])
def test_files_of_no_input(tmp_path: Path, name: str) -> None:
    write_pb(tmp_path / "input_0.pb", rows(1))
    write_pb(tmp_path / name, rows(1))
    refused(tmp_path, names=name if name != "input_00.pb" else "input_0")


def test_a_file_is_missing_in_a_set(tmp_path: Path) -> None:
    write_pb(tmp_path / "test_data_set_0" / "input_0.pb", rows(1))
    refused(tmp_path, X, IDS, names="input_1.pb")


def test_a_fifo_in_a_set(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "input_0.pb")
    refused(tmp_path, names="input_0.pb")


def _external(tensor: onnx.TensorProto) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def _segment(tensor: onnx.TensorProto) -> None:
    tensor.segment.begin = 0


def _negative(tensor: onnx.TensorProto) -> None:
    tensor.dims[0] = -1


def _short(tensor: onnx.TensorProto) -> None:
    tensor.dims[0] = 2**40


def _long(tensor: onnx.TensorProto) -> None:
    tensor.raw_data += b"1234"


def _typeless(tensor: onnx.TensorProto) -> None:
    tensor.data_type = 0


def _unknown_type(tensor: onnx.TensorProto) -> None:
    tensor.data_type = 999


@pytest.mark.parametrize("damage", [_external, _segment, _negative, _short, _long, _typeless, _unknown_type])
def test_broken_tensor_protos(tmp_path: Path, damage: Callable[[onnx.TensorProto], None]) -> None:
    tensor = numpy_helper.from_array(rows(1))
    damage(tensor)
    (tmp_path / "input_0.pb").write_bytes(tensor.SerializeToString())
    refused(tmp_path, names="input_0.pb")


@pytest.mark.parametrize("array", [rows(1).astype(np.uint8), rows(1)[0], np.zeros((1, 4), np.float32), rows(0)])
def test_tensor_protos_that_do_not_fit(tmp_path: Path, array: Array) -> None:
    write_pb(tmp_path / "input_0.pb", array)
    refused(tmp_path, names=tmp_path.name)


def test_what_is_no_tensor_proto(tmp_path: Path) -> None:
    (tmp_path / "input_0.pb").write_bytes(b"\xff" * 20)
    refused(tmp_path, names="input_0.pb")


# --- file.py:function


def write_py(folder: Path, body: str) -> str:
    (folder / "calib.py").write_text("import numpy as np\nfrom dataclasses import dataclass\n" + body)
    return f"{folder / 'calib.py'}:make"


@pytest.mark.parametrize(
    "body",
    [
        "def make():\n    return [{'x': np.ones((1, 3))}] * 3",
        "def make():\n    for i in range(3):\n        yield {'x': np.ones((1, 3))}",
        "def make():\n    return {'x': np.ones((3, 3))}",
        "@dataclass\nclass make:\n    left: 'int' = 3\n    def get_next(self):\n        self.left -= 1\n"
        "        return {'x': np.ones((1, 3))} if self.left >= 0 else None",
    ],
)
def test_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    samples = open_samples(write_py(tmp_path, body), [X])
    assert len(samples) == 3
    assert samples[0]["x"].tolist() == [[1, 1, 1]]
    assert "calib.py:make" in samples.description
    assert [path.name for path in tmp_path.iterdir()] == ["calib.py"]  # no __pycache__


@pytest.mark.parametrize(
    "body",
    [
        "raise ValueError('first\\nsecond')",
        "def make(:",
        "import sys; sys.exit(0)",
        "make = 7",
        "other = 7",
        "def make(argument): ...",
        "def make(): raise KeyError('gone')",
        "def make(): import sys; sys.exit(0)",
        "def make():\n    import sys\n    yield {'x': np.ones((1, 3))}\n    sys.exit(0)",
        "def make(): return None",
        "def make(): return 7",
        "def make(): return 'data.npz'",
        "def make(): return []",
        "def make(): return [{'x': np.ones((1, 4))}]",
        "def make():\n    yield {'x': np.ones((1, 3))}\n    raise OSError('no more')",
    ],
)
def test_broken_functions_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    source = write_py(tmp_path, body)
    before = (dict(sys.modules), list(sys.path), sys.dont_write_bytecode)
    refused(source, names="calib.py")
    assert (dict(sys.modules), list(sys.path), sys.dont_write_bytecode) == before
    assert [path.name for path in tmp_path.iterdir()] == ["calib.py"]


def test_a_failure_restores_the_module_of_an_earlier_success(tmp_path: Path) -> None:
    source = write_py(tmp_path, "def make(): return [{'x': np.ones((1, 3))}]")
    open_samples(source, [X])
    before = dict(sys.modules)
    write_py(tmp_path, "def make(): return [{'x': np.ones((1, 4))}]  # longer than before")
    refused(source, names="calib.py")
    assert dict(sys.modules) == before


def test_interrupts_are_not_swallowed(tmp_path: Path) -> None:
    source = write_py(tmp_path, "def make(): raise KeyboardInterrupt")
    before = dict(sys.modules)
    with pytest.raises(KeyboardInterrupt):
        open_samples(source, [X])
    assert dict(sys.modules) == before


# --- split


@pytest.mark.parametrize(
    ("total", "judging"),
    [(1, [0]), (2, [1]), (3, [2]), (4, [3]), (5, [4]), (9, [4]), (10, [4, 9]), (128, list(range(4, 128, 5)))],
)
def test_split(total: int, judging: list[int]) -> None:
    samples = held([{"x": np.full((1, 3), i)} for i in range(total)], "data")
    fit, judge = split(samples)
    assert firsts(judge) == judging
    assert firsts(fit) == ([0] if total == 1 else [i for i in range(total) if i not in judging])
    assert all("data" in part.description for part in (fit, judge))
    assert firsts(fit) == firsts(fit)
    assert len(fit) == len(firsts(fit))
