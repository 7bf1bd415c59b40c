"""Trainers of others: a task may bring one, which fine-tunes a pruned module in place, and is not trusted blindly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from edgeprune.errors import BadInputError, EdgepruneError
from edgeprune.training.data import DataSet
from edgeprune.training.evaluate import evaluate
from edgeprune.training.seeds import seeded
from edgeprune.training.tasks.task import Task

GIVEN = ("epochs", "lr", "batch_size", "seed", "teacher", "distil_weight", "temperature", "progress")
"""What a trainer is given by name, beside the task."""


def finetuned(module: nn.Module, data: DataSet, task: Task, **settings: Any) -> dict[str, Any]:
    """Fine-tune ``module`` in place by the task's own trainer; returns the history that it gives, with the figure of
    the task's metric afterwards.

    The module ends in ``eval`` mode, on the CPU, in float32, with the layout and the gradients flags that it had.

    Args:
        settings: what the trainer is given by name (:data:`GIVEN`).

    Raises:
        BadInputError: the trainer fails, or leaves other parameters than there were, or weights that are not finite. As
            after any other exception, the weights are then what they were before.
    """
    assert task.finetune is not None
    before = {k: v.detach().clone() for k, v in module.state_dict().items()}
    frozen = {name: p.requires_grad for name, p in module.named_parameters()}
    try:
        with seeded(settings.get("seed", 0)):
            given = task.finetune(module, data, task=task, **settings)
        module.to("cpu", torch.float32)
        _require_same(module, before, task)
    except BaseException as error:
        module.to("cpu", torch.float32)
        with torch.no_grad():
            for name, tensor in module.state_dict().items():
                if name in before and before[name].shape == tensor.shape:
                    tensor.copy_(before[name])
        if isinstance(error, EdgepruneError) or not isinstance(error, Exception):
            raise
        raise BadInputError(
            f"the trainer of task {task.name!r} failed: {type(error).__name__}: {error}",
            hint="the weights are unchanged; it is called as finetune(module, data, *, epochs, lr, …) (docs/TASKS.md)",
            task=task.name,
        ) from error
    finally:
        for name, p in module.named_parameters():
            p.requires_grad_(frozen.get(name, True))
            p.grad = None
        module.eval()
    score = evaluate(module, data.test, task)
    return {**_history(given, task), "metric": [score.value], "metric_name": score.name}


def _require_same(module: nn.Module, before: Mapping[str, torch.Tensor], task: Task) -> None:
    after = module.state_dict()
    other = sorted(set(before) ^ set(after)) or [k for k in after if after[k].shape != before[k].shape]
    if other:
        raise BadInputError(
            f"the trainer of task {task.name!r} changed the parameters themselves: {', '.join(other[:5])}",
            hint="train the module in place; do not fuse, replace or wrap its layers",
            parameters=other,
        )
    broken = [k for k, v in after.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if broken:
        raise BadInputError(
            f"after the trainer of task {task.name!r}, {broken[0]} is not finite: training diverged",
            hint="lower the learning rate: --lr",
            parameters=broken,
        )


def _history(given: Any, task: Task) -> dict[str, Any]:
    """What a trainer returned, as far as JSON can hold it: lists of numbers by name."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise BadInputError(
            f"the trainer of task {task.name!r} returned a {type(given).__name__}, not a mapping or None"
        )
    rows = ((k, v if isinstance(v, list | tuple) else [v]) for k, v in given.items())
    return {str(k): [float(x) for x in v if isinstance(x, int | float)] for k, v in rows}
