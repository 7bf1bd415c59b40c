"""Recovery: accuracy is won back after channels were removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgeprune.errors import UsageError
from edgeprune.fitting.densities import planned_blocks, ranking_of
from edgeprune.fitting.planner import calibration
from edgeprune.fitting.recoveries import recoveries_of
from edgeprune.fitting.sparse import sparsities
from edgeprune.fitting.workshop import Workshop
from edgeprune.graph.network import Network, read_network
from edgeprune.progress import SILENT, Progress
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.slices import survivors
from edgeprune.pruning.widths import load_pruned, save_pruned
from edgeprune.training.checkpoint import Checkpoint
from edgeprune.training.data import DataSet
from edgeprune.training.finetune import train
from edgeprune.training.foreign import GIVEN, finetuned
from edgeprune.training.recalibrate import recalibrate
from edgeprune.training.reconstruct import SAMPLES, reconstruct
from edgeprune.training.sparse.sparsity import Sparsity, zeros_in
from edgeprune.training.tasks.task import Task

History = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a recovery works on.

    Attributes:
        small: the pruned network, whose weights change in place.
        origin: the network that it was shrunk from, by the plan ``lost``.
        training: arguments of fine-tuning (:func:`edgeprune.training.finetune.train`); no ``epochs``, no training.
        sparsity: of weights; without a training they are made 0 at once, before all other steps.
    """

    small: Network
    origin: Network
    lost: Plan
    data: DataSet
    task: Task
    batch_size: int = 64
    training: Mapping[str, Any] = field(default_factory=dict)
    sparsity: tuple[Sparsity, ...] = ()
    progress: Progress = SILENT


class Recovery(Protocol):
    """One step. ``recover`` returns what is worth telling, by the name of the step."""

    def recover(self, lesson: Lesson) -> History: ...


