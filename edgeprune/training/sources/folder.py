"""A folder, whatever kind of data set it is: found, split if it has to be, and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from edgeprune.errors import ModelLoadError, UsageError
from edgeprune.training.halves import Half
from edgeprune.training.sources import coco, yolo
from edgeprune.training.sources.folders import folder_of_images
from edgeprune.training.sources.found import Files, Found, Kind
from edgeprune.training.sources.images import Images
from edgeprune.training.sources.pixels import Pixels

TEST_SHARE = 0.2
"""Part of the images that is tested on where a folder does not say which."""


@dataclass(frozen=True, slots=True)
class Opened:
    """Both halves of a folder; ``images`` says in words how images are read."""

    train: Half
    test: Half
    kind: Kind
    names: tuple[str, ...]
    images: str


def is_folder(source: str) -> bool:
    """Whether a source is a folder, or the description of one."""
    path = Path(source)
    return path.is_dir() or (path.suffix.lower() in (".yaml", ".yml") and path.is_file())


def open_folder(path: Path, shape: Sequence[int] | None, pixels: str | None, seed: int) -> Opened:
    """The data set in a folder: YOLO by its ``data.yaml`` or its ``labels``, COCO by its ``annotations``, classes by
    their folders, else images without labels.

    Args:
        shape: of the network's input, (1, C, H, W).
        pixels: how images are read (:meth:`Pixels.parse`); by the kind of folder if None.
        seed: of the split, where the folder says nothing of a test half.

    Raises:
        ModelLoadError: the file and what is wrong with it. UsageError: the network takes no images.
    """
    if shape is None or len(shape) != 4:
        raise UsageError(
            f"{path} holds images, and {shape and tuple(shape)} is not the shape of an input for them, (1, C, H, W)",
            hint="give load_data input_shape=(1, 3, 224, 224), or data of another kind",
        )
    found = _found(path)
    reading = Pixels.parse(pixels, found.pixels, shape[1])
    if found.kind == "boxes" and reading.fit == "crop":
        raise UsageError("boxes would be cut off by a crop", hint="give --pixels letterbox, or stretch")
    train, test = (found.train, found.test) if found.test is not None else _divided(found, path, seed)
    halves = [Images(h.files, h.targets, reading, shape[2], shape[3], found.placed) for h in (train, test)]
    for half in halves:
        half.warm()
    return Opened(halves[0], halves[1], found.kind, found.names, str(reading))


def _found(path: Path) -> Found:
    if path.is_file():
        return yolo.from_description(path)
    if description := yolo.description_in(path):
        return yolo.from_description(description)
    if files := coco.annotations_in(path):
        return coco.from_annotations(files)
    return yolo.from_folders(path) or folder_of_images(path)


def _divided(found: Found, path: Path, seed: int) -> tuple[Files, Files]:
    """Files to train on and to test on, drawn by the seed: of each class alike, where there are classes."""
    files, targets = found.train.files, found.train.targets
    generator = torch.Generator().manual_seed(seed)
    groups: dict[int, list[int]] = {}
    for number in range(len(files)):
        groups.setdefault(targets[number] if targets is not None and found.kind == "labels" else 0, []).append(number)
    test: set[int] = set()
    for numbers in groups.values():
        order = torch.randperm(len(numbers), generator=generator)
        test |= {numbers[i] for i in order[: max(1, round(TEST_SHARE * len(numbers)))].tolist() if len(numbers) > 1}
    train = [i for i in range(len(files)) if i not in test]
    if not test or not train:
        raise ModelLoadError(
            f"{path} has too few images to train on and to test on", hint="give at least two", folder=str(path)
        )

    def of(numbers: list[int]) -> Files:
        return Files([files[i] for i in numbers], None if targets is None else [targets[i] for i in numbers])

    return of(train), of(sorted(test))
