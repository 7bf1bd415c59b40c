"""The halves of a data set: samples that are counted, and taken in batches by their numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from edgeprune.errors import BadInputError

CHUNK = 64
"""Samples that are read at once where nothing else is asked for."""


class Batch(NamedTuple):
    """Samples side by side.

    Attributes:
        inputs: a tensor whose first dimension counts samples, or a tuple of such, one for each input of the network;
            where they have names, a mapping, until they are put in order.
        targets: of any structure: tensors whose first dimension counts samples, or lists with one entry a sample;
            None where the data have none.
    """

    inputs: Any
    targets: Any = None


class Half(Protocol):
    """The training half or the test half of a data set."""

    @property
    def size(self) -> int:
        """How many samples there are; at least one."""
        ...

    @property
    def fixed(self) -> bool:
        """Whether a number gives the same sample each time: False where a transform draws."""
        ...

    def take(self, chosen: Tensor) -> Batch:
        """The samples of these numbers, in this order.

        Args:
            chosen: int64, (n,), each at least 0 and below ``size``.

        Raises:
            BadInputError: a sample cannot be read; names it.
        """
        ...


class Arrays(NamedTuple):
    """Images (N, C, H, W) in float32 and int64 labels (N,), or (N, H, W) for segmentation, in memory."""

    x: Tensor
    y: Tensor

    @property
    def size(self) -> int:
        return len(self.x)

    @property
    def fixed(self) -> bool:
        return True

    def take(self, chosen: Tensor) -> Batch:
        return Batch(self.x[chosen], self.y[chosen])


@dataclass(frozen=True, slots=True)
class Stacked:
    """Inputs and targets of any structure in memory; the first dimension of every tensor counts samples."""

    inputs: Any
    targets: Any = None

    @property
    def size(self) -> int:
        return len(next(t for t in tree_leaves(self.inputs) if isinstance(t, Tensor)))

    @property
    def fixed(self) -> bool:
        return True

    def take(self, chosen: Tensor) -> Batch:
        return Batch(at(self.inputs, chosen), at(self.targets, chosen))


@dataclass(frozen=True, slots=True)
class Over:
    """What is read through another half, sample for sample."""

    half: Half

    @property
    def size(self) -> int:
        return self.half.size

    @property
    def fixed(self) -> bool:
        return self.half.fixed


@dataclass(frozen=True, slots=True)
class Targeted(Over):
    """The inputs of a half with other targets: those that are computed from each batch."""

    targets: Callable[[Batch], Any]

    def take(self, chosen: Tensor) -> Batch:
        batch = self.half.take(chosen)
        return Batch(batch.inputs, self.targets(batch))


@dataclass(frozen=True, slots=True)
class Part:
    """Some samples of a half, by their numbers."""

    half: Half
    numbers: Tensor

    @property
    def size(self) -> int:
        return len(self.numbers)

    @property
    def fixed(self) -> bool:
        return self.half.fixed

    def take(self, chosen: Tensor) -> Batch:
        return self.half.take(self.numbers[chosen])


def at(values: Any, chosen: Tensor) -> Any:
    """The samples of these numbers out of tensors and lists of any structure."""
    if isinstance(values, list):
        return [values[i] for i in chosen.tolist()]
    return tree_map(lambda t: t[chosen] if isinstance(t, Tensor) else t, values, is_leaf=lambda v: isinstance(v, list))


def batches_of(half: Half, batch_size: int = CHUNK, numbers: Tensor | None = None) -> Iterator[Batch]:
    """The samples of a half in order (or those of these numbers), in batches; the last one may be smaller."""
    for chosen in torch.split(torch.arange(half.size) if numbers is None else numbers, batch_size):
        yield half.take(chosen)


def spread(half: Half, most: int) -> Tensor:
    """Numbers of at most so many samples that stand for a half: evenly spaced, in an order that is mixed but always the
    same. Data often lie class by class, and each batch has to be like the whole: batch norms learn from it.
    """
    count = min(half.size, most)
    numbers = torch.linspace(0, half.size - 1, count, dtype=torch.float64).round().long()
    return numbers[torch.randperm(count, generator=torch.Generator().manual_seed(0))]


def split(half: Half, seed: int, share: float = 0.2) -> tuple[Half, Half]:
    """Two halves of one: all but a ``share`` of the samples to train on, and these, drawn by the seed, to test on.

    Raises:
        BadInputError: a single sample cannot be both.
    """
    if half.size < 2:
        raise BadInputError("one sample cannot be split into a training half and a test half")
    order = torch.randperm(half.size, generator=torch.Generator().manual_seed(seed))
    test = max(1, round(share * half.size))
    return Part(half, order[test:].sort().values), Part(half, order[:test].sort().values)


def collated(samples: Sequence[Any]) -> Any:
    """One batch of samples: tensors of equal shape stacked, numbers as tensors, whatever else as lists; tuples and
    mappings entry by entry. Mappings with ``boxes`` stay a list: images hold different numbers of them.
    """
    first = samples[0]
    if isinstance(first, Mapping):
        if "boxes" in first or any(not isinstance(s, Mapping) or s.keys() != first.keys() for s in samples):
            return list(samples)
        return {k: collated([s[k] for s in samples]) for k in first}
    if isinstance(first, tuple):
        return tuple(collated(column) for column in zip(*samples, strict=True))
    if isinstance(first, bool | int | float):
        return torch.tensor(list(samples))
    tensors = [t for t in map(as_tensor, samples) if t is not None]
    if len(tensors) < len(samples):
        return list(samples)
    return torch.stack(tensors) if len({t.shape for t in tensors}) == 1 else tensors


def as_tensor(value: Any) -> Tensor | None:
    """A tensor or array as a tensor, real numbers in float32; None for anything else."""
    if not isinstance(value, Tensor) and not hasattr(value, "__array__"):
        return None
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return tensor.float() if tensor.dtype in (torch.float64, torch.float16, torch.bfloat16) else tensor


def shapes_of(half: Half) -> list[tuple[int, ...]]:
    """Shapes of the inputs of one sample, batch included: (1, C, H, W)."""
    return [tuple(t.shape) for t in tree_leaves(half.take(torch.zeros(1, dtype=torch.long)).inputs)]
