import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphshrink.errors import ModelError
from graphshrink.ir.tensor import ExternalData, Tensor
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.external import ALIGNMENT, DataWriter, locate
from graphshrink.onnx_io.load import load

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX's links and files")

DATA = np.arange(16, dtype=np.float32)


def model_with(elem_type: int = TensorProto.FLOAT, dims: tuple[int, ...] = (4,), **entries: str) -> onnx.ModelProto:
    """A model with one external tensor, `entries` as its external data."""
    tensor = TensorProto(name="W", data_type=elem_type, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["W"], ["y"])], "g", [], [helper.make_empty_tensor_value_info("y")], [tensor]
    )
    return helper.make_model(graph)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with data in it, and more data outside."""
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    for path in (home / "w.bin", home / "sub" / "w.bin", tmp_path / "secret.bin"):
        path.write_bytes(DATA.tobytes())
    return home


def read(folder: Path, elem_type: int = TensorProto.FLOAT, dims: tuple[int, ...] = (4,), **entries: str) -> Tensor:
    path = folder / "model.onnx"
    path.write_bytes(model_with(elem_type, dims, **entries).SerializeToString())
    tensor = load(path).constant("W")
    assert tensor is not None
    return tensor


def refusal(folder: Path, elem_type: int = TensorProto.FLOAT, dims: tuple[int, ...] = (4,), **entries: str) -> str:
    with pytest.raises(ModelError) as caught:
        read(folder, elem_type, dims, **entries)
    text = str(caught.value)
    assert text.isprintable()
    assert "tensor 'W'" in text
    return text


# ---- what is allowed


@pytest.mark.parametrize("location", ["w.bin", "./w.bin", "sub/w.bin", "sub/../w.bin"])
def test_files_inside_the_folder_are_read(folder: Path, location: str) -> None:
    tensor = read(folder, location=location, offset="8", length="16")
    assert tensor.array.tolist() == [2, 3, 4, 5]
    assert not tensor.array.flags.writeable


def test_offset_and_length_may_be_left_out(folder: Path) -> None:
    assert read(folder, location="w.bin").array.tolist() == [0, 1, 2, 3]
    assert read(folder, dims=(16,), location="w.bin", offset="0").array.tolist() == DATA.tolist()


def test_further_entries_are_kept(folder: Path) -> None:
    tensor = read(folder, location="w.bin", checksum="0123", basepath="")
    assert isinstance(tensor.data, ExternalData)
    assert dict(tensor.data.entries) == {"location": "w.bin", "checksum": "0123", "basepath": ""}


def test_packed_and_empty_tensors(folder: Path) -> None:
    nibbles = read(folder, TensorProto.UINT4, (3,), location="w.bin", offset="4", length="2")
    assert nibbles.array.astype(np.int32).tolist() == [0, 0, 0]
    assert read(folder, dims=(0,), location="w.bin", offset="64", length="0").array.shape == (0,)


@posix_only
def test_links_inside_the_folder_are_followed(folder: Path) -> None:
    (folder / "link.bin").symlink_to("sub/w.bin")
    assert read(folder, location="link.bin").array.tolist() == [0, 1, 2, 3]
    (folder.parent / "alias").symlink_to(folder)
    assert read(folder.parent / "alias", location="w.bin").array.tolist() == [0, 1, 2, 3]


def test_data_is_mapped_when_it_is_asked_for(folder: Path) -> None:
    tensor = read(folder, location="w.bin", offset="4")
    with (folder / "w.bin").open("r+b") as file:  # nothing was read yet
        file.write((DATA + 100).tobytes())
    assert tensor.array.tolist() == [101, 102, 103, 104]
    assert isinstance(memoryview(tensor.buffer).obj, np.memmap)


def test_data_that_vanished_since_is_an_error(folder: Path) -> None:
    tensor = read(folder, location="w.bin")
    (folder / "w.bin").unlink()
    with pytest.raises(ModelError, match=r"'w.bin' can no longer be read"):
        _ = tensor.array
    (folder / "w.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match=r"'w.bin' can no longer be read"):
        _ = tensor.array


def test_emitting_leaves_it_where_it_is(folder: Path) -> None:
    model = model_with(location="w.bin", offset="0", length="16")
    assert emit(load(saved_as_is(model, folder))) == model


def saved_as_is(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_model_without_a_folder_can_be_loaded_but_its_data_not() -> None:
    model = model_with(location="w.bin")
    graph = load(model)
    assert emit(graph) == model
    tensor = graph.constant("W")
    assert tensor is not None
    with pytest.raises(ModelError, match=r"'w.bin': the model came without a folder; load it by its path"):
        _ = tensor.array


def test_what_onnx_writes_is_read(tmp_path: Path) -> None:
    array = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    tensor = onnx.numpy_helper.from_array(array, "W")
    graph = helper.make_graph([], "g", [], [], [tensor])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph), path, save_as_external_data=True, location="model.data", size_threshold=0)
    loaded = load(path).constant("W")
    assert loaded is not None
    assert np.array_equal(loaded.array, array)


# ---- what is not


@pytest.mark.parametrize(
    "location",
    [
        "",
        "/etc/passwd",
        "//server/share",
        "C:/w.bin",
        "c:w.bin",
        "sub\\w.bin",
        "..\\w.bin",
        "http://example.com/w.bin",
        "file:///etc/passwd",
        "w\0.bin",
        "w\n.bin",
        "w\x1b[31m.bin",
        "w\x7f.bin",
        "w\x9b.bin",
    ],
)
def test_locations_that_are_no_plain_relative_paths(folder: Path, location: str) -> None:
    assert "is not a plain relative path" in refusal(folder, location=location)


def test_no_location_at_all(folder: Path) -> None:
    assert "location '' is not a plain relative path" in refusal(folder, offset="0")


@pytest.mark.parametrize("location", ["../secret.bin", "sub/../../secret.bin", "../home2/w.bin"])
def test_paths_that_leave_the_folder(folder: Path, location: str) -> None:
    (folder.parent / "home2").mkdir()
    (folder.parent / "home2" / "w.bin").write_bytes(DATA.tobytes())
    assert refusal(folder, location=location).endswith("lies outside the model's folder")


@posix_only
def test_links_that_leave_the_folder_say_what_to_do(folder: Path) -> None:
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    assert "model hub's cache" in refusal(folder, location="link.bin")
    (folder / "way").symlink_to(folder.parent)
    assert "outside the model's folder" in refusal(folder, location="way/secret.bin")


@posix_only
def test_the_layout_of_a_model_hub_says_what_to_do(tmp_path: Path) -> None:
    """snapshots/<revision>/model.onnx and its data are links into blobs/."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "aaaa").write_bytes(model_with(location="w.bin").SerializeToString())
    (blobs / "bbbb").write_bytes(DATA.tobytes())
    (snapshot / "model.onnx").symlink_to("../../blobs/aaaa")
    (snapshot / "w.bin").symlink_to("../../blobs/bbbb")
    with pytest.raises(ModelError, match=r"copy the model with its data to a folder of its own first"):
        load(snapshot / "model.onnx")


