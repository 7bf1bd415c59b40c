"""Twin training: the full network goes on learning beside the pruned one, and teaches it (Zhang et al. 2018,
arXiv:1706.00384, "Deep Mutual Learning", in one direction).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils._pytree import tree_map

from edgeprune.errors import UsageError
from edgeprune.models.inputs import call, train_mode
from edgeprune.training.checkpoint import optimizer_state, restore_optimizer
from edgeprune.training.companion import Silent
from edgeprune.training.halves import Batch
from edgeprune.training.tasks.task import Task

_SHARE = 0.1
"""Of the pruned network's learning rate: the full one is trained already."""


class Twin(Silent):
    """A copy of the full network that takes a step of its own on each batch, and gives its outputs as soft targets.

    What it yields in training mode is what it teaches: one pass serves both.

    Raises:
        UsageError: the task has no loss that the full network could be trained by.
    """

    def __init__(self, full: nn.Module, task: Task) -> None:
        if task.loss is None or task.targets == "dense":
            raise UsageError(f"task {task.name!r} has no loss that a full twin could learn by", hint="leave twin away")
        self.module, self._task = copy.deepcopy(full), task
        trained = [p.requires_grad_(True) for p in self.module.parameters() if p.is_floating_point()]
        self._optimizer = SGD(trained, lr=0.0, momentum=0.9, nesterov=True)
        train_mode(self.module, whole=False)

    def taught(self, batch: Batch) -> Any:
        """What the full network gives for a batch; it learns from it."""
        outputs = call(self.module, batch.inputs)
        read = outputs if self._task.prepared is None else self._task.prepared(outputs)
        assert self._task.loss is not None
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self._task.loss(read, batch.targets))
        self._optimizer.step()
        return tree_map(lambda t: t.detach() if isinstance(t, Tensor) else t, outputs)

    def stepped(self, module: nn.Module, lr: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = _SHARE * lr

    def state(self) -> dict[str, Any]:
        rates = [group["lr"] for group in self._optimizer.param_groups]
        return {"weights": dict(self.module.state_dict()), "optimizer": optimizer_state(self._optimizer), "lr": rates}

    def restore(self, module: nn.Module, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["weights"])
        restore_optimizer(self._optimizer, state["optimizer"])
        for group, lr in zip(self._optimizer.param_groups, state["lr"], strict=True):
            group["lr"] = lr
