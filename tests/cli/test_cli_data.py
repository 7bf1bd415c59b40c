"""Data and tasks on the command line: what is wrong is named, with exit code 3 or 2, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command_line import refused
from PIL import Image

NET = Path(__file__).parents[1] / "fitting" / "tiny_net.py"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four images in two folders of classes."""
    for i in range(8):
        file = tmp_path / "images" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = torch.randint(0, 255, (8, 8, 3), generator=torch.Generator().manual_seed(i), dtype=torch.uint8)
        Image.fromarray(noise.numpy()).save(file)
    return tmp_path / "images"


def fit(tmp_path: Path, *more: object) -> tuple[object, ...]:
    out, board = tmp_path / "run", f"fake:{tmp_path / 'board'}"
    return ("fit", f"{NET}:net", "--input-shape", "1x3x8x8", "--latency", "70%", "--device", board, "--out", out, *more)


def test_a_loss_is_measured_on_data(tmp_path):
    error = refused(2, "UsageError", *fit(tmp_path, "--criterion", "l2", "--objective", "loss"))
    assert error["message"] == "objective loss needs data: it is measured"
    assert error["hint"] == "give --data, or --objective importance"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("code", "kind", "more", "said"),
    [
        (2, "UsageError", ["--task", "detecton"], "no task 'detecton'"),
        (2, "UsageError", ["--pixels", "imagenett"], "'imagenett' says nothing of pixels"),
        (3, "BadInputError", ["--task", "language"], "task 'language' and the data do not go together"),
        (3, "BadInputError", ["--task", "detection"], "task 'detection' and the data do not go together"),
    ],
)
def test_tasks_and_pixels_that_do_not_go_with_the_data(tmp_path, images, code, kind, more, said):
    error = refused(code, kind, *fit(tmp_path, "--data", images, *more))
    assert said in error["message"]
    assert not (tmp_path / "run").exists()


def test_broken_images_and_folders_are_named_before_anything_is_written(tmp_path, images):
    broken = images / "a" / "2.png"
    broken.write_bytes(broken.read_bytes()[:60])
    error = refused(3, "ModelLoadError", *fit(tmp_path, "--data", images))
    assert error["details"]["file"] == str(broken)
    assert error["hint"] == "replace the file, or take it out of the folder"
    (tmp_path / "empty").mkdir()
    assert "holds neither" in refused(3, "ModelLoadError", *fit(tmp_path, "--data", tmp_path / "empty"))["message"]
    (tmp_path / "data.yaml").write_text("train: nowhere\nnames: [a]\n")
    said = refused(3, "ModelLoadError", *fit(tmp_path, "--data", tmp_path / "data.yaml"))["message"]
    assert "nowhere does not exist" in said
    assert not (tmp_path / "run").exists()
