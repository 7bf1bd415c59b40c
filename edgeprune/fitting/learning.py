"""Channels that are learned to be worth nothing: a training of the dense network before its channels are scored."""

from __future__ import annotations

import copy
from typing import Any

from edgeprune.fitting.recover import History, training_of
from edgeprune.fitting.sparse import sparsities
from edgeprune.fitting.workshop import Workshop
from edgeprune.graph.network import Network, read_network
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.widths import load_pruned, save_pruned
from edgeprune.training.finetune import train


def learned(workshop: Workshop) -> tuple[Network, History]:
    """The network that channels are scored and taken from, and the history of its training; the dense one where no
    sparsity of channels was asked for. A stage.

    It has the dense network's shapes; channels that the training shut are zero in it.
    """
    network, options, data, task = workshop.network, workshop.options, workshop.data, workshop.task
    found = sparsities(options.sparsity, "channels", network, data, task, options.batch_size)
    if not found or data is None or task is None:
        return network, {}
    folder = workshop.stages.run / "stages" / "learned"
    progress = workshop.builder.progress

    def read(module: Any) -> Network:
        return read_network(module, network.example_inputs, network.interface)

    def make() -> tuple[Network, History]:
        progress.stage(f"learning which channels go: {options.sparsity}")
        module = copy.deepcopy(network.module)
        settings = training_of(workshop, "learned", options.epochs)
        history = train(
            module, data, task=task, companions=found, batch_size=options.batch_size, progress=progress, **settings
        )
        save_pruned(module, make_plan(network.channels, {}, {}), folder)
        return read(module), history.to_json()

    def load(history: History) -> tuple[Network, History]:
        return read(load_pruned(network.module, network.channels, folder)), history

    return workshop.stages.once("learned", make, save=lambda made: made[1], load=load)
