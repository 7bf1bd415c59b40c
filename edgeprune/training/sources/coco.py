"""Labels as COCO keeps them: ``annotations/instances_NAME.json`` and a folder of images."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from edgeprune.training.sources.found import Files, Found, moved, refused, rows

DEFAULT = "unit,letterbox"
_PIXELS = 1.0
"""How far outside of an image a box may end: annotators do not hit the border."""


def annotations_in(root: Path) -> list[Path]:
    """The files of annotated objects in a folder."""
    return sorted((root / "annotations").glob("instances_*.json"))


def from_annotations(files: list[Path]) -> Found:
    """The data set of these files: those named after ``train`` and ``val`` (or ``test``), or one that is split.

    Raises:
        ModelLoadError: names the file and the entry.
    """
    train = next((f for f in files if "train" in f.stem), files[0])
    test = next((f for f in files if f != train and ("val" in f.stem or "test" in f.stem)), None)
    said = {f: _read(f) for f in (train, test) if f is not None}
    names = _names(said[train], train)
    for file, body in said.items():
        if _names(body, file) != names:
            raise refused(file, f"it has other categories than {train}")
    numbers = {number: i for i, number in enumerate(sorted(names))}
    halves = [None if f is None else _labelled(f, said[f], numbers) for f in (train, test)]
    assert halves[0] is not None
    return Found(halves[0], halves[1], "boxes", DEFAULT, tuple(names[n] for n in sorted(names)), moved)


def _read(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise refused(file, f"it is no JSON file: {error}") from error
    if not isinstance(said, dict) or not all(
        isinstance(said.get(k), list) for k in ("images", "annotations", "categories")
    ):
        raise refused(file, "it has no lists of images, annotations and categories")
    return said


def _names(said: dict[str, Any], file: Path) -> dict[int, str]:
    try:
        names = {int(c["id"]): str(c["name"]) for c in said["categories"]}
    except (KeyError, TypeError, ValueError) as error:
        raise refused(file, f"a category has no id or name: {error}") from error
    if not names:
        raise refused(file, "it has no categories")
    return names


def _labelled(file: Path, said: dict[str, Any], numbers: dict[int, int]) -> Files:
    folder = _folder(file, said)
    sizes: dict[int, tuple[float, float]] = {}
    paths: dict[int, Path] = {}
    for image in said["images"]:
        try:
            key, path = int(image["id"]), folder / str(image["file_name"])
            sizes[key] = float(image["width"]), float(image["height"])
        except (KeyError, TypeError, ValueError) as error:
            raise refused(file, f"an image has no id, file_name, width or height: {error}") from error
        if not path.is_file():
            raise refused(file, f"there is no image {path}", "images lie in a folder named as the annotations are")
        paths[key] = path
    if not paths:
        raise refused(file, "it lists no images")
    boxes: dict[int, list[list[float]]] = {key: [] for key in paths}
    for entry in said["annotations"]:
        where = f"annotation {entry.get('id', '?') if isinstance(entry, dict) else '?'}"
        try:
            image, label = int(entry["image_id"]), int(entry["category_id"])
            x, y, w, h = map(float, entry["bbox"])
            crowd = float(entry.get("iscrowd", 0))
        except (KeyError, TypeError, ValueError) as error:
            raise refused(file, f"{where} has no image_id, category_id or bbox of four numbers: {error}") from error
        if image not in boxes or label not in numbers:
            what, number = ("image", image) if image not in boxes else ("category", label)
            raise refused(file, f"{where} is of {what} {number}, which the file does not list")
        width, height = sizes[image]
        inside = x >= -_PIXELS and y >= -_PIXELS and x + w <= width + _PIXELS and y + h <= height + _PIXELS
        if not (inside and w >= 0 and h >= 0 and all(map(math.isfinite, (x, y, w, h)))):
            raise refused(file, f"{where} has a box outside of its image of {width:g} x {height:g}: {entry['bbox']}")
        boxes[image].append([numbers[label], x, y, x + w, y + h, crowd])
    return Files([paths[k] for k in paths], [rows(boxes[k]) for k in paths])


def _folder(file: Path, said: dict[str, Any]) -> Path:
    root, name = file.parent.parent, file.stem.removeprefix("instances_")
    places = [root / name, root / "images" / name, root / "images", root]
    first = (
        str(said["images"][0].get("file_name", "")) if said["images"] and isinstance(said["images"][0], dict) else ""
    )
    return next((p for p in places if first and (p / first).is_file()), places[0])
