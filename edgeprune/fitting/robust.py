"""What a fit did to robustness and generalisation: the dense and the installed network, on the same noisy samples."""

from __future__ import annotations

from pathlib import Path

from edgeprune.deploy.placed import Placed
from edgeprune.errors import BadInputError
from edgeprune.fitting.judging import device_score
from edgeprune.fitting.workshop import Workshop
from edgeprune.graph.network import Network
from edgeprune.training.data import DataSet
from edgeprune.training.evaluate import evaluate
from edgeprune.training.robustness import STRENGTHS, Robustness, robustness
from edgeprune.training.tasks.task import Task

FEWEST, MOST = 64, 512
"""Samples of each half, whatever the network costs."""
MACS = 4e11
"""Multiply-adds that all passes of both networks may take, down to :data:`FEWEST` samples: ten seconds of a core."""
DEVICE_MS, DEVICE_BYTES = 1e4, 2**25
"""A device is asked where all passes take no longer by the dense network's latency, and all inputs are no larger."""
PASSES = 2 + len(STRENGTHS)
_SLOW = ("serial", "emulated")
"""Devices that take long over what is not counted here: the line, the emulation."""


def robustness_of(
    workshop: Workshop, dense: Path, latency_ms: float, installed: Placed, pruned: Network, *, labelled: bool
) -> dict[str, Robustness]:
    """Both networks by name, ``dense`` and ``pruned``; empty without data, and where a metric has no figure there.

    Args:
        dense: the bundle of the dense network; ``latency_ms``: what an inference takes it on the device.
        labelled: whether the targets of the training half are the data's own.
    """
    if workshop.data is None or workshop.task is None:
        return {}
    data, task = workshop.data, workshop.task

    def make() -> dict[str, Robustness]:
        workshop.builder.progress.stage("trying noise")
        try:
            return _both(workshop, data, task, dense, latency_ms, installed, pruned, labelled)
        except BadInputError as e:  # of a figure beside the point no fit fails
            workshop.builder.progress.note(f"nothing is told of robustness: {e.message}")
            return {}

    return workshop.stages.once("robustness", make, dict[str, Robustness])


def _both(
    workshop: Workshop,
    data: DataSet,
    task: Task,
    dense: Path,
    latency_ms: float,
    installed: Placed,
    pruned: Network,
    labelled: bool,
) -> dict[str, Robustness]:
    network = workshop.network
    count, where = samples(network), {"dense": network, "pruned": pruned}
    on_device = asked_device(network, installed, latency_ms, count)
    placed = {"dense": workshop.trials.keep(dense), "pruned": installed} if on_device else {}
    frames = {i: port.image for i, port in enumerate(network.kernels.inputs) if port.image is not None}
    return {
        name: robustness(
            lambda half, name=name, of=of: (  # type: ignore[misc]
                device_score(workshop.trials, placed[name], of, half, task)
                if on_device
                else evaluate(of.module, half, task)
            ),
            data,
            samples=count,
            seed=workshop.options.seed,
            on_device=on_device,
            labelled=labelled,
            frames=frames,
        )
        for name, of in where.items()
    }


def samples(network: Network) -> int:
    """Samples of each half, by what an inference of the dense network computes."""
    macs = sum(n.spec.macs for n in network.kernels.nodes)
    return int(min(MOST, max(FEWEST, MACS / (2 * PASSES * max(1, macs)))))


def asked_device(network: Network, placed: Placed, latency_ms: float, count: int) -> bool:
    """Whether all passes of ``count`` samples are cheap enough for the device."""
    each = sum(x.numel() * x.element_size() for x in network.example_inputs)
    slow = placed.device.url.partition(":")[0] in _SLOW
    return not slow and 2 * PASSES * count * latency_ms <= DEVICE_MS and PASSES * count * each <= DEVICE_BYTES
