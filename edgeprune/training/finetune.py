"""Fine-tuning: the accuracy that pruning cost is won back with labels, a teacher, or both."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.errors import UsageError
from edgeprune.models.torchbugs import SafeConvolutions
from edgeprune.progress import SILENT, Progress, time_left
from edgeprune.training.checkpoint import Checkpoint, digest_of
from edgeprune.training.companion import Companion
from edgeprune.training.data import DataSet
from edgeprune.training.early_stop import VALIDATION, HeldOut, check_early_stop
from edgeprune.training.evaluate import evaluate, predict
from edgeprune.training.halves import Arrays, split
from edgeprune.training.history import History
from edgeprune.training.loop import RISE, Augment, Loop
from edgeprune.training.precision import FLOAT32, check_precision
from edgeprune.training.seeds import seeded
from edgeprune.training.task_loss import TaskLoss
from edgeprune.training.tasks.classification import classification, learns_labels
from edgeprune.training.tasks.task import Task
from edgeprune.training.twin import Twin


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
    twin: bool = False,
    label_smoothing: float = 0.0,
    augment: Augment | None = None,
    task: Task | None = None,
    companions: Sequence[Companion] = (),
    early_stop: int | None = None,
    validation: float = VALIDATION,
    precision: str = FLOAT32,
    checkpoint: Checkpoint | None = None,
    progress: Progress = SILENT,
) -> History:
    """Train ``module`` in place: SGD with Nesterov momentum and a one-cycle learning rate (arXiv:1708.07120).

    The same seed gives the same weights, bit for bit, on one thread, whether or not the training was killed and went on
    from a checkpoint. The module ends in ``eval`` mode. Biases and batch norms are not decayed (He et al. 2019,
    arXiv:1812.01187, section 3.1).

    Args:
        lr: the peak learning rate.
        seed: of the order of samples, dropout, augmentations, and transforms that draw from global generators.
        teacher: gives soft targets; the loss is ``(1 - distil_weight) * loss + distil_weight * distil``, both of the
            task. With ``distil_weight=1`` targets are not used, nor where the task has no loss. A task with a ``step``
            has no teacher.
        twin: a copy of the teacher learns from each batch before it teaches (:mod:`edgeprune.training.twin`).
        label_smoothing: of the cross entropy where no task is given.
        augment: changes each training batch.
        task: classification if None.
        companions: what takes part in each step: masks, penalties, gates.
        early_stop: epochs without a better figure, of samples held out of the training half, after which the training
            ends; the module then has the weights of the best epoch (:mod:`edgeprune.training.early_stop`). None: all
            epochs are trained, and the last one counts.
        validation: the share of the training half that is held out where ``early_stop`` or a companion asks for it.
        precision: of the layers while they are trained, ``float32`` or ``bf16``
            (:mod:`edgeprune.training.precision`); weights are in float32.
        checkpoint: written after each epoch, and gone on from if it is of this training.

    Raises:
        UsageError: settings that make no sense.
        BadInputError: labels the network has no output for, or a loss that stops being finite. As after any other
            exception, the weights are then what they were before.
        OSError: the checkpoint cannot be written.
    """
    task = task or classification(label_smoothing)
    weight = distil_weight if teacher else 0.0
    _check(epochs, lr, batch_size, weight, temperature)
    check_early_stop(early_stop, validation)
    check_precision(precision)
    if learns_labels(task) and isinstance(data.train, Arrays):
        data.require_classes(predict(module, data.train.x[:1]).shape[1])
    full = Twin(teacher, task) if twin and teacher is not None and weight else None
    companions = companions if full is None else (*companions, full)
    data, held_out = _held_out(data, task, companions, early_stop, validation, seed)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    try:
        with seeded(seed), SafeConvolutions():
            loss = TaskLoss(
                task,
                teacher,
                data.train,
                augmented=augment is not None,
                weight=distil_weight,
                temperature=temperature,
                twin=full,
                precision=precision,
            )
            rates: dict[str, Any] = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "seed": seed}
            identity = {
                **rates,
                "task": task.name,
                "loss": [weight, temperature, label_smoothing, augment is not None, precision],
                "held_out": None if held_out is None else [held_out.half.size, held_out.patience],
                "data": [data.name, data.train.size, data.test.size],
                "companions": [type(c).__name__ for c in companions],
            }
            saved = None if checkpoint is None else _Saved(checkpoint, _named(identity, before, teacher, checkpoint.of))
            loop = Loop(module, data.train, loss, companions, augment, **rates)
            return _epochs(loop, data, held_out, saved, progress)
    except BaseException:
        module.load_state_dict(before)
        raise
    finally:
        module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        module.eval()


@dataclass(frozen=True, slots=True)
class _Saved:
    """A checkpoint, and what a training has to agree in to go on from it."""

    checkpoint: Checkpoint
    identity: Mapping[str, Any]


def _epochs(loop: Loop, data: DataSet, held_out: HeldOut | None, saved: _Saved | None, progress: Progress) -> History:
    module, task, epochs, companions = loop.module, loop.loss.task, loop.epochs, loop.companions
    history = History(metric_name="" if learns_labels(task) else task.metric.name)
    first = 0
    if saved is not None and (found := saved.checkpoint.read(saved.identity, progress)) is not None:
        loop.restore(found["loop"])
        history, first = History(**found["history"]), len(found["history"]["loss"])
        if held_out is not None:
            held_out.restore(found["held_out"])
        progress.note(f"the training goes on after epoch {first} of {epochs}")
    began = time.monotonic()
    for epoch in range(first, epochs):
        if held_out is not None and held_out.over:
            break
        mean = loop.epoch(epoch, progress)
        score = evaluate(module, data.test, task)
        judged = None if held_out is None else held_out.score(module)
        said = history.add(mean, score, judged)
        for companion in companions:
            companion.epoch_ended(module, judged or score)
        if held_out is not None and judged is not None:
            counts = epoch + 1 > RISE * epochs and all(c.settled for c in companions)
            held_out.judge(module, judged, epoch + 1, counts=counts)
        if saved is not None:
            state = {"loop": loop.state(), "history": asdict(history)}
            saved.checkpoint.write(saved.identity, {**state, "held_out": held_out and held_out.state()})
        seconds = (time.monotonic() - began) / (epoch + 1 - first) * (epochs - epoch - 1)
        progress.note(f"epoch {epoch + 1} of {epochs}: {said}{time_left(seconds)}")
    if held_out is not None and held_out.chosen:
        held_out.put_back(module)
        history.chosen = held_out.chosen
        progress.note(f"the weights are those of epoch {history.chosen}, the best on samples that were held out")
    return history


def _held_out(
    data: DataSet, task: Task, companions: Sequence[Companion], patience: int | None, share: float, seed: int
) -> tuple[DataSet, HeldOut | None]:
    """The data that are trained on, and what is held out of them, if a figure of it is asked for."""
    if not patience and not any(c.judges for c in companions):
        return data, None
    left, held = split(data.train, seed, share)
    return replace(data, train=left), HeldOut(held, task, patience or 0)


def _named(
    identity: Mapping[str, Any], weights: Mapping[str, Tensor], teacher: nn.Module | None, of: str
) -> dict[str, Any]:
    return {
        **identity,
        "of": of or digest_of(weights),
        "shapes": {k: list(v.shape) for k, v in weights.items()},
        "teacher": None if teacher is None else digest_of(teacher.state_dict()),
    }


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
