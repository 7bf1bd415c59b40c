"""Preflight of training: whether a network and a data set go together, told before minutes are spent on either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgeprune.errors import BadInputError, EdgepruneError
from edgeprune.graph.trace import evaluating, failing_module
from edgeprune.models.inputs import Inputs, as_inputs, call, training_outputs
from edgeprune.training.data import DataSet
from edgeprune.training.halves import Arrays, Batch, Over, shapes_of, spread
from edgeprune.training.tasks.classification import learns_labels
from edgeprune.training.tasks.task import Task

TOLERANCE = 1e-3
"""How far a sample's outputs may lie from those that it has alone, relative to the largest: sums are ordered otherwise
in a batch."""
FEW = 3


def require_data(
    module: nn.Module, example_inputs: Sequence[Tensor], outputs: int, data: DataSet, task: Task | None = None
) -> None:
    """Refuse data that a network cannot be trained on.

    Args:
        outputs: how many classes the network tells apart.
        task: classification if None.

    Raises:
        BadInputError: images of another shape, more classes than outputs, targets that the task cannot use, or a
            network that takes one sample at a time or mixes those of a batch.
    """
    require_shapes(example_inputs, data)
    if task is None or learns_labels(task):
        data.require_classes(outputs)
    samples = data.train.take(spread(data.train, FEW))
    require_batches(module, samples.inputs)
    if task is not None:
        _require_task(module, task, samples, data.test.take(spread(data.test, FEW)))


def require_shapes(example_inputs: Sequence[Tensor], data: DataSet) -> None:
    """Refuse data whose samples have other shapes than the network takes; raises BadInputError."""
    shapes, given = [tuple(x.shape) for x in example_inputs], shapes_of(data.train)
    if shapes != given:
        found = given[0] if len(given) == 1 else given
        raise BadInputError(
            f"the model takes {' and '.join(map(str, shapes))}, data set {data.name!r} has {found}",
            hint="give --input-shape, or data of that shape",
            model=shapes,
            data=found,
        )


def _require_task(module: nn.Module, task: Task, train: Batch, test: Batch) -> None:
    """Try the loss and the metric of a task on a few samples; an exception of foreign code names the task."""
    try:
        with evaluating(module), torch.no_grad():
            if task.scoring_step is None:
                task.scoring(call(module, train.inputs), train.targets)
            metric = task.metric.start()
            metric.update(task.read(call(module, test.inputs)), test.targets)
        if task.step is not None:
            with training_outputs(module), torch.random.fork_rng(devices=[]):
                task.step(module, train)
    except EdgepruneError as error:
        error.message = f"task {task.name!r} and the data do not go together: {error.message}"
        error.args = (error.message,)
        raise
    except Exception as error:
        raise BadInputError(
            f"task {task.name!r} fails on {len(tree_leaves(train.inputs)[0])} samples: {type(error).__name__}: {error}",
            hint="loss and metric get the network's outputs and the targets of a batch (docs/TASKS.md)",
            task=task.name,
        ) from error


def require_batches(module: nn.Module, samples: Inputs) -> None:
    """Refuse a network that gives a batch of ``samples`` something else than it gives each of them.

    Raises:
        BadInputError: a batch does not run (names module and line), or its outputs differ.
    """
    inputs = as_inputs(samples)
    count = len(inputs[0])
    with evaluating(module), torch.no_grad():
        alone = [_tensors(module(*(x[i : i + 1] for x in inputs))) for i in range(count)]
        try:
            together = _tensors(module(*inputs))
        except Exception as error:
            name, line = failing_module(module, error)
            raise BadInputError(
                f"the network runs on one sample and not on a batch of {count}: "
                f"{(str(error).splitlines() or [''])[0]} (module '{name}', {line})",
                hint="its size is written there: take x.shape[0], or -1, in place of 1",
                module=name,
                source=line,
            ) from error
    for number, outputs in enumerate(zip(*alone, strict=True)):
        expected, found = torch.cat(outputs), together[number]
        scale = float(expected.abs().max()) if expected.numel() else 0.0
        if found.shape != expected.shape or not torch.allclose(found, expected, rtol=0, atol=TOLERANCE * scale):
            raise BadInputError(
                f"output {number} of the network depends on what else is in the batch: a batch of {count} gives "
                f"shape {tuple(found.shape)}, the samples one by one {tuple(expected.shape)}, or other values",
                hint="a size of 1 may be written in its forward: take x.shape[0], and let -1 stand for no batch",
                output=number,
            )


def _tensors(result: Any) -> list[Tensor]:
    return [t for t in tree_leaves(result) if isinstance(t, Tensor)]


def in_order(data: DataSet, example_inputs: Sequence[Tensor], names: Sequence[str]) -> DataSet:
    """``data`` with inputs as the network takes them: in its order where they have names, and of its types.

    Raises:
        BadInputError: an input of the network is not among them.
    """
    if isinstance(data.train, Arrays) and isinstance(data.test, Arrays):
        return data
    kinds = [x.dtype for x in example_inputs]
    return replace(data, train=_Ordered(data.train, names, kinds), test=_Ordered(data.test, names, kinds))


@dataclass(frozen=True, slots=True)
class _Ordered(Over):
    names: Sequence[str]
    kinds: Sequence[torch.dtype]

    def take(self, chosen: Tensor) -> Batch:
        inputs, targets = self.half.take(chosen)
        if isinstance(inputs, Mapping):
            if missing := [n for n in self.names if n not in inputs]:
                raise BadInputError(
                    f"the network takes {', '.join(self.names)}, and the data have {', '.join(map(str, inputs))}",
                    hint="name the inputs as the network does",
                    missing=missing,
                )
            inputs = tuple(inputs[n] for n in self.names)
        given = as_inputs(inputs)
        if len(given) == len(self.kinds):
            given = tuple(t.to(kind) for t, kind in zip(given, self.kinds, strict=True))
        return Batch(given[0] if len(given) == 1 else given, targets)
