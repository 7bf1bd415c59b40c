"""Recovery: accuracy is won back after channels were removed."""

from __future__ import annotations

from typing import Any

from edgeprune.fitting.planner import calibration
from edgeprune.fitting.workshop import Workshop
from edgeprune.graph.network import Network, read_network
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.widths import load_pruned, save_pruned
from edgeprune.training.finetune import train
from edgeprune.training.foreign import finetuned
from edgeprune.training.recalibrate import recalibrate

History = dict[str, Any]


def recovered(workshop: Workshop, name: str, small: Network, plan: Plan, epochs: int) -> tuple[Network, History]:
    """The network of a plan with its weights trained, and the history of that; a stage of that name.

    Args:
        small: shrunk by ``plan`` from the dense network; trained in place.
    """
    folder = workshop.stages.run / "stages" / name

    def make() -> tuple[Network, History]:
        history = _recover(workshop, small, epochs if plan.keep else 0)
        save_pruned(small.module, plan, folder)
        return small, history

    def load(history: History) -> tuple[Network, History]:
        dense = workshop.network
        module = load_pruned(dense.module, dense.channels, folder)
        return read_network(module, dense.example_inputs, dense.interface), history

    return workshop.stages.once(name, make, save=lambda made: made[1], load=load)


def _recover(workshop: Workshop, network: Network, epochs: int) -> History:
    """Batch-norm statistics measured anew, then fine-tuning with the dense teacher, or by the task's trainer."""
    options, data, task = workshop.options, workshop.data, workshop.task
    if data is None or task is None:
        return {}
    recalibrate(network.module, (batch.inputs for batch in calibration(data, options.batch_size)))
    if epochs == 0:
        return {}
    settings: dict[str, Any] = {
        "epochs": epochs,
        "lr": options.lr,
        "batch_size": options.batch_size,
        "seed": options.seed,
        "teacher": workshop.network.module,
        "distil_weight": options.distil_weight,
        "temperature": options.temperature,
        "progress": workshop.builder.progress,
    }
    if task.finetune is not None:
        return finetuned(network.module, data, task, **settings)
    return train(network.module, data, task=task, **settings).to_json()
