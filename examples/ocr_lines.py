"""Lines of text, upright or upside down, drawn in the fonts that this computer has: data without labels.

edgeprune fit … --data examples/ocr_lines.py:lines
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

HEIGHT, WIDTH = 48, 192
TRAIN, TEST = 4000, 1000
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:-/%&"
FONTS = sorted(Path("/usr/share/fonts").rglob("*.ttf"))


def lines() -> Mapping[str, Any]:
    """Training lines without labels, test lines with: 0 upright, 1 upside down. (N, 3, 48, 192), from -1 to 1."""
    x_train, _ = drawn(TRAIN, seed=0)
    x_test, y_test = drawn(TEST, seed=1)
    return {"x_train": x_train, "x_test": x_test, "y_test": y_test}


def drawn(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """``count`` lines, every second one upside down."""
    random = np.random.default_rng(seed)
    turned = np.arange(count) % 2
    return np.stack([_line(random, bool(t)) for t in turned]), turned.astype(np.int64)


def _line(random: np.random.Generator, turned: bool) -> NDArray[np.float32]:
    """One line as the classifier gets it: 48 pixels high, at most 192 wide, grey (0) to its right."""
    words = ["".join(random.choice(list(LETTERS), random.integers(2, 9))) for _ in range(random.integers(1, 4))]
    text, size = " ".join(words), int(random.integers(26, 40))
    font = ImageFont.truetype(random.choice(FONTS), size) if FONTS else ImageFont.load_default(size)  # type: ignore[arg-type]
    paper, ink = random.integers(150, 256, 3), random.integers(0, 110, 3)
    if random.random() < 0.3:
        paper, ink = ink, paper
    left, top, right, bottom = font.getbbox(text)
    margin = int(random.integers(2, 8))
    image = Image.new("RGB", (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin), tuple(map(int, paper)))
    ImageDraw.Draw(image).text((margin - left, margin - top), text, tuple(map(int, ink)), font)
    image = image.rotate(random.uniform(-2, 2), Image.Resampling.BILINEAR, fillcolor=tuple(map(int, paper)))
    if turned:
        image = image.transpose(Image.Transpose.ROTATE_180)
    if random.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.0)))
    width = min(WIDTH, max(1, round(image.width * HEIGHT / image.height)))
    pixels = np.asarray(image.resize((width, HEIGHT), Image.Resampling.BILINEAR), np.float32)
    pixels = np.clip(pixels + random.normal(0, random.uniform(0, 8), pixels.shape), 0, 255)
    whole = np.zeros((3, HEIGHT, WIDTH), np.float32)
    whole[:, :, :width] = (pixels.transpose(2, 0, 1) / 255 - 0.5) / 0.5
    return whole
