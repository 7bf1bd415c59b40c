"""A small detection set, drawn: circles, squares and triangles on restless backgrounds, in YOLO's folders.

    python examples/shapes.py FOLDER [--train 600] [--val 200] [--size 160]

writes FOLDER/data.yaml, images/{train,val}/*.png and labels/{train,val}/*.txt (class, centre, size; shares of the
image). The same seed draws the same set.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

NAMES = ("circle", "square", "triangle")
Box = tuple[int, float, float, float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=600)
    parser.add_argument("--val", type=int, default=200)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw_set(options.folder, options.train, options.val, options.size, options.seed)


def draw_set(folder: Path, train: int, val: int, size: int, seed: int = 0) -> Path:
    """Draws both halves; returns the data.yaml."""
    for half, count, first in (("train", train, 0), ("val", val, 1_000_000)):
        images, labels = folder / "images" / half, folder / "labels" / half
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            image, boxes = drawn(size, np.random.default_rng((seed, first + i)))
            image.save(images / f"{i:05}.png")
            lines = [f"{kind} {x:.6f} {y:.6f} {w:.6f} {h:.6f}" for kind, x, y, w, h in boxes]
            (labels / f"{i:05}.txt").write_text("".join(f"{line}\n" for line in lines))
    file = folder / "data.yaml"
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(NAMES))
    file.write_text(f"path: {folder.resolve()}\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return file


def drawn(size: int, random: np.random.Generator) -> tuple[Image.Image, list[Box]]:
    """One image, and the boxes of its one to four shapes, which do not overlap."""
    coarse = random.integers(0, 256, (6, 6, 3), np.uint8)
    image = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(12):  # strokes that are no shapes
        ends = random.uniform(0, size, 4).tolist()
        draw.line(ends, fill=_colour(random), width=int(random.integers(1, 3)))
    boxes: list[Box] = []
    for _ in range(int(random.integers(1, 5))):
        kind, radius = int(random.integers(len(NAMES))), float(random.uniform(0.07, 0.2)) * size
        x, y = random.uniform(radius, size - radius, 2)
        if any(math.hypot(x - bx * size, y - by * size) < radius + bw * size * 0.75 for _, bx, by, bw, _ in boxes):
            continue
        points = outline(kind, x, y, radius, float(random.uniform(0, 2 * math.pi)))
        draw.polygon(points, fill=_colour(random), outline=_colour(random))
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
        boxes.append(
            (kind, (left + right) / 2 / size, (top + bottom) / 2 / size, (right - left) / size, (bottom - top) / size)
        )
    noise = random.normal(0, 10, (size, size, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)), boxes


def outline(kind: int, x: float, y: float, radius: float, turn: float) -> list[tuple[float, float]]:
    """Corners of a shape around (x, y); a circle has 40."""
    corners = (40, 4, 3)[kind]
    angles = [turn + 2 * math.pi * k / corners for k in range(corners)]
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


def _colour(random: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(c) for c in random.integers(0, 256, 3))


if __name__ == "__main__":
    main()
