"""Data sets, checked once: arrays in memory, folders and torch data sets that are read as they are used."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset

from edgeprune.errors import BadInputError, ModelLoadError
from edgeprune.models import entrypoint
from edgeprune.training.halves import Arrays, Half, Stacked, as_tensor, shapes_of, split
from edgeprune.training.sources.folder import is_folder, open_folder
from edgeprune.training.sources.found import Kind
from edgeprune.training.sources.loaders import half_of

KEYS = ("x_train", "y_train", "x_test", "y_test")
MEMORY_BYTES = 2**30
"""Images of a torch data set that are read once and kept; a larger one is read sample by sample, each time anew."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """A training half and a test half. A pair of images (N, C, H, W) and labels, as a tuple of tensors, is a half, too.

    Attributes:
        labelled: False if the training half came without labels though the test half has them; they are zeros until a
            network gives them (:mod:`edgeprune.training.teach`).
        kind: what targets are: integer ``labels``, ``boxes``, ``none``, or ``other``.
        names: of classes, in order of their numbers, where they are known.
        images: how image files are read, in words; empty for data that are arrays already.
    """

    train: Half
    test: Half
    name: str
    labelled: bool = True
    kind: Kind = "labels"
    names: tuple[str, ...] = ()
    images: str = ""

    def __post_init__(self) -> None:
        for half in ("train", "test"):
            given = getattr(self, half)
            if type(given) is tuple:
                object.__setattr__(self, half, Arrays(*given))

    @property
    def classes(self) -> int:
        """How many classes the labels tell apart; 0 if that is not known."""
        if isinstance(self.train, Arrays) and isinstance(self.test, Arrays):
            return int(max(self.train.y.max(), self.test.y.max())) + 1
        return len(self.names)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one example, batch included: (1, C, H, W)."""
        return shapes_of(self.train)[0]

    def require_classes(self, outputs: int) -> None:
        """Raises BadInputError for more classes than a network has outputs."""
        if self.classes > outputs:
            raise BadInputError(
                f"data set {self.name!r} has {self.classes} classes, the network {outputs} outputs",
                hint="load the network with num_classes",
                classes=self.classes,
                outputs=outputs,
            )