@posix_only
def test_rings_of_links(folder: Path) -> None:
    (folder / "ring.bin").symlink_to("ring.bin")
    assert "cannot be opened" in refusal(folder, location="ring.bin")


@posix_only
def test_hard_links(folder: Path) -> None:
    os.link(folder.parent / "secret.bin", folder / "hard.bin")
    assert "hard links" in refusal(folder, location="hard.bin")


@posix_only
def test_pipes_and_folders(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert "is not a regular file" in refusal(folder, location="pipe")
    assert "is not a regular file" in refusal(folder, location="sub")


def test_missing_files_and_folders(folder: Path) -> None:
    assert "cannot be opened: No such file" in refusal(folder, location="gone.bin")
    assert "cannot be opened: No such file" in refusal(folder, location="gone/w.bin")
    assert "cannot be opened" in refusal(folder, location="x" * 5000)


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize(
    "number", ["", " 0", "0 ", "+0", "-1", "0x10", "1e1", "010", "1_0", "16.0", "٣", "9" * 20, "zero"]
)
def test_numbers_that_are_not_strictly_decimal(folder: Path, key: str, number: str) -> None:
    text = refusal(folder, location="w.bin", offset=number) if key == "offset" else refusal(folder, length=number)
    assert f"external data {key} {number!r} is not a plain number" in text


@pytest.mark.parametrize("length", ["0", "15", "17", "64"])
def test_lengths_that_contradict_the_shape(folder: Path, length: str) -> None:
    text = refusal(folder, location="w.bin", length=length)
    assert f"has {length} bytes where its shape and type ask for 16" in text


@pytest.mark.parametrize("offset", ["49", "64", "9223372036854775807"])
def test_tensors_that_pass_the_end_of_the_file(folder: Path, offset: str) -> None:
    assert "ends at 64 bytes, before the tensor does" in refusal(folder, location="w.bin", offset=offset)


def test_shapes_whose_product_overflows(folder: Path) -> None:
    dims = (2**31, 2**31, 4)  # 0 modulo 2^64 bytes
    assert "absurd shape" in refusal(folder, dims=dims, location="w.bin", length="0")


def test_entries_that_come_twice() -> None:
    entries = (("location", "a"), ("location", "b"))
    with pytest.raises(ModelError, match="something twice"):
        locate(entries, None, 0, "tensor 'W'")


def test_strings_cannot_be_external(folder: Path) -> None:
    assert "strings, which cannot lie outside" in refusal(folder, TensorProto.STRING, location="w.bin")


def test_data_cannot_be_inside_and_outside(folder: Path) -> None:
    for inside in (TensorProto(raw_data=DATA[:4].tobytes()), TensorProto(float_data=[1, 2, 3, 4])):
        model = model_with(location="w.bin")
        model.graph.initializer[0].MergeFrom(inside)
        with pytest.raises(ModelError, match="both inside and outside"):
            load(saved_as_is(model, folder))
        model.graph.initializer[0].ClearField("data_location")
        with pytest.raises(ModelError, match="both inside and outside"):
            load(saved_as_is(model, folder))


def test_the_rules_hold_for_every_tensor_of_a_model(folder: Path) -> None:
    outside = model_with(location="../secret.bin").graph.initializer[0]
    holder = helper.make_node("Constant", [], ["c"], value=outside)
    body = helper.make_graph([holder], "body", [], [])
    sparse = onnx.SparseTensorProto(values=outside, indices=numpy_helper.from_array(np.arange(4)), dims=[4])
    changes: list[Callable[[onnx.ModelProto], object]] = [
        lambda m: m.graph.node.append(holder),
        lambda m: m.graph.node.append(helper.make_node("If", ["y"], ["z"], then_branch=body)),
        lambda m: m.graph.sparse_initializer.append(sparse),
        lambda m: m.functions.add(name="f").node.append(holder),
        lambda m: m.functions.add(name="f").attribute_proto.append(helper.make_attribute("value", outside)),
        lambda m: m.training_info.add().algorithm.initializer.append(outside),
    ]
    for change in changes:
        model = model_with(location="w.bin")
        change(model)
        with pytest.raises(ModelError, match="outside the model's folder"):
            load(saved_as_is(model, folder))


# ---- writing


def test_tensors_are_aligned_and_hashed(tmp_path: Path) -> None:
    with (tmp_path / "data").open("wb") as file:
        writer = DataWriter(file)
        places = [writer.write(data) for data in (b"abc", memoryview(b""), b"x" * (ALIGNMENT + 1), b"end")]
    content = (tmp_path / "data").read_bytes()
    assert [place.offset % ALIGNMENT for place in places] == [0] * 4
    assert [content[p.offset : p.offset + p.length] for p in places] == [b"abc", b"", b"x" * (ALIGNMENT + 1), b"end"]
    with (tmp_path / "again").open("wb") as file:
        again = DataWriter(file)
        for data in (b"abc", b"", b"x" * (ALIGNMENT + 1), b"end"):
            again.write(data)
    assert again.digest == writer.digest
