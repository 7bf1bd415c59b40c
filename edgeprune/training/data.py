"""Data sets as tensors in memory, checked once, and batches of them in an order that a seed decides."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from edgeprune.errors import BadInputError, ModelLoadError
from edgeprune.models import entrypoint

KEYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, slots=True)
class DataSet:
    """Images (N, C, H, W) in float32 with int64 labels (N,), or (N, H, W) for segmentation.

    ``labelled``: False if the training half came without labels; they are zeros until a network gives them
    (:mod:`edgeprune.training.teach`).
    """

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    name: str
    labelled: bool = True

    @property
    def classes(self) -> int:
        return int(max(self.train[1].max(), self.test[1].max())) + 1

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one example, batch included: (1, C, H, W)."""
        return (1, *self.train[0].shape[1:])

    def require_classes(self, outputs: int) -> None:
        """Raises BadInputError for more classes than a network has outputs."""
        if self.classes > outputs:
            raise BadInputError(
                f"data set {self.name!r} has {self.classes} classes, the network {outputs} outputs",
                hint="load the network with num_classes",
                classes=self.classes,
                outputs=outputs,
            )


def load_data(source: str, seed: int = 0) -> DataSet:
    """Load a data set.

    Args:
        source: ``FILE.npz`` with the arrays ``x_train``, ``y_train``, ``x_test``, ``y_test``, or
            ``package.module:factory`` or ``FILE.py:factory`` (the user's own code) that returns them as a mapping
            or as attributes. Images are (N, C, H, W) of any real type, labels integers from 0.
        seed: of random choices in the factory.

    Raises:
        ModelLoadError: what is missing or wrong in which array.
    """
    file = Path(source)
    if file.suffix.lower() == ".npz":
        return check(_read_npz(file), file.stem)
    if not entrypoint.is_entrypoint(source):
        raise ModelLoadError(
            f"{source!r} is no data set", hint="give FILE.npz, FILE.py:factory or package.module:factory", source=source
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = entrypoint.call(source)
    arrays = made if isinstance(made, Mapping) else {k: getattr(made, k) for k in KEYS if hasattr(made, k)}
    return check(arrays, source.rpartition(":")[2])


def collect(halves: Mapping[str, Any], name: str, seed: int = 0) -> DataSet:
    """A :class:`DataSet` of torch DataLoaders or Datasets of (image, label), each read once.

    Args:
        halves: the ones for ``train`` and ``test``.
        seed: of a loader that shuffles.

    Raises:
        ModelLoadError: a half is neither, or yields something else.
    """
    arrays: dict[str, Any] = {}
    for half, source in halves.items():
        if not isinstance(source, DataLoader | Dataset):
            raise _wrong(name, half, f"is a {type(source).__name__}, not a torch DataLoader or Dataset")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            rows = list(source if isinstance(source, DataLoader) else DataLoader(source, batch_size=256))
        if not rows or not all(isinstance(r, tuple | list) and len(r) == 2 for r in rows):
            raise _wrong(name, half, "does not yield pairs of images and labels")
        for key, values in zip((f"x_{half}", f"y_{half}"), zip(*rows, strict=True), strict=True):
            arrays[key] = torch.cat([torch.as_tensor(v) for v in values])
    return check(arrays, name)


def check(arrays: Mapping[str, Any], name: str) -> DataSet:
    """A :class:`DataSet` of the four arrays (NumPy or torch).

    Raises:
        ModelLoadError: naming the array.
    """
    if missing := [k for k in KEYS if k not in arrays and k != "y_train"]:
        raise ModelLoadError(f"data set {name!r} has no {', '.join(missing)}", hint=f"it needs {', '.join(KEYS)}")
    labelled = "y_train" in arrays
    if not labelled:
        arrays = {**arrays, "y_train": np.zeros(len(arrays["x_train"]), np.int64)}
    halves = [_half(arrays[f"x_{h}"], arrays[f"y_{h}"], h, name) for h in ("train", "test")]
    shapes = [tuple(x.shape[1:]) for x, _ in halves]
    if shapes[0] != shapes[1]:
        raise _wrong(name, "x_test", f"has examples of the shape {shapes[1]}, x_train {shapes[0]}")
    data = DataSet(halves[0], halves[1], name, labelled)
    if labelled and (highest := int(data.test[1].max())) > int(data.train[1].max()):
        raise _wrong(name, "y_test", f"has label {highest}, which y_train has not")
    return data


def batches(
    x: Tensor, y: Tensor, batch_size: int, *, generator: torch.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Every example once: in order, or in an order drawn from ``generator``. The last batch may be smaller."""
    order = torch.arange(len(x)) if generator is None else torch.randperm(len(x), generator=generator)
    for chosen in torch.split(order, batch_size):
        yield x[chosen], y[chosen]


def _read_npz(file: Path) -> dict[str, Any]:
    if not file.exists():
        raise ModelLoadError(
            f"{file} does not exist", hint="give the path of an npz file (docs/DATA.md)", file=str(file)
        )
    try:
        with file.open("rb") as stream:  # numpy leaves its own open where the archive is damaged
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            return {k: archive[k] for k in KEYS if k in archive}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelLoadError(
            f"{file} is not an npz file of plain arrays: {error}",
            hint="write it with numpy.savez(file, x_train=..., y_train=..., x_test=..., y_test=...)",
            file=str(file),
        ) from error


def _half(x: Any, y: Any, half: str, name: str) -> tuple[Tensor, Tensor]:
    try:
        images, labels = (torch.as_tensor(np.asarray(a)) for a in (x, y))
    except (TypeError, ValueError, RuntimeError) as error:
        raise _wrong(name, f"x_{half} or y_{half}", f"is no array of numbers: {error}") from error
    if images.dim() != 4 or len(images) == 0:
        raise _wrong(name, f"x_{half}", f"has the shape {tuple(images.shape)}, not (N, C, H, W)")
    if labels.shape not in (images.shape[:1], (len(images), *images.shape[2:])):
        raise _wrong(name, f"y_{half}", f"has the shape {tuple(labels.shape)} for {len(images)} images")
    if labels.is_floating_point() or labels.is_complex():
        raise _wrong(name, f"y_{half}", f"is {labels.dtype}, labels are integers")
    images = images.to(torch.float32)
    if not torch.isfinite(images).all():
        raise _wrong(name, f"x_{half}", "holds NaN or infinity")
    labels = labels.to(torch.int64)
    if labels.min() < 0:
        raise _wrong(name, f"y_{half}", f"has label {int(labels.min())}; labels count from 0")
    return images.contiguous(), labels.contiguous()


def _wrong(name: str, array: str, what: str) -> ModelLoadError:
    return ModelLoadError(f"data set {name!r}: {array} {what}", array=array)
