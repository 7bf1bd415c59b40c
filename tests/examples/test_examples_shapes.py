"""The drawn detection set is what --data takes: YOLO's folders, the same for the same seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from edgeprune.training.data import load_data

EXAMPLE = Path(__file__).parents[2] / "examples" / "shapes.py"


def draw(folder: Path) -> dict[str, bytes]:
    command = [sys.executable, str(EXAMPLE), str(folder), "--train", "6", "--val", "3", "--size", "96"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*.*") if f.suffix != ".yaml"}


def test_it_is_drawn_the_same_again_and_loads(tmp_path: Path) -> None:
    files = draw(tmp_path / "one")
    assert files == draw(tmp_path / "two")
    assert len(files) == 18
    for name, content in files.items():
        if name.endswith(".txt"):
            boxes = np.array([line.split() for line in content.decode().splitlines()], float)
            assert len(boxes)
            assert set(boxes[:, 0]) <= {0, 1, 2}
            corners = np.concatenate([boxes[:, 1:3] - boxes[:, 3:] / 2, boxes[:, 1:3] + boxes[:, 3:] / 2])
            assert corners.min() >= 0
            assert corners.max() <= 1
    with Image.open(tmp_path / "one" / "images" / "val" / "00000.png") as image:
        assert image.size == (96, 96)
    data = load_data(str(tmp_path / "one"), input_shape=(1, 3, 96, 96))
    assert (data.train.size, data.test.size) == (6, 3)
