"""``edgeprune run`` of a bundle on files: arrays that keep their types, raw values, pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import done, refused
from PIL import Image
from torch import Tensor, nn

import edgeprune


class Net(nn.Module):
    """A frame and a row of integers; gives real numbers and integers."""

    def forward(self, x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean(3), numbers + 1


FRAME = np.random.default_rng(0).integers(0, 256, (1, 6, 9, 3), np.uint8)
NUMBERS = np.array([[3, 5]], np.int64)
EXPECTED = (FRAME[..., ::-1] / 255).mean(2).transpose(0, 2, 1)

# One worker runs them all: they share a bundle.
pytestmark = pytest.mark.xdist_group("run_files")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    inputs = (torch.randn(1, 3, 6, 9), torch.from_numpy(NUMBERS))
    out = tmp_path_factory.mktemp("files") / "bundle"
    return edgeprune.compile(Net(), example_inputs=inputs, image_input="bgr", out=out).path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    np.save(tmp_path / "frame.npy", FRAME)
    np.save(tmp_path / "numbers.npy", NUMBERS)
    (tmp_path / "frame.bin").write_bytes(FRAME.tobytes())
    np.savez(tmp_path / "all.npz", numbers=NUMBERS, x=FRAME)
    picture = Image.fromarray(FRAME[0, ..., ::-1].copy())  # frames of this program are BGR, pictures RGB
    picture.save(tmp_path / "picture.png")
    picture.resize((18, 12), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    Image.fromarray(np.zeros((6, 9), np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "short.raw").write_bytes(b"1234")
    return tmp_path


def run(bundle: Path, files: Path, *inputs: str, **options: object) -> dict[str, np.ndarray]:
    given = [part for name in inputs for part in ("--input", files / name)]
    said = done("run", bundle, "--device", "local:", *given, "--output", files / "out.npz", *options.get("more", ()))
    assert said["samples"] == 1
    with np.load(files / "out.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize(
    "inputs",
    [("all.npz",), ("frame.npy", "numbers.npy"), ("frame.bin", "numbers.npy"), ("picture.png", "numbers.npy")],
)
def test_files_of_every_kind(bundle: Path, files: Path, inputs: tuple[str, ...]) -> None:
    found = run(bundle, files, *inputs)
    assert {name: array.dtype for name, array in found.items()} == {"mean": np.float32, "add": np.int64}
    np.testing.assert_allclose(found["mean"], EXPECTED, atol=1e-6)
    assert found["add"].tolist() == [[4, 6]]


def test_files_one_for_each_output(bundle: Path, files: Path) -> None:
    inputs, outputs = ("--input", files / "all.npz"), ("--output", files / "y.npy", "--output", files / "z.bin")
    done("run", bundle, "--device", "local:", *inputs, *outputs)
    assert np.load(files / "y.npy").shape == (1, 3, 6)
    assert np.fromfile(files / "z.bin", np.int64).tolist() == [4, 6]


def test_a_picture_of_another_size(bundle: Path, files: Path) -> None:
    why = refused(3, "BadInputError", "run", bundle, *_inputs(files, "large.png"), "--output", files / "o.npz")
    assert "is 18 x 12 pixels, the program takes 9 x 6" in why["message"]
    found = run(bundle, files, "large.png", "numbers.npy", more=("--resize",))
    assert np.abs(found["mean"] - EXPECTED).max() < 0.1


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("text.png", "is no picture"),
        ("deep.png", "not of 8 bits"),
        ("missing.png", "is no picture"),
        ("short.raw", "does not hold samples of uint8"),
        ("frame.npy.gone.npy", "is not a .npy file"),
    ],
)
def test_what_is_no_frame(bundle: Path, files: Path, name: str, why: str) -> None:
    said = refused(3, "BadInputError", "run", bundle, *_inputs(files, name), "--output", files / "o.npz")
    assert why in said["message"]


def test_a_picture_for_what_takes_none(bundle: Path, files: Path) -> None:
    inputs = ("--input", files / "frame.npy", "--input", files / "picture.png")
    said = refused(3, "BadInputError", "run", bundle, *inputs, "--output", files / "o.npz")
    assert "input 'numbers' takes no picture, but int64 (1, 2)" in said["message"]
    assert "--image-input" in said["hint"]


def _inputs(files: Path, name: str) -> tuple[object, ...]:
    return "--input", files / name, "--input", files / "numbers.npy"
