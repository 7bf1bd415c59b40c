"""Fine-tuning: the accuracy that pruning cost is won back with labels, a teacher, or both."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR

from edgeprune.errors import BadInputError, UsageError
from edgeprune.models.outputs import as_logits
from edgeprune.models.torchbugs import SafeConvolutions
from edgeprune.progress import SILENT, Progress
from edgeprune.training.data import DataSet, batches
from edgeprune.training.distill import distil_loss
from edgeprune.training.evaluate import accuracy, predict

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Takes a batch of images and draws from the generator alone."""

_MOMENTUM = 0.9
_WEIGHT_DECAY = 5e-4


@dataclass(frozen=True, slots=True)
class History:
    """One entry per epoch: mean training loss, accuracy on the test half (0 to 1)."""

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def train(
    module: nn.Module,
    data: DataSet,
    *,
    epochs: int,
    lr: float = 0.05,
    batch_size: int = 128,
    seed: int = 0,
    teacher: nn.Module | None = None,
    distil_weight: float = 0.5,
    temperature: float = 4.0,
    label_smoothing: float = 0.0,
    augment: Augment | None = None,
    progress: Progress = SILENT,
) -> History:
    """Train ``module`` in place: SGD with Nesterov momentum and a one-cycle learning rate (arXiv:1708.07120).

    The same seed gives the same weights, bit for bit, on one thread. The module ends in ``eval`` mode. Biases and
    batch norms are not decayed (He et al. 2019, arXiv:1812.01187, section 3.1).

    Args:
        lr: the peak learning rate.
        teacher: gives soft targets; the loss is ``(1 - distil_weight) * cross entropy + distil_weight *``
            :func:`distil_loss`. With ``distil_weight=1`` labels are not used.
        augment: changes each training batch.

    Raises:
        UsageError: settings that make no sense.
        BadInputError: labels the network has no output for, or a loss that stops being finite. As after any other
            exception, the weights are then what they were before.
    """
    _check(module, data, epochs, lr, batch_size, distil_weight if teacher else 0.0, temperature)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    try:
        with torch.random.fork_rng(devices=[]), SafeConvolutions():
            torch.manual_seed(seed)  # dropout draws from the global state
            loss = _Loss(teacher, data, augment, distil_weight, temperature, label_smoothing)
            return _epochs(module, data, loss, augment, epochs, lr, batch_size, seed, progress)
    except BaseException:
        module.load_state_dict(before)
        raise
    finally:
        module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        module.eval()


class _Loss:
    """Cross entropy and distillation; the teacher is asked once per image where images do not change."""

    def __init__(
        self,
        teacher: nn.Module | None,
        data: DataSet,
        augment: Augment | None,
        weight: float,
        temperature: float,
        smoothing: float,
    ) -> None:
        self.teacher = teacher
        self.table = predict(teacher, data.train[0]) if teacher is not None and augment is None else None
        self.weight = weight if teacher is not None else 0.0
        self.temperature, self.smoothing = temperature, smoothing

    def __call__(self, logits: Tensor, x: Tensor, y: Tensor, chosen: Tensor) -> Tensor:
        total, logits = logits.new_zeros(()), as_logits(logits)
        if self.weight < 1:
            total = (1 - self.weight) * F.cross_entropy(logits, y, label_smoothing=self.smoothing)
        if self.teacher is not None and self.weight > 0:
            soft = predict(self.teacher, x) if self.table is None else self.table[chosen]
            total = total + self.weight * distil_loss(logits, as_logits(soft), self.temperature)
        return total


def _epochs(
    module: nn.Module,
    data: DataSet,
    loss: _Loss,
    augment: Augment | None,
    epochs: int,
    lr: float,
    batch_size: int,
    seed: int,
    progress: Progress,
) -> History:
    x_train, y_train = data.train
    generator = torch.Generator().manual_seed(seed)
    steps = math.ceil(len(x_train) / batch_size)
    optimizer = SGD(_groups(module), lr=lr, momentum=_MOMENTUM, nesterov=True)
    schedule = OneCycleLR(optimizer, max_lr=lr, total_steps=epochs * steps + 1)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    history = History()
    indices = torch.arange(len(x_train))
    for epoch in range(epochs):
        progress.stage(f"epoch {epoch + 1} of {epochs}", steps)
        module.train()
        total = 0.0
        for chosen, y in batches(indices, y_train, batch_size, generator=generator):
            if len(chosen) == 1 < len(x_train):
                continue  # a batch norm cannot train on a single value per channel
            x = x_train[chosen]
            if augment is not None:
                x = augment(x, generator)
            x = x.contiguous(memory_format=torch.channels_last)
            value = loss(module(x), x, y, chosen)
            if not torch.isfinite(value):
                raise BadInputError(
                    f"the loss is {value.item()} in epoch {epoch + 1}: training diverged; the weights are unchanged",
                    hint=f"lower the learning rate (it was {lr}) or check the weights",
                    epoch=epoch + 1,
                    lr=lr,
                )
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(value)
            optimizer.step()
            schedule.step()
            total += value.item() * len(chosen)
            progress.advance()
        history.loss.append(total / len(x_train))
        history.accuracy.append(accuracy(module, *data.test))
        progress.note(f"epoch {epoch + 1}: loss {history.loss[-1]:.4f}, accuracy {history.accuracy[-1]:.4f}")
    return history


def _groups(module: nn.Module) -> list[dict[str, Any]]:
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": _WEIGHT_DECAY},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]


def _check(
    module: nn.Module, data: DataSet, epochs: int, lr: float, batch_size: int, weight: float, temperature: float
) -> None:
    for name, right in (
        ("epochs must be at least 1", epochs >= 1),
        ("lr must be positive", 0 < lr < math.inf),
        ("batch_size must be at least 1", batch_size >= 1),
        ("distil_weight must be between 0 and 1", 0 <= weight <= 1),
        ("temperature must be positive", 0 < temperature < math.inf),
    ):
        if not right:
            raise UsageError(name)
    data.require_classes(predict(module, data.train[0][:1]).shape[1])
