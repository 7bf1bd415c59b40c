"""The objective of a run: what channels and widths are worth, from weights or from calibration samples."""

from __future__ import annotations

from collections.abc import Mapping

from edgeprune.errors import UsageError
from edgeprune.fitting.planner import calibration, running, score
from edgeprune.graph.network import Network
from edgeprune.importance.criterion import Batches, LossFn
from edgeprune.importance.curves import LOSS, OBJECTIVES, Saliency
from edgeprune.importance.measured import SAMPLES, loss_curves, with_own_outputs
from edgeprune.models.inputs import as_inputs
from edgeprune.progress import SILENT, Progress
from edgeprune.training.data import DataSet
from edgeprune.training.tasks.task import Task


def check_objective(name: str, *, has_data: bool) -> None:
    """Raises UsageError for an objective that does not exist, or that needs data where there are none."""
    if name not in OBJECTIVES:
        raise UsageError(
            f"no objective '{name}'", hint="objectives: " + ", ".join(OBJECTIVES), known=sorted(OBJECTIVES)
        )
    if name == LOSS and not has_data:
        raise UsageError(f"objective {LOSS} needs data: it is measured", hint="give --data, or --objective importance")


def saliency_of(
    network: Network,
    levels: Mapping[str, tuple[int, ...]],
    *,
    criterion: str,
    objective: str,
    data: DataSet | None = None,
    task: Task | None = None,
    batch_size: int = 64,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Saliency:
    """Scores by the named criterion, and curves by the named objective.

    Args:
        levels: group -> widths that are offered; where losses are measured.
        task: what the loss is; classification if None.

    Raises:
        UsageError: unknown criterion or objective, or one that needs data and got none.
        BadInputError: scores or losses that are not finite.
    """
    check_objective(objective, has_data=data is not None)
    progress.stage("scoring channels")
    scores = score(network, criterion, data, task, batch_size=batch_size, seed=seed)
    if objective != LOSS or data is None:
        return Saliency.summed(scores)
    # Batch norms take the statistics of a batch, which one sample may not have.
    batches: Batches = [b for b in calibration(data, batch_size, SAMPLES) if len(as_inputs(b.inputs)[0]) > 1]
    loss: LossFn | None = None
    if task is not None and task.loss is None and task.step is None:
        # The distance from the dense network's outputs. It has no gradient there, so scores are taken otherwise.
        distil = task.distil
        batches = with_own_outputs(network.module, batches)
        loss = lambda outputs, dense: distil(outputs, dense, 1.0)  # noqa: E731
    elif task is not None:
        loss = task.loss or (running(task.step) if task.step else None)
    return Saliency(scores, loss_curves(network, scores, levels, batches, loss, progress=progress), LOSS)
