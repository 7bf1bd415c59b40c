"""Which task a run has where none is named: labels that fit the outputs are learned, else the dense network teaches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgeprune.graph.trace import evaluating
from edgeprune.models.inputs import call
from edgeprune.training.data import DataSet
from edgeprune.training.tasks.classification import classification
from edgeprune.training.tasks.distillation import distillation
from edgeprune.training.tasks.task import Task


def chosen_task(module: nn.Module, data: DataSet) -> tuple[Task, str]:
    """The task of a network and a data set: classification for integer labels and one output of logits, else
    distillation; and a remark on labels that are not used, or an empty string.
    """
    if data.kind == "none":
        return distillation(), "no labels: the pruned network is trained and judged by the dense network's outputs"
    if data.kind == "labels":
        batch = data.train.take(torch.zeros(1, dtype=torch.long))
        if fits(_outputs(module, batch.inputs), batch.targets):
            return classification(), ""
    what = "boxes: --task detection uses them" if data.kind == "boxes" else "targets: give --task for what they are"
    return distillation(), f"the dense network's outputs are the teacher, and the data's labels are not used ({what})"


def fits(outputs: Any, labels: Any) -> bool:
    """Whether outputs are one tensor of logits, real numbers (N, K, …) for labels (N, …)."""
    found = [t for t in tree_leaves(outputs) if isinstance(t, Tensor)]
    if len(found) != 1 or not isinstance(labels, Tensor) or not found[0].is_floating_point():
        return False
    return found[0].dim() == labels.dim() + 1


def _outputs(module: nn.Module, inputs: Any) -> Any:
    with evaluating(module), torch.no_grad():
        return call(module, inputs)