def load_data(
    source: str,
    seed: int = 0,
    *,
    input_shape: tuple[int, ...] | None = None,
    pixels: str | None = None,
    free: bool = False,
) -> DataSet:
    """Load a data set.

    Args:
        source: ``FILE.npz`` with the arrays ``x_train``, ``y_train``, ``x_test``, ``y_test``; a folder of images, or a
            ``data.yaml`` (docs/DATA.md); or ``package.module:factory`` or ``FILE.py:factory`` (the user's own code),
            which returns arrays as a mapping or as attributes, or what :func:`data_of` takes. Images are
            (N, C, H, W) of any real type, labels integers from 0.
        seed: of random choices in the factory, and of a split into two halves.
        input_shape: of the network, (1, C, H, W): images of a folder are read in this size.
        pixels: how images of a folder are read, as ``imagenet,crop``; by the kind of folder if None.
        free: inputs and targets may be anything, since a task says what they are.

    Raises:
        ModelLoadError: what is missing or wrong in which array or file.
    """
    file = Path(source)
    if file.suffix.lower() == ".npz":
        return data_of(_read_npz(file), file.stem, seed, free=free)
    if is_folder(source):
        found = open_folder(file, input_shape, pixels, seed)
        name = file.stem if file.is_file() else file.resolve().name
        return DataSet(found.train, found.test, name, True, found.kind, found.names, found.images)
    if not entrypoint.is_entrypoint(source):
        raise ModelLoadError(
            f"{source!r} is no data set",
            hint="give FILE.npz, a folder, FILE.py:factory or package.module:factory",
            source=source,
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = entrypoint.call(source)
    return data_of(made, source.rpartition(":")[2], seed, free=free)


def data_of(made: Any, name: str, seed: int = 0, *, free: bool = False) -> DataSet:
    """The data set that an object is.

    Args:
        made: a :class:`DataSet`; a mapping of the four arrays, or an object with them as attributes; a tuple of them; a
            torch Dataset or DataLoader, which is split by the seed; a pair or a mapping of ``train`` and ``test``.
        free: as for :func:`load_data`.

    Raises:
        ModelLoadError: it is none of these, or its parts do not go together.
    """
    if isinstance(made, DataSet):
        return made
    if isinstance(made, DataLoader | Dataset):
        whole = half_of(made, f"data set {name!r}", seed)
        return _of_halves(*split(whole, seed), name)
    if isinstance(made, tuple | list) and len(made) == len(KEYS):
        made = {k: v for k, v in zip(KEYS, made, strict=True) if v is not None}
    if isinstance(made, tuple | list) and len(made) == 2:
        made = {"train": made[0], "test": made[1]}
    if not isinstance(made, Mapping):
        made = {k: getattr(made, k) for k in KEYS if hasattr(made, k)}
    if "train" in made and {"test", "val"} & set(made):
        return collect({"train": made["train"], "test": made.get("test", made.get("val"))}, name, seed, free=free)
    made = _gathered(made)
    if free or ("x_test" in made and not {"y_train", "y_test"} & set(made)):
        return _anything(made, name)
    return check(made, name)


def collect(halves: Mapping[str, Any], name: str, seed: int = 0, *, free: bool = False) -> DataSet:
    """A :class:`DataSet` of torch DataLoaders or Datasets.

    Images (C, H, W) with integer labels are read once where they fit into memory, whatever else is read sample by
    sample.

    Args:
        halves: the ones for ``train`` and ``test``.
        seed: of a loader that shuffles.
        free: as for :func:`load_data`.

    Raises:
        ModelLoadError: a half is neither, or yields something else.
    """
    found = {h: half_of(source, f"data set {name!r}: {h}", seed) for h, source in halves.items()}
    if free or not all(map(_plain, found.values())):
        return _of_halves(found["train"], found["test"], name)
    arrays: dict[str, Any] = {}
    for half, source in halves.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            rows = list(source if isinstance(source, DataLoader) else DataLoader(source, batch_size=256))
        for key, values in zip((f"x_{half}", f"y_{half}"), zip(*rows, strict=True), strict=True):
            arrays[key] = torch.cat([torch.as_tensor(v) for v in values])
    return check(arrays, name)


def _plain(half: Half) -> bool:
    """Whether a half is one of images and labels, and small enough to be kept."""
    x, y = half.take(torch.zeros(1, dtype=torch.long))
    labels = isinstance(y, Tensor) and (y.shape == (1,) or (isinstance(x, Tensor) and y.shape == (1, *x.shape[2:])))
    return isinstance(x, Tensor) and x.dim() == 4 and labels and half.size * x[0].numel() * 4 <= MEMORY_BYTES


def _of_halves(train: Half, test: Half, name: str) -> DataSet:
    y = test.take(torch.zeros(1, dtype=torch.long)).targets
    boxes = isinstance(y, list) and bool(y) and isinstance(y[0], Mapping) and "boxes" in y[0]
    labels = isinstance(y, Tensor) and not y.is_floating_point() and y.dim() in (1, 3)
    return DataSet(
        train, test, name, kind="none" if y is None else "boxes" if boxes else "labels" if labels else "other"
    )


def _gathered(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays with ``x_train.NAME`` put together as the mapping ``x_train``: several inputs, or targets, by name."""
    found: dict[str, Any] = {}
    for key, value in arrays.items():
        whole, dot, part = key.partition(".")
        if dot and whole in KEYS:
            found.setdefault(whole, {})[part] = value
        else:
            found[key] = value
    return found


def _anything(arrays: Mapping[str, Any], name: str) -> DataSet:
    """Inputs and targets of any structure, in memory; targets may be missing."""
    if missing := [k for k in ("x_train", "x_test") if k not in arrays]:
        raise ModelLoadError(f"data set {name!r} has no {', '.join(missing)}", hint=f"it needs {', '.join(KEYS)}")
    halves = []
    for half in ("train", "test"):
        x, y = (_tensors(arrays.get(f"{k}_{half}"), name, f"{k}_{half}") for k in "xy")
        tensors = [t for t in tree_leaves((x, y)) if isinstance(t, Tensor)]
        lengths = {len(t) for t in tensors}
        if len(lengths) != 1 or not min(lengths):
            raise _wrong(name, f"x_{half} and y_{half}", "hold different numbers of samples, or none")
        if any(t.is_floating_point() and not torch.isfinite(t).all() for t in tensors):
            raise _wrong(name, f"x_{half} or y_{half}", "holds NaN or infinity")
        halves.append(Stacked(x, y))
    return _of_halves(halves[0], halves[1], name)


def _tensors(given: Any, name: str, array: str) -> Any:
    """Arrays of any structure as tensors; lists with one entry a sample stay lists."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        return {k: _tensors(v, name, array) for k, v in given.items()}
    if isinstance(given, tuple):
        return tuple(_tensors(v, name, array) for v in given)
    if isinstance(given, list) and given and isinstance(given[0], Mapping):
        return given
    try:
        found = as_tensor(given if not isinstance(given, list) else np.asarray(given))
    except (TypeError, ValueError, RuntimeError):
        found = None
    if found is None or not found.dim():
        raise _wrong(name, array, "is no array of numbers")
    return found


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
    if labelled and (highest := int(halves[1].y.max())) > int(halves[0].y.max()):
        raise _wrong(name, "y_test", f"has label {highest}, which y_train has not")
    return data


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
            return {k: archive[k] for k in archive.files if k.partition(".")[0] in KEYS}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelLoadError(
            f"{file} is not an npz file of plain arrays: {error}",
            hint="write it with numpy.savez(file, x_train=..., y_train=..., x_test=..., y_test=...)",
            file=str(file),
        ) from error


def _half(x: Any, y: Any, half: str, name: str) -> Arrays:
    try:
        images, labels = (torch.as_tensor(np.asarray(a)) for a in (x, y))
    except (TypeError, ValueError, RuntimeError) as error:
        raise _wrong(name, f"x_{half} or y_{half}", f"is no array of numbers: {error}") from error
    if images.dim() != 4 or len(images) == 0:
        raise _wrong(name, f"x_{half}", f"has the shape {tuple(images.shape)}, not (N, C, H, W)")
    if labels.shape not in (images.shape[:1], (len(images), *images.shape[2:])):
        raise _wrong(name, f"y_{half}", f"has the shape {tuple(labels.shape)} for {len(images)} images")
    if labels.is_floating_point() or labels.is_complex():
        raise _wrong(name, f"y_{half}", f"is {labels.dtype}, labels are integers", "for other targets give a task")
    images = images.to(torch.float32)
    if not torch.isfinite(images).all():
        raise _wrong(name, f"x_{half}", "holds NaN or infinity")
    labels = labels.to(torch.int64)
    if labels.min() < 0:
        raise _wrong(name, f"y_{half}", f"has label {int(labels.min())}; labels count from 0")
    return Arrays(images.contiguous(), labels.contiguous())


def _wrong(name: str, array: str, what: str, hint: str = "") -> ModelLoadError:
    return ModelLoadError(f"data set {name!r}: {array} {what}", hint=hint, array=array)
