"""Targets that are not in the data: those that the dense network gives, or the inputs themselves."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from edgeprune.models.inputs import as_inputs
from edgeprune.training.data import DataSet
from edgeprune.training.evaluate import predict
from edgeprune.training.halves import Arrays, Batch, Over, Targeted, at
from edgeprune.training.tasks.task import Task

MEMORY_BYTES = 2**28
"""Outputs of the dense network that are kept; where there would be more, it is asked anew for each batch."""


def labelled_by_teacher(module: nn.Module, data: DataSet) -> DataSet:
    """``data`` with the labels that ``module`` gives: the strongest output of each example (or pixel).

    A data set that has labels is returned as it is. Fine-tuning on the result should not look at these labels
    but at the outputs themselves (``distil_weight=1``); criteria that need a loss may.
    """
    if data.labelled or not isinstance(data.train, Arrays):
        return data
    x, _ = data.train
    return replace(data, train=Arrays(x, predict(module, x).argmax(1)), labelled=True)


def with_targets(module: nn.Module, data: DataSet, task: Task) -> DataSet:
    """``data`` with the targets that ``task`` wants, where these do not come from the data.

    Args:
        module: the dense network.
    """
    if task.targets == "dense":
        return replace(data, train=Taught(data.train, module), test=Taught(data.test, module), kind="other")
    if task.targets == "inputs" and data.kind == "none":
        first = [Targeted(h, lambda batch: as_inputs(batch.inputs)[0]) for h in (data.train, data.test)]
        return replace(data, train=first[0], test=first[1], kind="other")
    return data


@dataclass(frozen=True, slots=True)
class Taught(Over):
    """A half whose targets are the outputs of a network, asked once where memory suffices for all of them."""

    module: nn.Module
    _kept: dict[int, Any] = field(default_factory=dict)

    def take(self, chosen: Tensor) -> Batch:
        batch, numbers = self.half.take(chosen), chosen.tolist()
        if all(n in self._kept for n in numbers):
            return Batch(batch.inputs, tree_map(_side_by_side, *(self._kept[n] for n in numbers)))
        outputs = predict(self.module, batch.inputs)
        one = at(outputs, torch.zeros(1, dtype=torch.long))
        each = sum(t.numel() * t.element_size() for t in tree_leaves(one) if isinstance(t, Tensor))
        if each * self.size <= MEMORY_BYTES and self.fixed:
            for place, number in enumerate(numbers):
                self._kept[number] = at(outputs, torch.tensor([place]))
        return Batch(batch.inputs, outputs)


def _side_by_side(*values: Any) -> Any:
    return torch.cat(values) if isinstance(values[0], Tensor) else values[0]
