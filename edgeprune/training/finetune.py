"""Fine-tuning: the accuracy that pruning cost is won back with labels, a teacher, or both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils._pytree import tree_leaves

from edgeprune.errors import BadInputError, UsageError
from edgeprune.models.inputs import Inputs, call, train_mode, yields_the_same
from edgeprune.models.torchbugs import SafeConvolutions
from edgeprune.progress import SILENT, Progress
from edgeprune.training.companion import Companion
from edgeprune.training.data import DataSet
from edgeprune.training.evaluate import evaluate, predict
from edgeprune.training.halves import Arrays, Batch, at
from edgeprune.training.tasks.classification import classification, learns_labels
from edgeprune.training.tasks.task import Score, Task
from edgeprune.training.teach import Taught

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Takes a batch of images and draws from the generator alone."""

_MOMENTUM = 0.9
_WEIGHT_DECAY = 5e-4


@dataclass(frozen=True, slots=True)
class History:
    """One entry per epoch: mean training loss, and the figure of the task's metric on the test half.

    Attributes:
        accuracy: where the metric is the share of right labels, 0 to 1; else empty.
        metric: the figures of any other metric, which is called ``metric_name``.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    metric: list[float] = field(default_factory=list)
    metric_name: str = ""

    def to_json(self) -> dict[str, Any]:
        said = asdict(self)
        name, metric = said.pop("metric_name"), said.pop("metric")
        return {"loss": said["loss"], "metric": metric, "metric_name": name} if name else said


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
    task: Task | None = None,
    companions: Sequence[Companion] = (),
    progress: Progress = SILENT,
) -> History:
    """Train ``module`` in place: SGD with Nesterov momentum and a one-cycle learning rate (arXiv:1708.07120).

    The same seed gives the same weights, bit for bit, on one thread. The module ends in ``eval`` mode. Biases and
    batch norms are not decayed (He et al. 2019, arXiv:1812.01187, section 3.1).

    Args:
        lr: the peak learning rate.
        teacher: gives soft targets; the loss is ``(1 - distil_weight) * loss + distil_weight * distil``, both of the
            task. With ``distil_weight=1`` targets are not used, nor where the task has no loss. A task with a ``step``
            has no teacher.
        label_smoothing: of the cross entropy where no task is given.
        augment: changes each training batch.
        task: classification if None.
        companions: what takes part in each step: masks, penalties, gates.

    Raises:
        UsageError: settings that make no sense.
        BadInputError: labels the network has no output for, or a loss that stops being finite. As after any other
            exception, the weights are then what they were before.
    """
    task = task or classification(label_smoothing)
    _check(epochs, lr, batch_size, distil_weight if teacher else 0.0, temperature)
    if learns_labels(task) and isinstance(data.train, Arrays):
        data.require_classes(predict(module, data.train.x[:1]).shape[1])
    before = {k: v.clone() for k, v in module.state_dict().items()}
    try:
        with torch.random.fork_rng(devices=[]), SafeConvolutions():
            torch.manual_seed(seed)  # dropout draws from the global state
            loss = _Loss(task, teacher, data, augment, distil_weight, temperature)
            try:
                return _epochs(module, data, loss, companions, augment, epochs, lr, batch_size, seed, progress)
            finally:
                for companion in companions:
                    companion.finish(module)
    except BaseException:
        module.load_state_dict(before)
        raise
    finally:
        module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        module.eval()


class _Loss:
    """The loss of a task, and distillation; the teacher is asked once per sample where samples do not change."""

    def __init__(
        self,
        task: Task,
        teacher: nn.Module | None,
        data: DataSet,
        augment: Augment | None,
        weight: float,
        temperature: float,
    ) -> None:
        self.task, self.temperature = task, temperature
        self.teacher = teacher if task.step is None else None
        self.weight = weight if self.teacher is not None else 0.0
        if task.loss is None and task.step is None:
            if self.teacher is None and task.targets != "dense":
                raise UsageError(f"task {task.name!r} has no loss, and there is no teacher", hint="give a teacher")
            self.weight = 1.0
        self.table: Any = None
        self.taught: Taught | None = None
        if self.teacher is not None and augment is None and task.targets != "dense":
            if isinstance(data.train, Arrays):
                self.table = predict(self.teacher, data.train.x)
            elif data.train.fixed:
                self.taught = Taught(data.train, self.teacher)

    def __call__(self, module: nn.Module, batch: Batch, chosen: Tensor) -> Tensor:
        if self.task.step is not None:
            return self.task.step(module, batch)
        outputs = call(module, batch.inputs)
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
        if self.table is not None:
            return at(self.table, chosen)
        if self.taught is not None:
            return self.taught.take(chosen).targets
        assert self.teacher is not None
        return predict(self.teacher, batch.inputs)


def _epochs(
    module: nn.Module,
    data: DataSet,
    loss: _Loss,
    companions: Sequence[Companion],
    augment: Augment | None,
    epochs: int,
    lr: float,
    batch_size: int,
    seed: int,
    progress: Progress,
) -> History:
    size, task = data.train.size, loss.task
    generator = torch.Generator().manual_seed(seed)
    steps = math.ceil(size / batch_size)
    for companion in companions:
        companion.begin(module, epochs * steps)
    optimizer = SGD(_groups(module), lr=lr, momentum=_MOMENTUM, nesterov=True)
    schedule = OneCycleLR(optimizer, max_lr=lr, total_steps=epochs * steps + 1)
    if all(p.dim() != 5 for p in module.parameters()):  # torch has no such layout for volumes
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # A loss is of outputs as they are in evaluation mode: a step alone reads what heads yield in training.
    whole = task.step is not None or yields_the_same(module, data.train.take(torch.zeros(1, dtype=torch.long)).inputs)
    history = History(metric_name="" if learns_labels(task) else task.metric.name)
    for epoch in range(epochs):
        progress.stage(f"epoch {epoch + 1} of {epochs}", steps)
        train_mode(module, whole=whole)
        total = 0.0
        for chosen in torch.split(torch.randperm(size, generator=generator), batch_size):
            if len(chosen) == 1 < size:
                continue  # a batch norm cannot train on a single value per channel
            batch = data.train.take(chosen)
            if augment is not None:
                if not isinstance(batch.inputs, Tensor):
                    raise UsageError("an augmentation changes one input, and the network has several")
                batch = batch._replace(inputs=augment(batch.inputs, generator))
            batch = batch._replace(inputs=_channels_last(batch.inputs))
            for companion in companions:
                companion.before(module)
            value = loss(module, batch, chosen)
            if not torch.isfinite(value):
                raise BadInputError(
                    f"the loss is {value.item()} in epoch {epoch + 1}: training diverged; the weights are unchanged",
                    hint=f"lower the learning rate (it was {lr}) or check the weights",
                    epoch=epoch + 1,
                    lr=lr,
                )
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(_with_penalties(value, module, companions))
            for companion in companions:
                companion.graded(module)
            optimizer.step()
            for companion in companions:
                companion.stepped(module, float(schedule.get_last_lr()[0]))
            schedule.step()
            total += value.item() * len(chosen)
            progress.advance()
        history.loss.append(total / size)
        score = evaluate(module, data.test, task)
        progress.note(f"epoch {epoch + 1}: loss {history.loss[-1]:.4f}, {_noted(history, score)}")
        for companion in companions:
            companion.epoch_ended(module, score)
    return history


def _noted(history: History, score: Score) -> str:
    """The figure of an epoch, written into the history."""
    (history.metric if history.metric_name else history.accuracy).append(score.value)
    return f"{score.name} {score.value:.4f}"


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


def _check(epochs: int, lr: float, batch_size: int, weight: float, temperature: float) -> None:
    for name, right in (
        ("epochs must be at least 1", epochs >= 1),
        ("lr must be positive", 0 < lr < math.inf),
        ("batch_size must be at least 1", batch_size >= 1),
        ("distil_weight must be between 0 and 1", 0 <= weight <= 1),
        ("temperature must be positive", 0 < temperature < math.inf),
    ):
        if not right:
            raise UsageError(name)
