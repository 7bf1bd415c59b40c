"""Preflight of training: whether a network and a data set go together, told before minutes are spent on either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgeprune.errors import BadInputError
from edgeprune.graph.trace import evaluating, failing_module
from edgeprune.training.data import DataSet

TOLERANCE = 1e-3
"""How far a sample's outputs may lie from those that it has alone, relative to the largest: sums are ordered otherwise
in a batch."""


def require_data(module: nn.Module, example_inputs: Sequence[Tensor], outputs: int, data: DataSet) -> None:
    """Refuse data that a network cannot be trained on.

    Args:
        outputs: how many classes the network tells apart.

    Raises:
        BadInputError: images of another shape, more classes than outputs, or a network that takes one sample at a time
            or mixes those of a batch.
    """
    shapes = [tuple(x.shape) for x in example_inputs]
    if shapes != [data.input_shape]:
        raise BadInputError(
            f"the model takes {' and '.join(map(str, shapes))}, data set {data.name!r} has {data.input_shape}",
            hint="give --input-shape, or data of that shape",
            model=shapes,
            data=data.input_shape,
        )
    data.require_classes(outputs)
    require_batches(module, data.train[0][:3])


def require_batches(module: nn.Module, samples: Tensor) -> None:
    """Refuse a network that gives a batch of ``samples`` something else than it gives each of them.

    Raises:
        BadInputError: a batch does not run (names module and line), or its outputs differ.
    """
    with evaluating(module), torch.no_grad():
        alone = [_tensors(module(x[None])) for x in samples]
        try:
            together = _tensors(module(samples))
        except Exception as error:
            name, line = failing_module(module, error)
            raise BadInputError(
                f"the network runs on one sample and not on a batch of {len(samples)}: "
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
                f"output {number} of the network depends on what else is in the batch: a batch of {len(samples)} gives "
                f"shape {tuple(found.shape)}, the samples one by one {tuple(expected.shape)}, or other values",
                hint="a size of 1 may be written in its forward: take x.shape[0], and let -1 stand for no batch",
                output=number,
            )


def _tensors(result: Any) -> list[Tensor]:
    return [t for t in tree_leaves(result) if isinstance(t, Tensor)]
