"""The loss of a training step: that of the task, distillation, or both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgeprune.errors import UsageError
from edgeprune.models.inputs import call
from edgeprune.training.evaluate import predict
from edgeprune.training.halves import Arrays, Batch, Half, at
from edgeprune.training.precision import FLOAT32, lowered, raised
from edgeprune.training.tasks.task import Task
from edgeprune.training.teach import Taught
from edgeprune.training.twin import Twin


class TaskLoss:
    """The loss of a task, and distillation; the teacher is asked once per sample where samples do not change.

    Args:
        half: that is trained on.
        augmented: whether batches are changed before the network sees them.
        weight: of distillation, 0 to 1; the loss of the task has what is left.
        twin: the teacher, where it learns as well: it is asked in every step.
        precision: of the layers of the network that is trained; the loss is computed in float32.
    """

    def __init__(
        self,
        task: Task,
        teacher: nn.Module | None,
        half: Half,
        *,
        augmented: bool,
        weight: float,
        temperature: float,
        twin: Twin | None = None,
        precision: str = FLOAT32,
    ) -> None:
        self.task, self.temperature, self.precision, self.twin = task, temperature, precision, twin
        self.teacher = teacher if task.step is None else None
        self.weight = weight if self.teacher is not None else 0.0
        if task.loss is None and task.step is None:
            if self.teacher is None and task.targets != "dense":
                raise UsageError(f"task {task.name!r} has no loss, and there is no teacher", hint="give a teacher")
            self.weight = 1.0
        self.table: Any = None
        self.taught: Taught | None = None
        if self.teacher is not None and twin is None and not augmented and task.targets != "dense":
            if isinstance(half, Arrays):
                self.table = predict(self.teacher, half.x)
            elif half.fixed:
                self.taught = Taught(half, self.teacher)

    def __call__(self, module: nn.Module, batch: Batch, chosen: Tensor) -> Tensor:
        with lowered(self.precision):
            found = call(module, batch.inputs) if self.task.step is None else self.task.step(module, batch)
        outputs = raised(found)
        if self.task.step is not None:
            value: Tensor = outputs
            return value
        if self.task.prepared is not None:
            outputs = self.task.prepared(outputs)
        total = next(t for t in tree_leaves(outputs) if isinstance(t, Tensor)).new_zeros((), dtype=torch.float32)
        if self.weight < 1 and self.task.loss is not None:
            total = (1 - self.weight) * self.task.loss(outputs, batch.targets)
        if self.weight > 0:
            total = total + self.weight * self.task.distil(outputs, self._soft(batch, chosen), self.temperature)
        return total

    def _soft(self, batch: Batch, chosen: Tensor) -> Any:
        if self.task.targets == "dense":
            return batch.targets
        if self.twin is not None:
            return self.twin.taught(batch)
        if self.table is not None:
            return at(self.table, chosen)
        if self.taught is not None:
            return self.taught.take(chosen).targets
        assert self.teacher is not None
        return predict(self.teacher, batch.inputs)
