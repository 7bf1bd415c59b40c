from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_build import conv_net, save

from edgeprune.errors import ModelLoadError
from edgeprune.models.onnx import file as onnx_file
from edgeprune.models.onnx.file import read_onnx

WEIGHT_BYTES = 8 * 3 * 3 * 3 * 4


def external(location: str, *, offset: int | None = None, length: int | None = None) -> onnx.ModelProto:
    """The network with its weight kept at ``location``."""
    proto = conv_net()
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            weight.external_data.add(key=key, value=str(value))
    return proto


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``inside/`` holds the model; ``outside/`` a file that must never be opened."""
    for name in ("inside", "outside"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "w.bin").write_bytes(np.arange(WEIGHT_BYTES // 4, dtype=np.float32).tobytes())
    return tmp_path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that the reader opens for external data."""
    seen: list[str] = []
    real = os.open

    def spy(path: Path, *rest: int) -> int:
        seen.append(str(path))
        return real(path, *rest)

    monkeypatch.setattr(onnx_file.os, "open", spy)
    return seen


def refused(folder: Path, proto: onnx.ModelProto, opened: list[str], match: str) -> None:
    file = save(proto, folder / "inside")
    with pytest.raises(ModelLoadError, match=match) as caught:
        read_onnx(file)
    assert caught.value.exit_code == 3
    assert opened == [], "it was opened before it was refused"


def test_external_data_beside_the_model_is_read(folder: Path, opened: list[str]) -> None:
    model = read_onnx(save(external("w.bin"), folder / "inside"))
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0])
    assert weight.flatten()[-1] == WEIGHT_BYTES // 4 - 1
    assert opened == [str(folder / "inside" / "w.bin")]


def test_external_data_in_a_folder_with_an_offset(folder: Path) -> None:
    (folder / "inside" / "sub").mkdir()
    (folder / "inside" / "sub" / "all.bin").write_bytes(b"\0" * 64 + b"\0\0\x80\x3f" * (WEIGHT_BYTES // 4))
    model = read_onnx(save(external("sub/all.bin", offset=64, length=WEIGHT_BYTES), folder / "inside"))
    assert set(onnx.numpy_helper.to_array(model.graph.initializer[0]).flatten()) == {1.0}


@pytest.mark.parametrize(
    "location",
    ["../outside/w.bin", "../../etc/passwd", "sub/../../outside/w.bin", "{outside}/w.bin", "/etc/passwd", ""],
)
def test_fault_2_external_data_outside_the_folder(folder: Path, opened: list[str], location: str) -> None:
    location = location.replace("{outside}", str(folder / "outside"))
    refused(folder, external(location), opened, "outside the model's folder")


@pytest.mark.parametrize("location", ["..\\outside\\w.bin", "C:\\w.bin", "file:///etc/passwd", "a\0b"])
def test_fault_2_odd_locations(folder: Path, opened: list[str], location: str) -> None:
    refused(folder, external(location), opened, "outside the model's folder")


def test_fault_2_external_data_of_a_constant_node(folder: Path, opened: list[str]) -> None:
    proto = conv_net()
    constant = proto.graph.node.add(op_type="Constant", output=["k"])
    attribute = constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    attribute.t.CopyFrom(external("../outside/w.bin").graph.initializer[0])
    refused(folder, proto, opened, "outside the model's folder")


def test_fault_3_symbolic_link(folder: Path, opened: list[str]) -> None:
    (folder / "inside" / "link.bin").symlink_to(folder / "outside" / "w.bin")
    refused(folder, external("link.bin"), opened, "through a link")


def test_fault_3_parent_symbolic_link(folder: Path, opened: list[str]) -> None:
    (folder / "inside" / "sub").symlink_to(folder / "outside")
    refused(folder, external("sub/w.bin"), opened, "through a link")


def test_fault_3_hard_link(folder: Path, opened: list[str]) -> None:
    (folder / "inside" / "hard.bin").hardlink_to(folder / "outside" / "w.bin")
    refused(folder, external("hard.bin"), opened, "through a link")


def test_fault_3_device_files_are_no_data(folder: Path, opened: list[str]) -> None:
    os.mkfifo(folder / "inside" / "pipe")
    refused(folder, external("pipe"), opened, "link")


@pytest.mark.parametrize(
    ("offset", "length"), [(4, None), (0, 10), (-4, None), (0, 2**60), (2**60, None), (0, WEIGHT_BYTES + 4)]
)
def test_fault_4_external_data_cut_short(folder: Path, opened: list[str], offset: int, length: int | None) -> None:
    refused(folder, external("w.bin", offset=offset, length=length), opened, "shorter")


def test_fault_4_external_data_missing(folder: Path, opened: list[str]) -> None:
    refused(folder, external("none.bin"), opened, "No such file")


@pytest.mark.parametrize("keep", [0, 1, 20, 200, -40])
def test_fault_4_truncated(tmp_path: Path, keep: int) -> None:
    file = tmp_path / "cut.onnx"
    file.write_bytes(conv_net().SerializeToString()[:keep])
    with pytest.raises(ModelLoadError, match=r"cut\.onnx"):
        read_onnx(file)


def test_fault_4_not_onnx_at_all(tmp_path: Path) -> None:
    file = tmp_path / "text.onnx"
    file.write_text("this is no network\n" * 100)
    with pytest.raises(ModelLoadError, match=r"text\.onnx"):
        read_onnx(file)


def _dims(*dims: int) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        del proto.graph.initializer[0].dims[:]
        proto.graph.initializer[0].dims.extend(dims)

    return change


@pytest.mark.parametrize(
    "dims", [(10**6, 10**6, 3, 3), (-8, 3, 3, 3), (-8, -3, 3, 3), (2**62, 4, 2, 2), (9, 3, 3, 3), (8, 3, 3, 2)]
)
def test_fault_4_absurd_dimensions(tmp_path: Path, dims: tuple[int, ...]) -> None:
    proto = conv_net()
    _dims(*dims)(proto)
    with pytest.raises(ModelLoadError, match="claims the shape"):
        read_onnx(save(proto, tmp_path))


def test_what_onnx_checker_finds_is_passed_on(tmp_path: Path) -> None:
    proto = conv_net()
    proto.graph.node[1].input[0] = "nothing"
    with pytest.raises(ModelLoadError, match=r"onnx\.checker says.*nothing"):
        read_onnx(save(proto, tmp_path))
