import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import EncodeError
from hypothesis import given, settings
from onnx import TensorProto, helper, numpy_helper

from graphshrink.errors import GraphshrinkError, InternalError, ModelError
from graphshrink.ir import edit
from graphshrink.ir.compare import difference
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import ExternalData, tensor_of
from graphshrink.onnx_io import emit as emit_module
from graphshrink.onnx_io.emit import emit, save, stage
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.recheck import check_written
from tests.models import normal, two_layers
from tests.strategies import models

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX's links and permissions")


def graph() -> Graph:
    return load(two_layers())


def changed() -> Graph:
    other = graph()
    edit.set_constant(other, "W1", tensor_of(np.zeros((32, 64), np.float32), "W1"))
    return other


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# ---- what is written


@pytest.mark.parametrize("external", [False, True, None])
def test_reading_back_gives_the_same_model(tmp_path: Path, external: bool | None) -> None:
    original = graph()
    save(original, tmp_path / "out.onnx", external=external)
    assert difference(original, load(tmp_path / "out.onnx")) is None
    check_written(tmp_path / "out.onnx", original)


@settings(max_examples=60, deadline=None)
@given(model=models())
def test_any_model_is_the_same_after_disk(tmp_path_factory: pytest.TempPathFactory, model: onnx.ModelProto) -> None:
    original = load(model)
    for external in (False, True):
        path = tmp_path_factory.getbasetemp() / "any.onnx"
        save(original, path, external=external, durable=False)
        check_written(path, original)
        if not external:
            assert onnx.load(path) == model


def test_a_file_that_is_another_model_is_noticed(tmp_path: Path) -> None:
    save(changed(), tmp_path / "out.onnx")
    with pytest.raises(InternalError, match="constant 'W1' has other elements"):
        check_written(tmp_path / "out.onnx", graph())
    (tmp_path / "out.onnx").write_bytes(b"")
    with pytest.raises(InternalError, match="cannot be read back"):
        check_written(tmp_path / "out.onnx", graph())


@pytest.mark.parametrize("external", [False, True])
def test_the_same_model_gives_the_same_bytes(tmp_path: Path, external: bool) -> None:
    contents: list[dict[str, bytes]] = []
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        save(graph(), tmp_path / run / "out.onnx", external=external)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / run).iterdir()})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 1 + external


def test_external_data_is_what_onnx_reads(tmp_path: Path) -> None:
    save(graph(), tmp_path / "out.onnx", external=True)
    onnx.checker.check_model(str(tmp_path / "out.onnx"), full_check=True)
    arrays = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "out.onnx").graph.initializer}
    wanted = {t.name: numpy_helper.to_array(t) for t in two_layers().graph.initializer}
    assert all(np.array_equal(arrays[name], wanted[name]) for name in wanted)


def test_the_name_of_external_data_holds_a_hash_of_its_content(tmp_path: Path) -> None:
    save(graph(), tmp_path / "out.onnx", external=True)
    save(changed(), tmp_path / "other.onnx", external=True)
    data = sorted(name for name in names(tmp_path) if name.endswith(".data"))
    assert [bool(re.fullmatch(r"(other|out)\.onnx\.[0-9a-f]{12}\.data", name)) for name in data] == [True, True]
    assert data[0].split(".")[-2] != data[1].split(".")[-2]


def test_small_tensors_stay_in_the_model_file(tmp_path: Path) -> None:
    original = graph()
    edit.add_initializer(original, tensor_of(normal(2), "small"))
    save(original, tmp_path / "out.onnx", external=True)
    written = load(tmp_path / "out.onnx")
    placed = {name: isinstance(tensor_in(written, name), ExternalData) for name in ("W1", "W2", "small")}
    assert placed == {"W1": True, "W2": True, "small": False}


def tensor_in(where: Graph, name: str) -> object:
    tensor = where.constant(name)
    assert tensor is not None
    return tensor.data


def test_external_data_comes_in_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emit_module, "EXTERNAL_FROM", 10_000)
    save(graph(), tmp_path / "out.onnx")
    assert len(names(tmp_path)) == 2
    monkeypatch.setattr(emit_module, "EXTERNAL_FROM", 100_000)
    save(graph(), tmp_path / "inside.onnx")
    assert len(names(tmp_path)) == 3


def test_external_data_may_come_home(tmp_path: Path) -> None:
    save(graph(), tmp_path / "out.onnx", external=True)
    outside = load(tmp_path / "out.onnx")
    (tmp_path / "home").mkdir()
    save(outside, tmp_path / "home" / "in.onnx", external=False)
    assert names(tmp_path / "home") == {"in.onnx"}
    assert difference(outside, load(tmp_path / "home" / "in.onnx")) is None


