"""What a program is worth: its outputs on the device, in the structure that the network gives them, under a metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from edgeprune.deploy.placed import Placed
from edgeprune.deploy.trials import Trials
from edgeprune.errors import BadInputError
from edgeprune.graph.network import Network
from edgeprune.graph.trace import evaluating
from edgeprune.models.inputs import as_inputs
from edgeprune.training.evaluate import score_of
from edgeprune.training.halves import CHUNK, Arrays, Half, batches_of
from edgeprune.training.tasks.task import Score, Task

LAUNCH_BYTES, KEPT_BYTES = 2**26, 2**28
"""Inputs that one launch of the program is given; inputs that stay on the device, for the next network of the run."""


def device_score(trials: Trials, placed: Placed, network: Network, half: Half, task: Task) -> Score:
    """The figure of a task's metric for a program on a device.

    Args:
        network: the one that the program was built from, or another with outputs of the same structure.

    Raises:
        BadInputError: the metric does not take these outputs. VerificationError: the program fails.
    """
    found, each = task.metric.start(), sum(x.numel() * 4 for x in network.example_inputs)
    size = half.size if isinstance(half, Arrays) else max(1, LAUNCH_BYTES // each)
    keep = isinstance(half, Arrays) or half.size * each <= KEPT_BYTES
    outputs_of, image = _Structure(network), network.interface.image
    for batch in batches_of(half, size):
        inputs = as_inputs(batch.inputs)
        raw = []
        for x, port in zip(inputs, placed.manifest.inputs, strict=True):
            values = image.frames(x.numpy())[0] if image is not None and port.image is not None else x.numpy()
            raw.append(port.given(values).tobytes())
        count = len(inputs[0])
        given = trials.run(placed, raw, count) if keep else placed.run(raw, count)
        arrays = [
            torch.from_numpy(port.read(data, count).copy())
            for data, port in zip(given, placed.manifest.outputs, strict=True)
        ]
        found.update(task.read(outputs_of(arrays)), batch.targets)
    return score_of(task, found, half.size)


def frame_distance(network: Network, half: Half) -> float:
    """How far the images of a half lie beside the camera frames that they become, in grey levels, at most.

    Raises:
        BadInputError: they were made from no frames, and nothing says to round them.
    """
    image = network.interface.image
    places = [i for i, port in enumerate(network.kernels.inputs) if port.image is not None]
    if image is None or not places:
        return 0.0
    batches = batches_of(half, CHUNK)
    return max(image.frames(as_inputs(batch.inputs)[places[0]].numpy())[1] for batch in batches)


class _Structure:
    """The structure and the types of a network's outputs: a program gives them one after the other."""

    def __init__(self, network: Network) -> None:
        with evaluating(network.module), torch.no_grad():
            self._leaves, self._tree = tree_flatten(network.module(*network.example_inputs))

    def __call__(self, arrays: Sequence[Tensor]) -> Any:
        places = [i for i, leaf in enumerate(self._leaves) if isinstance(leaf, Tensor)]
        if len(places) != len(arrays):
            raise BadInputError(
                f"the network gives {len(places)} tensors and its program {len(arrays)}",
                hint="let the network return each output once, and no constants",
            )
        leaves = list(self._leaves)
        for place, array in zip(places, arrays, strict=True):
            leaves[place] = array.to(leaves[place].dtype)
        return tree_unflatten(leaves, self._tree)
