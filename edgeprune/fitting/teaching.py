"""Data and task of a run, put in the order that the network needs, and tried before anything is measured."""

from __future__ import annotations

from edgeprune.graph.network import Network
from edgeprune.progress import SILENT, Progress
from edgeprune.training.data import DataSet
from edgeprune.training.preflight import in_order, require_data, require_shapes
from edgeprune.training.tasks.choose import chosen_task
from edgeprune.training.tasks.classification import learns_labels
from edgeprune.training.tasks.task import Task
from edgeprune.training.teach import labelled_by_teacher, with_targets


def prepared(
    network: Network, data: DataSet, task: Task | None, progress: Progress = SILENT
) -> tuple[DataSet, Task, bool]:
    """The data as the network and its task take them, the task, and whether the dense network is the only teacher.

    Args:
        task: None: by the data's targets (:func:`~edgeprune.training.tasks.choose.chosen_task`).

    Raises:
        BadInputError: network, data and task do not go together.
    """
    module, outputs = network.module, network.kernels.outputs[0].shape
    data = in_order(data, network.example_inputs, [p.name for p in network.kernels.inputs])
    if data.images:
        progress.note(f"images of {data.name}: {data.images}")
    require_shapes(network.example_inputs, data)
    if task is None:
        task, remark = chosen_task(module, data)
        if remark:
            progress.note(remark)
    data = with_targets(module, data, task)
    require_data(module, network.example_inputs, outputs[1] if len(outputs) > 1 else 1, data, task)
    if learns_labels(task) and not data.labelled:
        return labelled_by_teacher(module, data), task, True
    return data, task, False