def test_emitting_a_loaded_model_leaves_external_data_where_it_is(tmp_path: Path) -> None:
    save(graph(), tmp_path / "out.onnx", external=True)
    assert emit(load(tmp_path / "out.onnx")) == onnx.load(tmp_path / "out.onnx", load_external_data=False)


# ---- nothing is ever lost


def test_a_staged_model_is_beside_its_destination_until_it_is_committed(tmp_path: Path) -> None:
    destination = tmp_path / "out.onnx"
    destination.write_bytes(b"old")
    staged = stage(graph(), destination, external=True)
    assert destination.read_bytes() == b"old"
    assert staged.data is not None
    assert staged.size == staged.model.stat().st_size + staged.data.stat().st_size
    assert staged.model.stat().st_dev == tmp_path.stat().st_dev
    check_written(staged.model, graph())
    staged.commit()
    staged.discard()
    assert names(tmp_path) == {"out.onnx", staged.data.name}
    check_written(destination, graph())


def test_a_discarded_model_leaves_nothing(tmp_path: Path) -> None:
    stage(graph(), tmp_path / "out.onnx", external=True).discard()
    assert names(tmp_path) == set()


def fail(*args: Any, **kwargs: Any) -> Any:
    raise OSError(28, "No space left on device")


def interrupt(*args: Any, **kwargs: Any) -> Any:
    raise KeyboardInterrupt


FAILURES: list[tuple[str, str, Callable[..., Any], type[BaseException]]] = [
    ("writing the model", "write_model", fail, GraphshrinkError),
    ("waiting for the disk", "flush_to_disk", fail, GraphshrinkError),
    ("writing the data", "DataWriter", fail, GraphshrinkError),
    ("an interrupt", "write_model", interrupt, KeyboardInterrupt),
    ("an interrupt in the data", "DataWriter", interrupt, KeyboardInterrupt),
]


@pytest.mark.parametrize(("at", "how", "error"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, how: Callable[..., Any], error: type[BaseException]
) -> None:
    (tmp_path / "out.onnx").write_bytes(b"old")
    monkeypatch.setattr(emit_module, at, how)
    with pytest.raises(error) as caught:
        save(graph(), tmp_path / "out.onnx", external=True)
    assert names(tmp_path) == {"out.onnx"}
    assert (tmp_path / "out.onnx").read_bytes() == b"old"
    if error is GraphshrinkError:
        assert str(caught.value) == f"{tmp_path / 'out.onnx'}: cannot be written: No space left on device"


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize(("how", "error"), [(fail, GraphshrinkError), (interrupt, KeyboardInterrupt)])
def test_a_failed_move_leaves_the_old_file_and_nothing_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    external: bool,
    how: Callable[..., Any],
    error: type[BaseException],
) -> None:
    (tmp_path / "out.onnx").write_bytes(b"old")
    monkeypatch.setattr(Path, "replace", how)
    with pytest.raises(error):
        save(graph(), tmp_path / "out.onnx", external=external)
    assert names(tmp_path) == {"out.onnx"}
    assert (tmp_path / "out.onnx").read_bytes() == b"old"


def test_the_model_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    rename, replace = Path.rename, Path.replace

    def watched(move: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def record(self: Path, target: Path) -> Path:
            moved.append(Path(target).suffix)
            return move(self, target)

        return record

    staged = stage(graph(), tmp_path / "out.onnx", external=True)
    monkeypatch.setattr(Path, "rename", watched(rename))
    monkeypatch.setattr(Path, "replace", watched(replace))
    staged.commit()
    assert moved == [".data", ".onnx"]


@posix_only
@pytest.mark.skipif(sys.platform != "win32" and os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(GraphshrinkError, match="cannot write here: Permission denied"):
            save(graph(), tmp_path / "out.onnx")
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(GraphshrinkError, match="cannot write here: No such file or directory"):
        save(graph(), tmp_path / "gone" / "out.onnx")


def test_a_folder_as_destination(tmp_path: Path) -> None:
    (tmp_path / "out.onnx").mkdir()
    with pytest.raises(GraphshrinkError, match="is a folder"):
        save(graph(), tmp_path / "out.onnx")
    assert names(tmp_path) == {"out.onnx"}


@posix_only
def test_a_ring_of_links_as_destination(tmp_path: Path) -> None:
    (tmp_path / "out.onnx").symlink_to("out.onnx")
    with pytest.raises(GraphshrinkError):
        save(graph(), tmp_path / "out.onnx" / "deeper.onnx")
    assert names(tmp_path) == {"out.onnx"}


@posix_only
@pytest.mark.parametrize("external", [False, True])
def test_a_link_is_written_through(tmp_path: Path, external: bool) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "model.onnx").write_bytes(b"old")
    (tmp_path / "link.onnx").symlink_to("real/model.onnx")
    save(graph(), tmp_path / "link.onnx", external=external)
    assert (tmp_path / "link.onnx").is_symlink()
    assert names(tmp_path) == {"real", "link.onnx"}
    assert len(names(tmp_path / "real")) == 1 + external
    check_written(tmp_path / "real" / "model.onnx", graph())


@posix_only
def test_a_link_to_nothing_yet_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "link.onnx").symlink_to("model.onnx")
    save(graph(), tmp_path / "link.onnx")
    assert (tmp_path / "link.onnx").is_symlink()
    check_written(tmp_path / "model.onnx", graph())


