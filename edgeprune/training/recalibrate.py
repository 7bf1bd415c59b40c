"""Batch-norm recalibration: a pruned network's activations have other statistics than the original's.

Source of the habit: EagleEye (Li et al. 2020, arXiv:2007.02491), "adaptive batch normalization".
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from edgeprune.errors import BadInputError
from edgeprune.models.batchnorm import measure_statistics, norms
from edgeprune.models.inputs import Inputs


def recalibrate(module: nn.Module, batches: Iterable[Inputs]) -> int:
    """Measure every batch norm's mean and variance anew over ``batches`` (a few hundred examples are enough).

    No labels and no gradients are needed; weights do not change. Returns the number of batch norms (0: nothing
    was done).

    Raises:
        BadInputError: no batch, or statistics that are not finite; the old ones are put back.
    """
    layers = norms(module)
    if not layers:
        return 0
    before = [{k: v.clone() for k, v in layer.named_buffers()} for layer in layers]
    try:
        if measure_statistics(module, batches) == 0:
            raise BadInputError("recalibration was given no batches", hint="give it some training images")
        for name, layer in module.named_modules():
            if layer in layers and not all(torch.isfinite(b).all() for b in layer.buffers()):
                raise BadInputError(
                    f"batch norm {name!r} has statistics that are not finite",
                    hint="the weights before it or the images hold NaN or infinity",
                    node=name,
                )
    except BaseException:
        for layer, buffers in zip(layers, before, strict=True):
            for key, value in buffers.items():
                layer.get_buffer(key).copy_(value)
        raise
    return len(layers)
