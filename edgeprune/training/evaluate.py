"""Figures of merit, of a module and of outputs that came back from a board."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map

from edgeprune.errors import BadInputError
from edgeprune.models.inputs import Inputs, as_inputs
from edgeprune.training.halves import Half, batches_of
from edgeprune.training.tasks.classification import RightLabels
from edgeprune.training.tasks.task import Accumulator, Score, Task


def predict(module: nn.Module, x: Inputs, *, batch_size: int = 64) -> Any:
    """Outputs of every example, computed in ``eval`` mode and batch by batch; modes are left as they were.

    The weights are used channels last, in which torch convolves twice as fast on a CPU; the module keeps its own.

    Args:
        x: a tensor whose first dimension counts examples, or a tuple of such.

    Returns:
        What the module yields, logits as a rule; tensors of any structure with one entry an example.
    """
    pieces = zip(*(torch.split(t, batch_size) for t in as_inputs(x)), strict=True)
    parts = list(predictions(module, pieces))
    return tree_map(lambda *p: torch.cat(p) if isinstance(p[0], Tensor) else p[0], parts[0], *parts[1:])


def predictions(module: nn.Module, batches: Iterable[tuple[Tensor, ...]]) -> Iterator[Any]:
    """Outputs of batches of inputs, one after the other, computed as by :func:`predict`."""
    weights = {k: v.contiguous(memory_format=torch.channels_last) if v.dim() == 4 else v for k, v in _tensors(module)}
    for batch in batches:
        modes = {m: m.training for m in module.modules()}
        module.eval()
        try:
            with torch.no_grad():
                outputs = functional_call(module, weights, batch)
        finally:
            for m, mode in modes.items():
                m.training = mode
        yield outputs


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def evaluate(module: nn.Module, half: Half, task: Task) -> Score:
    """The figure of a task's metric for the outputs of a module in torch."""
    found, targets = task.metric.start(), []

    def inputs() -> Iterator[tuple[Tensor, ...]]:
        for batch in batches_of(half):
            targets.append(batch.targets)
            yield as_inputs(batch.inputs)

    for outputs in predictions(module, inputs()):
        found.update(task.read(outputs), targets.pop())
    return score_of(task, found, half.size)


def score_of(task: Task, found: Accumulator, samples: int) -> Score:
    """The figure of a metric that saw all batches; raises BadInputError if it is no number."""
    metric, computed = task.metric, found.compute()
    values = dict(computed) if isinstance(computed, Mapping) else {metric.name: computed}
    name, value = next(iter(values.items()))
    if not all(map(math.isfinite, values.values())):
        raise BadInputError(
            f"the {metric.name} of task {task.name!r} is {value} on {samples} test samples",
            hint="look for test data without labels, and for outputs that are not finite",
        )
    others = {k: float(v) for k, v in values.items() if k != name}
    return Score(metric.name, float(value), metric.unit, metric.higher_is_better, samples, others)


def accuracy(module: nn.Module, x: Tensor, y: Tensor, *, batch_size: int = 64) -> float:
    """Share of right labels, 0 to 1 (of pixels, for segmentation)."""
    return accuracy_from_logits(predict(module, x, batch_size=batch_size).cpu().numpy(), y)


def accuracy_from_logits(logits: npt.NDArray[np.floating], y: Tensor | npt.NDArray[np.integer]) -> float:
    """Share of examples whose largest logit is their label, 0 to 1.

    Args:
        logits: (N, K) or (N, K, H, W).
        y: (N,) or (N, H, W).

    Raises:
        BadInputError: shapes that do not belong together, or logits that are not finite.
    """
    found = RightLabels()
    found.update(torch.from_numpy(np.ascontiguousarray(logits)), y)
    return found.compute()