class Reconstruct:
    """Least squares, layer after layer (:mod:`edgeprune.training.reconstruct`).

    Args:
        samples: of the training half that layers are solved on.
    """

    def __init__(self, samples: int = SAMPLES) -> None:
        if samples < 1:
            raise UsageError(f"layers cannot be re-solved on {samples} samples")
        self.samples = samples

    def recover(self, lesson: Lesson) -> History:
        origin = lesson.origin
        alive = survivors(origin.module, origin.channels, lesson.lost)
        kept = {
            name.removesuffix(".weight"): dims[0].nonzero().flatten()
            for name, dims in alive.items()
            if name.endswith(".weight") and 0 in dims
        }
        # Eight batches, so that some can be held out.
        size = max(1, min(lesson.batch_size, min(self.samples, lesson.data.train.size) // 8))
        batches = [batch.inputs for batch in calibration(lesson.data, size, self.samples)]
        found = reconstruct(lesson.small.module, origin.module, kept, batches, progress=lesson.progress)
        return {"reconstructed": [layer.to_json() for layer in found]}


class Recalibrate:
    """Statistics of batch norms, measured anew (:mod:`edgeprune.training.recalibrate`)."""

    def recover(self, lesson: Lesson) -> History:
        recalibrate(lesson.small.module, (b.inputs for b in calibration(lesson.data, lesson.batch_size)))
        return {}


class Finetune:
    """Training with a teacher, or by the task's own trainer (:mod:`edgeprune.training.finetune`).

    Args:
        twin: whether the dense network learns beside the pruned one, and teaches it as it is by then.
    """

    def __init__(self, twin: bool = False) -> None:
        self.twin = twin

    def recover(self, lesson: Lesson) -> History:
        if not lesson.training.get("epochs"):
            return {}
        module, task = lesson.small.module, lesson.task
        settings = {**lesson.training, "batch_size": lesson.batch_size, "progress": lesson.progress}
        if self.twin and (task.finetune is not None or not settings.get("teacher")):
            raise UsageError(f"task '{task.name}' is not taught by a twin", hint="leave twin=yes away")
        if task.finetune is not None:
            return finetuned(module, lesson.data, task, **{k: v for k, v in settings.items() if k in GIVEN})
        return train(module, lesson.data, task=task, companions=lesson.sparsity, twin=self.twin, **settings).to_json()


def recover(lesson: Lesson, chain: str) -> History:
    """Take the steps of a chain, one after the other; returns what they tell. What lost nothing stays as it is."""
    history: History = {}
    steps: Mapping[str, Recovery] = recoveries_of(chain)
    trained = "finetune" in steps and bool(lesson.training.get("epochs"))
    if not trained:
        for each in lesson.sparsity:
            each.at_once(lesson.small.module)
    for name, step in steps.items():
        if lesson.lost.changes or (lesson.sparsity and (name == "finetune" or not trained)):
            history |= step.recover(lesson)
    return history | _zeros(lesson.small, lesson.sparsity)


def made_sparse(network: Network, sparsity: tuple[Sparsity, ...]) -> History:
    """Make weights 0 at once; returns how many are, where any should be."""
    for each in sparsity:
        each.at_once(network.module)
    return _zeros(network, sparsity)


def _zeros(network: Network, sparsity: tuple[Sparsity, ...]) -> History:
    """How many weights are 0, where any should be."""
    if not sparsity:
        return {}
    zeros, weights = zeros_in(network.module)
    return {"sparsity": {"zeros": zeros, "weights": weights}}


def recovered(
    workshop: Workshop,
    name: str,
    small: Network,
    plan: Plan,
    epochs: int,
    *,
    origin: Network | None = None,
    lost: Plan | None = None,
) -> tuple[Network, History]:
    """The network of a plan, recovered, and the history of that; a stage of that name.

    Args:
        small: shrunk by ``plan`` from the dense network; its weights change in place.
        origin: where it was shrunk from another one, that, and the plan by which.
    """
    folder = workshop.stages.run / "stages" / name

    def make() -> tuple[Network, History]:
        options = workshop.options
        ranking = ranking_of(options.criterion, small, workshop.data, workshop.task, options.batch_size)
        blocks = planned_blocks(plan, ranking)
        history = rebuilt(workshop, name, small, origin or workshop.network, lost or plan, epochs, sparsity=blocks)
        save_pruned(small.module, plan, folder)
        return small, history

    def load(history: History) -> tuple[Network, History]:
        dense = workshop.network
        module = load_pruned(dense.module, dense.channels, folder)
        return read_network(module, dense.example_inputs, dense.interface), history

    return workshop.stages.once(name, make, save=lambda made: made[1], load=load)


def rebuilt(
    workshop: Workshop,
    stage: str,
    small: Network,
    origin: Network,
    lost: Plan,
    epochs: int,
    *,
    sparsity: tuple[Sparsity, ...] | None = (),
) -> History:
    """Recover a network that was shrunk from ``origin`` by the plan ``lost``, in place; returns what that told.

    Args:
        stage: that this is done in: its training goes on from where it was killed.
        sparsity: what makes its weights sparse beside what the run asks for; None: nothing at all does.
    """
    options, data, task = workshop.options, workshop.data, workshop.task
    asked = sparsities(options.sparsity, "weights", small, data, task, options.batch_size)
    found = () if sparsity is None else (*asked, *sparsity)
    if data is None or task is None:
        return made_sparse(small, found)
    training, progress = training_of(workshop, stage, epochs, lost), workshop.builder.progress
    lesson = Lesson(small, origin, lost, data, task, options.batch_size, training, found, progress)
    return recover(lesson, options.recover)


def training_of(workshop: Workshop, stage: str, epochs: int, lost: Plan | None = None) -> dict[str, Any]:
    """Arguments of a training of the run, with its dense network as teacher.

    Args:
        stage: that trains.
        lost: the plan that the network was shrunk by. With it the training is the same one, though layers that were
            re-solved on several threads differ in their last bits.
    """
    options = workshop.options
    kept = sorted((group, list(indices)) for group, indices in (lost.keep if lost else {}).items())
    return {
        "epochs": epochs,
        "lr": options.lr,
        "seed": options.seed,
        "teacher": workshop.network.module,
        "distil_weight": options.distil_weight,
        "temperature": options.temperature,
        "early_stop": options.early_stop,
        "validation": options.validation,
        "precision": options.precision,
        "checkpoint": Checkpoint(workshop.stages.under_way(stage), f"{stage} {kept}"),
    }
