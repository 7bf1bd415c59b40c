"""Image files as a half of a data set: read when they are asked for, and kept as bytes as far as memory allows."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgeprune.errors import ModelLoadError
from edgeprune.training.halves import Batch
from edgeprune.training.sources.pixels import Pixels, Placed

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})
CACHE_BYTES = 2**30
"""Pixels of one half that are kept in memory, in their final size; files beyond are read anew each time."""
_READERS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Images:
    """Files with what is known of each.

    Attributes:
        targets: one entry a file: labels (integers), or true boxes in pixels of the file; None where there are none.
        placed: (target, where the image lies, height, width) -> the target in pixels of the network's input.
    """

    files: Sequence[Path]
    targets: Sequence[Any] | None
    pixels: Pixels
    height: int
    width: int
    placed: Callable[[Any, Placed, int, int], Any] | None = None
    _cache: dict[int, tuple[Tensor, Placed]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.files)

    @property
    def fixed(self) -> bool:
        return True

    @property
    def fits(self) -> bool:
        """Whether all of them may stay in memory."""
        channels = 1 if self.pixels.order == "grey" else 3
        return self.size * channels * self.height * self.width <= CACHE_BYTES

    def take(self, chosen: Tensor) -> Batch:
        numbers = chosen.tolist()
        if len(numbers) > 1:
            with ThreadPoolExecutor(_READERS) as pool:
                read = list(pool.map(self._read, numbers))
        else:
            read = [self._read(n) for n in numbers]
        inputs = self.pixels.scaled(torch.stack([pixels for pixels, _ in read]))
        if self.targets is None:
            return Batch(inputs)
        targets = [self.targets[n] for n in numbers]
        if self.placed is None:
            return Batch(inputs, torch.tensor(targets))
        return Batch(
            inputs, [self.placed(t, p, self.height, self.width) for t, (_, p) in zip(targets, read, strict=True)]
        )

    def warm(self) -> None:
        """Read what fits into memory now: a broken file is then known before anything is measured or trained.

        Raises:
            ModelLoadError: names the file.
        """
        if self.fits:
            with ThreadPoolExecutor(_READERS) as pool:
                list(pool.map(self._read, range(self.size)))

    def _read(self, number: int) -> tuple[Tensor, Placed]:
        known = self._cache.get(number)
        if known is None:
            known = self.pixels.read(self.files[number], self.height, self.width)
            if (len(self._cache) + 1) * known[0].numel() <= CACHE_BYTES:
                self._cache[number] = known
        return known


def images_in(folder: Path, *, below: bool = False) -> list[Path]:
    """The image files of a folder, in order of their names; ``below``: those of its subfolders as well.

    Raises:
        ModelLoadError: there are none.
    """
    found = sorted(f for f in (folder.rglob("*") if below else folder.iterdir()) if is_image(f))
    if not found:
        raise ModelLoadError(
            f"{folder} holds no images", hint=f"images end in {', '.join(sorted(SUFFIXES))}", folder=str(folder)
        )
    return found


def is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