@posix_only
def test_a_hard_link_of_the_old_file_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "out.onnx").write_bytes(b"old")
    os.link(tmp_path / "out.onnx", tmp_path / "backup.onnx")
    save(graph(), tmp_path / "out.onnx")
    assert (tmp_path / "backup.onnx").read_bytes() == b"old"


@posix_only
def test_the_file_gets_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    save(graph(), tmp_path / "out.onnx", external=True)
    assert {path.stat().st_mode for path in tmp_path.iterdir()} == {(tmp_path / "usual").stat().st_mode}


# ---- the input's data


def large_model(folder: Path) -> Path:
    """A model of more than the size from which files are mapped."""
    tensor = numpy_helper.from_array(normal(1 << 19), "W")
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1 << 19]) for name in ("x", "y")]
    node = helper.make_node("Add", ["x", "W"], ["y"])
    path = folder / "model.onnx"
    onnx.save(helper.make_model(helper.make_graph([node], "g", info[:1], info[1:], [tensor])), path)
    return path


@pytest.mark.parametrize("external", [False, True])
def test_a_mapped_input_may_be_its_own_output(tmp_path: Path, external: bool) -> None:
    path = large_model(tmp_path)
    original = load(path)
    save(original, path, external=external)
    assert difference(original, load(path)) is None


def test_an_input_with_external_data_may_be_its_own_output(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(two_layers(), path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    data = (tmp_path / "model.onnx.data").read_bytes()
    original = load(path)
    save(original, path, external=True)
    assert (tmp_path / "model.onnx.data").read_bytes() == data
    assert len(names(tmp_path)) == 3
    assert difference(original, load(path)) is None


def test_our_own_output_may_be_written_again(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save(graph(), path, external=True)
    before = {item.name: (item.read_bytes(), item.stat().st_ino) for item in tmp_path.iterdir() if item != path}
    save(load(path), path, external=True)
    after = {item.name: (item.read_bytes(), item.stat().st_ino) for item in tmp_path.iterdir() if item != path}
    assert after == before  # the very same data file, not even replaced
    save(changed(), path, external=True)
    assert len(names(tmp_path)) == 3
    check_written(path, changed())


@pytest.mark.parametrize("external", [True, False])
def test_data_of_a_stranger_under_our_name_is_not_overwritten(tmp_path: Path, external: bool) -> None:
    path = tmp_path / "out.onnx"
    staged = stage(graph(), path, external=True)
    assert staged.data is not None
    taken = tmp_path / staged.data.name
    staged.discard()
    taken.write_bytes(b"precious")
    if not external:
        save(graph(), path, external=False)
        assert taken.read_bytes() == b"precious"
        return
    with pytest.raises(GraphshrinkError, match="exists and is not ours"):
        save(graph(), path, external=True)
    assert names(tmp_path) == {taken.name}
    assert taken.read_bytes() == b"precious"


@posix_only
def test_a_link_under_the_name_of_our_data_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "out.onnx"
    staged = stage(graph(), path, external=True)
    assert staged.data is not None
    (tmp_path / "elsewhere").write_bytes(staged.data.read_bytes())
    (tmp_path / staged.data.name).symlink_to("elsewhere")
    with pytest.raises(GraphshrinkError, match="exists and is not ours"):
        staged.commit()
    staged.discard()
    assert names(tmp_path) == {"elsewhere", staged.data.name}


# ---- limits


@pytest.mark.parametrize("error", [ValueError, EncodeError])
def test_models_beyond_protobufs_limit_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    class Huge:
        def SerializeToString(self, deterministic: bool) -> bytes:  # noqa: N802
            raise error("too large")

    def write(graph: Graph, relocate: object) -> Huge:
        return Huge()

    monkeypatch.setattr(emit_module, "write_model", write)
    with pytest.raises(ModelError, match="ask for --save-as-external-data"):
        save(graph(), tmp_path / "out.onnx")
    assert names(tmp_path) == set()
