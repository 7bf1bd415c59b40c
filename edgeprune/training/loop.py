"""The steps of a training, epoch by epoch: batches, gradients, the optimizer and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR

from edgeprune.errors import BadInputError, UsageError
from edgeprune.models.inputs import Inputs, train_mode, yields_the_same
from edgeprune.progress import Progress
from edgeprune.training.checkpoint import optimizer_state, restore_optimizer
from edgeprune.training.companion import Companion
from edgeprune.training.halves import Batch, Half
from edgeprune.training.seeds import generators, set_generators
from edgeprune.training.task_loss import TaskLoss

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Takes a batch of images and draws from the generator alone."""

_MOMENTUM = 0.9
_WEIGHT_DECAY = 5e-4
RISE = 0.3
"""Share of the steps in which the learning rate of one cycle rises to its peak."""


class Loop:
    """SGD over a half of a data set; its state between two epochs can be written down and restored.

    Args:
        half: that is trained on.
        lr: the peak learning rate.
    """

    def __init__(
        self,
        module: nn.Module,
        half: Half,
        loss: TaskLoss,
        companions: Sequence[Companion],
        augment: Augment | None,
        *,
        epochs: int,
        lr: float,
        batch_size: int,
        seed: int,
    ) -> None:
        self.module, self.half, self.loss, self.companions, self.augment = module, half, loss, companions, augment
        self.epochs, self.lr, self.batch_size = epochs, lr, batch_size
        self.steps = math.ceil(half.size / batch_size)
        self._generator = torch.Generator().manual_seed(seed)
        for companion in companions:
            companion.begin(module, epochs * self.steps)
        self._optimizer = SGD(_groups(module), lr=lr, momentum=_MOMENTUM, nesterov=True)
        total = epochs * self.steps + 1
        self._schedule = OneCycleLR(self._optimizer, max_lr=lr, total_steps=total, pct_start=RISE)
        if all(p.dim() != 5 for p in module.parameters()):  # torch has no such layout for volumes
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # A loss is of outputs as they are in evaluation mode: a step alone reads what heads yield in training.
        one = torch.zeros(1, dtype=torch.long)
        self._whole = loss.task.step is not None or yields_the_same(module, half.take(one).inputs)

    def epoch(self, number: int, progress: Progress) -> float:
        """Train on every sample once; returns the mean loss.

        Args:
            number: of the epoch, from 0.
        """
        progress.stage(f"epoch {number + 1} of {self.epochs}", self.steps)
        train_mode(self.module, whole=self._whole)
        size, total = self.half.size, 0.0
        for chosen in torch.split(torch.randperm(size, generator=self._generator), self.batch_size):
            if len(chosen) == 1 < size:
                continue  # a batch norm cannot train on a single value per channel
            total += self._step(chosen, number) * len(chosen)
            progress.advance()
        return total / size

    def state(self) -> dict[str, Any]:
        """Weights, what the optimizer keeps, the learning rate, generators, companions."""
        return {
            "weights": dict(self.module.state_dict()),
            "optimizer": optimizer_state(self._optimizer),
            "rates": [{k: g[k] for k in ("lr", "momentum")} for g in self._optimizer.param_groups],
            "schedule": {"last_epoch": self._schedule.last_epoch, "_last_lr": self._schedule.get_last_lr()},
            "order": self._generator.get_state(),
            "generators": generators(),
            "companions": [c.state() for c in self.companions],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state` was asked, in a loop that was made alike."""
        self.module.load_state_dict(state["weights"])
        restore_optimizer(self._optimizer, state["optimizer"])
        for group, rates in zip(self._optimizer.param_groups, state["rates"], strict=True):
            group.update(rates)
        self._schedule.load_state_dict(state["schedule"])
        for companion, kept in zip(self.companions, state["companions"], strict=True):
            companion.restore(self.module, kept)
        self._generator.set_state(state["order"])
        set_generators(state["generators"])

    def _step(self, chosen: Tensor, number: int) -> float:
        module, companions = self.module, self.companions
        batch = self._batch(chosen)
        for companion in companions:
            companion.before(module)
        value = self.loss(module, batch, chosen)
        if not torch.isfinite(value):
            raise BadInputError(
                f"the loss is {value.item()} in epoch {number + 1}: training diverged; the weights are unchanged",
                hint=f"lower the learning rate (it was {self.lr}) or check the weights",
                epoch=number + 1,
                lr=self.lr,
            )
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(_with_penalties(value, module, companions))
        for companion in companions:
            companion.graded(module)
        self._optimizer.step()
        for companion in companions:
            companion.stepped(module, float(self._schedule.get_last_lr()[0]))
        self._schedule.step()
        return value.item()

    def _batch(self, chosen: Tensor) -> Batch:
        batch = self.half.take(chosen)
        if self.augment is not None:
            if not isinstance(batch.inputs, Tensor):
                raise UsageError("an augmentation changes one input, and the network has several")
            batch = batch._replace(inputs=self.augment(batch.inputs, self._generator))
        return batch._replace(inputs=_channels_last(batch.inputs))


def _channels_last(inputs: Inputs) -> Inputs:
    if isinstance(inputs, tuple):
        return tuple(t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in inputs)
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs


def _groups(module: nn.Module) -> list[dict[str, Any]]:
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": _WEIGHT_DECAY},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]


def _with_penalties(value: Tensor, module: nn.Module, companions: Sequence[Companion]) -> Tensor:
    for companion in companions:
        if (penalty := companion.penalty(module)) is not None:
            value = value + penalty
    return value
