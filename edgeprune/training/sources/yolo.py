"""Labels as YOLO keeps them: ``data.yaml``, images, and a text file for each with a line for every object."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from edgeprune.errors import ModelLoadError
from edgeprune.training.sources.found import Files, Found, moved, refused, rows
from edgeprune.training.sources.images import images_in, is_image
from edgeprune.training.sources.pixels import size_of

DEFAULT = "unit,letterbox"
_TOLERANCE = 1e-3
"""How far outside of an image a box may end: tools round."""


def description_in(folder: Path) -> Path | None:
    """The file that describes a YOLO data set in a folder: a YAML file that names a training half."""
    found = sorted((*folder.glob("*.yaml"), *folder.glob("*.yml")), key=lambda f: (f.stem != "data", f.name))
    return next((f for f in found if "train" in _read(f)), None)


def from_description(file: Path) -> Found:
    """The data set that a ``data.yaml`` describes; its paths are relative to ``path``, and that to the file.

    Raises:
        ModelLoadError: names the file, and the line where one is wrong.
    """
    said = _read(file)
    names = _names(said, file)
    base = (file.parent / str(said.get("path") or ".")).resolve()
    if not base.is_dir():
        base = file.parent
    halves: list[Files | None] = []
    for keys in (("train",), ("val", "test")):
        key = next((k for k in keys if said.get(k)), None)
        if key is None:
            halves.append(None)
            continue
        given = said[key] if isinstance(said[key], list) else [said[key]]
        halves.append(_labelled([f for g in given for f in _listed(file, base, str(g))], len(names)))
    if halves[0] is None:
        raise refused(file, "it names no training images", "add a line such as train: images/train")
    return Found(halves[0], halves[1], "boxes", DEFAULT, names, moved)


def from_folders(root: Path) -> Found | None:
    """``images/train`` and ``labels/train`` or ``train/images`` and ``train/labels`` without a description."""
    pairs = []
    for names in (("train",), ("val", "valid", "test")):
        places = [root / "images" / n for n in names] + [root / n / "images" for n in names]
        pairs.append(next((p for p in places if p.is_dir() and _labels_of(p / "x.jpg").parent.is_dir()), None))
    if pairs[0] is None and (root / "images").is_dir() and (root / "labels").is_dir():
        pairs[0] = root / "images"
    if pairs[0] is None:
        return None
    halves = [None if p is None else _labelled(images_in(p), None) for p in pairs]
    assert halves[0] is not None
    return Found(halves[0], halves[1], "boxes", DEFAULT, (), moved)


def _read(file: Path) -> dict[str, Any]:
    try:
        said = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelLoadError(f"{file} is no YAML file: {error}", hint="correct the file", file=str(file)) from error
    return said if isinstance(said, dict) else {}


def _names(said: dict[str, Any], file: Path) -> tuple[str, ...]:
    names = said.get("names")
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise refused(file, "the numbers of names do not count from 0 on")
        names = [names[i] for i in range(len(names))]
    if names is None and isinstance(said.get("nc"), int):
        names = [str(i) for i in range(said["nc"])]
    if not isinstance(names, list) or not names:
        raise refused(file, "it names no classes", "add a line such as names: [person, car]")
    return tuple(map(str, names))


def _listed(file: Path, base: Path, given: str) -> list[Path]:
    place = base / given
    if place.is_dir():
        return images_in(place, below=True)
    if not place.is_file() or place.suffix != ".txt":
        raise refused(file, f"{place} does not exist", "paths are relative to the file, or to its entry path")
    lines = (line.strip() for line in place.read_text(encoding="utf-8").splitlines())
    found = [place.parent / line if not Path(line).is_absolute() else Path(line) for line in lines if line]
    found = [
        f if f.is_file() else base / f.relative_to(place.parent) if f.is_relative_to(place.parent) else f for f in found
    ]
    if missing := next((f for f in found if not is_image(f)), None):
        raise refused(place, f"{missing} is no image that exists")
    if not found:
        raise refused(place, "it lists no images")
    return found


def _labels_of(image: Path) -> Path:
    """Where the labels of an image lie: the last folder ``images`` of its path is ``labels`` there."""
    parts = list(image.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _labelled(images: list[Path], classes: int | None) -> Files:
    files = [_labels_of(i) for i in images]
    if not any(f.is_file() for f in files):
        raise ModelLoadError(
            f"none of the images beside {images[0]} has labels: there is no {files[0]}",
            hint="labels of images/a.jpg are labels/a.txt",
            file=str(files[0]),
        )
    return Files(images, [_boxes(image, file, classes) for image, file in zip(images, files, strict=True)])


def _boxes(image: Path, file: Path, classes: int | None) -> Tensor:
    """True boxes (m, 6) in pixels of the file; an image without a file of labels shows nothing."""
    width, height = size_of(image)
    if not file.is_file():
        return rows([])
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not (words := line.split()):
            continue
        where = f"line {number}"
        try:
            label, *values = map(float, words)
        except ValueError:
            raise refused(file, f"{where} holds something else than numbers: {line.strip()[:60]!r}") from None
        if len(values) < 4 or (len(values) > 4 and len(values) % 2):
            raise refused(file, f"{where} has {len(words)} numbers; a line is: class x y width height")
        if label < 0 or label != int(label) or (classes is not None and label >= classes):
            raise refused(file, f"{where} has class {words[0]}, of {'unknown' if classes is None else classes} classes")
        if not all(map(math.isfinite, values)):
            raise refused(file, f"{where} holds a number that is not finite")
        if len(values) == 4:
            x, y, w, h = values
            x1, y1, x2, y2 = x - w / 2, y - h / 2, x + w / 2, y + h / 2
        else:  # the outline of an object: the box around it
            x1, y1, x2, y2 = min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
        if min(x1, y1) < -_TOLERANCE or max(x2, y2) > 1 + _TOLERANCE or x2 < x1 or y2 < y1:
            raise refused(
                file, f"{where} has a box outside of the image: {line.strip()[:60]!r}", "values are shares of the image"
            )
        found.append([label, x1 * width, y1 * height, x2 * width, y2 * height, 0.0])
    return rows(found)
