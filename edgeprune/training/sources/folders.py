"""Folders of images: a folder for each class, or images without labels."""

from __future__ import annotations

from pathlib import Path

from edgeprune.errors import ModelLoadError
from edgeprune.training.sources.found import Files, Found
from edgeprune.training.sources.images import images_in, is_image

TRAIN, TEST = ("train", "training"), ("test", "val", "valid", "validation")
DEFAULT = "imagenet,crop"


def half_named(root: Path, names: tuple[str, ...]) -> Path | None:
    """The first of these subfolders that exists."""
    return next((root / n for n in names if (root / n).is_dir()), None)


def folder_of_images(root: Path) -> Found:
    """Classes as folders (``train/CLASS/*.jpg`` and ``test/`` or ``val/``, or ``CLASS/*.jpg`` alone), or images that
    lie there without classes.

    Raises:
        ModelLoadError: a folder without images, or a class of the test half that the training half has not.
    """
    train = half_named(root, TRAIN) or root
    test = half_named(root, TEST) if train != root else None
    if any(is_image(f) for f in train.iterdir()):
        return Found(Files(images_in(train)), None if test is None else Files(images_in(test)), "none", DEFAULT)
    names = _classes(train)
    if test is not None and (unknown := sorted(set(_classes(test)) - set(names))):
        raise ModelLoadError(
            f"{test} has classes that {train} has not: {', '.join(unknown)}",
            hint="the folders of classes have the same names in both",
            classes=unknown,
        )
    return Found(
        _labelled(train, names), None if test is None else _labelled(test, names), "labels", DEFAULT, tuple(names)
    )


def _classes(folder: Path) -> list[str]:
    names = sorted(f.name for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
    if not names:
        raise ModelLoadError(
            f"{folder} holds neither images nor folders of classes",
            hint="give a folder with images, or with one folder for each class (docs/DATA.md)",
            folder=str(folder),
        )
    return names


def _labelled(folder: Path, names: list[str]) -> Files:
    found = [(f, i) for i, n in enumerate(names) if (folder / n).is_dir() for f in images_in(folder / n, below=True)]
    return Files([f for f, _ in found], [i for _, i in found])
