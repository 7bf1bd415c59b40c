"""Torch data sets and loaders as halves of a data set: read sample by sample, or once where there are no numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from edgeprune.errors import BadInputError, ModelLoadError
from edgeprune.training.halves import Batch, Half, Stacked, as_tensor, collated

LABELS = ("targets", "target", "labels", "label")
"""Entries of a mapping that are targets; all others are inputs."""


@dataclass(frozen=True, slots=True)
class Samples:
    """A torch Dataset with numbers, read anew each time: transforms draw anew for each epoch."""

    dataset: Any
    collate: Callable[[Sequence[Any]], Any]
    name: str

    @property
    def size(self) -> int:
        return len(self.dataset)

    @property
    def fixed(self) -> bool:
        return False

    def take(self, chosen: Tensor) -> Batch:
        rows = []
        for number in chosen.tolist():
            try:
                rows.append(self.dataset[number])
            except Exception as error:
                raise BadInputError(
                    f"sample {number} of {self.name} cannot be read: {type(error).__name__}: {error}", sample=number
                ) from error
        return batch_of(self.collate(rows), self.name)


def half_of(source: Any, name: str, seed: int) -> Half:
    """A half of a torch Dataset or DataLoader: samples by number where it has numbers, and else all of it, read once.

    Raises:
        ModelLoadError: it is neither, it is empty, or it yields something else than inputs, or inputs and targets.
    """
    if not isinstance(source, DataLoader | Dataset):
        raise ModelLoadError(f"{name} is a {type(source).__name__}, not a torch DataLoader or Dataset", array=name)
    dataset: Any = source.dataset if isinstance(source, DataLoader) else source
    given: Any = source.collate_fn if isinstance(source, DataLoader) else default_collate
    numbered = (
        not isinstance(dataset, IterableDataset) and hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    )
    if numbered:
        if not len(dataset):
            raise ModelLoadError(f"{name} is empty", array=name)
        half = Samples(dataset, collated if given is default_collate else given, name)
        half.take(torch.zeros(1, dtype=torch.long))
        return half
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loader = source if isinstance(source, DataLoader) else DataLoader(source, batch_size=64)
        rows = [batch_of(row, name) for row in loader]
    if not rows:
        raise ModelLoadError(f"{name} is empty", array=name)
    return Stacked(_joined([r.inputs for r in rows]), _joined([r.targets for r in rows]))


def batch_of(row: Any, name: str) -> Batch:
    """What a loader yields as a batch: inputs alone; a pair of inputs and targets; a mapping, whose ``labels`` or
    ``targets`` are the targets.

    Raises:
        ModelLoadError: anything else.
    """
    targets = None
    if isinstance(row, tuple | list) and len(row) == 2:
        row, targets = row
    elif isinstance(row, tuple | list) and len(row) == 1:
        row = row[0]
    elif isinstance(row, tuple | list):
        raise _other(name)
    elif isinstance(row, Mapping):
        targets = next((row[k] for k in LABELS if k in row), None)
        row = {k: v for k, v in row.items() if k not in LABELS}
    inputs = tuple(row) if isinstance(row, list | tuple) else row
    leaves = tree_leaves(inputs)
    if not leaves or not all(as_tensor(t) is not None for t in leaves):
        raise _other(name)
    return Batch(inputs, targets)


def _other(name: str) -> ModelLoadError:
    return ModelLoadError(
        f"{name} does not yield pairs of inputs and targets, or inputs alone",
        hint="yield (inputs, targets), a tensor, or a mapping with labels; several inputs are a tuple in the pair",
        array=name,
    )


def _joined(parts: list[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)
    if isinstance(first, Mapping):
        return {k: _joined([p[k] for p in parts]) for k in first}
    if isinstance(first, tuple):
        return tuple(_joined(list(column)) for column in zip(*parts, strict=True))
    return None if first is None else [entry for part in parts for entry in part]
