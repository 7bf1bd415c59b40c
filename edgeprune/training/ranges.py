"""Ranges of a network's inputs over a half of a data set."""

from __future__ import annotations

import math

import torch

from edgeprune.graph.network import Network
from edgeprune.models.inputs import as_inputs
from edgeprune.models.ranges import InputRange
from edgeprune.training.halves import CHUNK, Arrays, Half, Stacked, Targeted

SAMPLES = 1024
"""Samples that are looked at where a half is read sample by sample, evenly spread over it. A further sample of the same
kind lies beyond the extremes of these with a chance of at most 2 / 1025."""


def input_ranges(network: Network, half: Half) -> tuple[InputRange | None, ...]:
    """The range of each input of a network, in order; None where a range says nothing.

    That is so for a camera frame, all of whose grey levels a camera gives; for truth values; and for an input that
    holds NaN or infinity in the data already.

    Args:
        half: the training half, with inputs in the order of the network. Of one in memory every sample counts, of
            another :data:`SAMPLES`. The global generator of torch is left as it was.

    Raises:
        BadInputError: a sample cannot be read.
    """
    while isinstance(half, Targeted):  # inputs need no targets, which may cost an inference each
        half = half.half
    count = half.size if isinstance(half, Arrays | Stacked) else min(half.size, SAMPLES)
    numbers = torch.linspace(0, half.size - 1, count, dtype=torch.float64).round().long()
    ports = network.kernels.inputs
    if all(port.image is not None for port in ports):
        return (None,) * len(ports)
    lows, highs = [math.inf] * len(ports), [-math.inf] * len(ports)
    with torch.random.fork_rng(devices=[]):
        for chosen in torch.split(numbers, CHUNK):
            for i, x in enumerate(as_inputs(half.take(chosen).inputs)):
                low, high = (float(v) for v in torch.aminmax(x))
                # NaN has to stay: it is smaller and larger than nothing.
                lows[i], highs[i] = (low, high) if math.isnan(low) else (min(lows[i], low), max(highs[i], high))
    return tuple(
        None
        if port.image is not None or port.dtype == "bool" or not math.isfinite(low) or not math.isfinite(high)
        else InputRange(low, high, count)
        for port, low, high in zip(ports, lows, highs, strict=True)
    )
