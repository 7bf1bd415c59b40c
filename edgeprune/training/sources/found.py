"""Halves that were found in a folder: files with their targets, before they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from edgeprune.errors import ModelLoadError
from edgeprune.training.sources.pixels import Placed

Kind = Literal["labels", "boxes", "none", "other"]
"""What the targets of a data set are."""


@dataclass(frozen=True, slots=True)
class Files:
    """Files of one half, with one target each; None where there are none."""

    files: Sequence[Path]
    targets: Sequence[Any] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds.

    Attributes:
        test: None where nothing says what to test on; the training half is then split.
        names: of classes, in order of their numbers; empty where they are not known.
        pixels: how its images are read by default (:class:`~edgeprune.training.sources.pixels.Pixels`).
    """

    train: Files
    test: Files | None
    kind: Kind
    pixels: str
    names: tuple[str, ...] = ()
    placed: Callable[[Any, Placed, int, int], Any] | None = None


def moved(boxes: Tensor, placed: Placed, height: int, width: int) -> Tensor:
    """True boxes (m, 6) in pixels of a file, in pixels of the network's input; those that lie outside of it go."""
    if not len(boxes):
        return boxes
    scale = torch.tensor([placed.scale_x, placed.scale_y] * 2)
    shift = torch.tensor([placed.shift_x, placed.shift_y] * 2)
    corners = boxes[:, 1:5] * scale + shift
    corners = torch.minimum(corners.clamp(min=0), torch.tensor([width, height] * 2, dtype=torch.float32))
    kept = ((corners[:, 2:] - corners[:, :2]) > 0).all(1)
    return torch.cat([boxes[:, :1], corners, boxes[:, 5:]], 1)[kept]


def rows(found: Sequence[Sequence[float]]) -> Tensor:
    """True boxes as a tensor (m, 6), also where there are none."""
    return torch.tensor(found, dtype=torch.float32).reshape(-1, 6)


def refused(file: Path, what: str, hint: str = "correct the file") -> ModelLoadError:
    """The error of a file of labels, with the line or entry in ``what``."""
    return ModelLoadError(f"{file}: {what}", hint=hint, file=str(file))
