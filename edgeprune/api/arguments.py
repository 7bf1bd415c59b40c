"""Arguments of the Python API: a model, a data set, a board, named by a string or handed over as an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from edgeprune.api.opened import Where
from edgeprune.api.shown import Network
from edgeprune.budget.promise import Promise
from edgeprune.errors import ModelLoadError, UsageError
from edgeprune.fitting.run_folder import RunRecord
from edgeprune.models.image_input import ImageInput
from edgeprune.models.loading import LoadedModel, parse_shape, wrap_module
from edgeprune.targets import Target, load_target
from edgeprune.training.data import KEYS, DataSet, data_of, load_data
from edgeprune.training.sources.folder import is_folder
from edgeprune.training.tasks.classification import learns_labels
from edgeprune.training.tasks.registry import TASKS, load_task
from edgeprune.training.tasks.task import Task

Model = str | nn.Module | LoadedModel | Network
"""``zoo:NAME``, a file or a factory as on the command line; a torch module; what ``load_model`` or a call returned."""
Inputs = Tensor | Sequence[Tensor] | Sequence[int] | None
Data = str | Path | Mapping[str, Any] | Sequence[Any] | DataLoader[Any] | Dataset[Any] | DataSet | None
TaskArgument = str | Task | None
Shape = str | Sequence[int] | Mapping[str, Sequence[int]] | None
Densities = str | Sequence[int] | None
"""``25,50`` or (25, 50): what may stay of the blocks of a layer's weights, in per cent."""
Frames = str | ImageInput | None
"""``rgb``, ``bgr:imagenet``, or what else :meth:`ImageInput.parse` reads."""


def open_model(
    model: Model,
    example_inputs: Inputs = None,
    weights: Where = None,
    input_shape: Shape = None,
    example: Where = None,
    seed: int = 0,
) -> tuple[LoadedModel, RunRecord | None]:
    """The network that was named or handed over; and how it was named, which is None for an object.

    Raises:
        UsageError: arguments that do not go together; ModelLoadError: what cannot be loaded.
    """
    shape, file = parse_shape(input_shape), None if weights is None else str(weights)
    if isinstance(model, nn.Module):
        if isinstance(shape, Mapping) or example is not None:
            raise UsageError("inputs of a torch module have no names here", hint="give example_inputs=(tensor, …)")
        return wrap_module(model, shape if example_inputs is None else example_inputs, weights=file, seed=seed), None
    if example_inputs is not None:
        raise UsageError("example_inputs go with a torch module", hint="give input_shape=(1, 3, 224, 224)")
    if isinstance(model, str):
        record = RunRecord.of(model, file, shape, None if example is None else str(example), seed)
        return record.load(), record
    if any(given is not None for given in (weights, shape, example)):
        raise UsageError("weights, input_shape and example go with a model that is loaded here", hint="leave them away")
    loaded = model.loaded if isinstance(model, Network) else model
    if not isinstance(loaded, LoadedModel):
        raise ModelLoadError(
            f"a {type(model).__name__} is no model", hint="give a string such as zoo:resnet18, or a torch.nn.Module"
        )
    return loaded, None


def promised(
    latency: str | float | None,
    flash: str | float | None,
    statistic: str,
    ram: str | float | None,
    rule: str | None = None,
) -> Promise:
    """The limits of a call. A rule needs none: its network may take what the dense one takes.

    Raises:
        UsageError: no limit and no rule, or a limit that is none.
    """
    if ruled_alone(rule, latency, flash, ram):
        latency = "100%"
    return Promise.parse(latency, flash, statistic, ram)


def ruled_alone(rule: str | None, *limits: str | float | None) -> bool:
    """Whether a rule is all that a call asks for. The limit that it then gets is none to keep anything free for."""
    return bool(rule) and all(limit is None for limit in limits)


def open_task(task: TaskArgument) -> Task | None:
    """The task that was named or handed over.

    Raises:
        UsageError, ModelLoadError: there is none of that name, or its factory fails.
    """
    if task is None or isinstance(task, Task):
        return task
    if not isinstance(task, str):
        raise UsageError(f"a {type(task).__name__} is no task", hint=f"give {', '.join(TASKS)}, or an edgeprune.Task")
    return load_task(task)


def open_data(
    data: Data,
    seed: int = 0,
    *,
    task: Task | None = None,
    inputs: Sequence[Tensor] = (),
    pixels: str | None = None,
) -> DataSet | None:
    """The data set that was named or handed over.

    Args:
        data: a source as on the command line; a mapping of arrays; ``(x_train, y_train, x_test, y_test)``; a torch
            DataLoader or Dataset, or a pair of them, to train and to test on.
        task: what it is for, if that was said: with one that learns other things than labels, targets may be anything.
        inputs: example inputs of the network, in whose size images of a folder are read.
        pixels: how they are read.

    Raises:
        ModelLoadError: it is none of these, or its arrays do not go together. UsageError: ``pixels`` without a folder.
    """
    free = task is not None and not learns_labels(task)
    if pixels is not None and not (isinstance(data, str | Path) and is_folder(str(data))):
        raise UsageError(
            "pixels say how images of a folder are read", hint="give --data FOLDER, or leave --pixels away"
        )
    if data is None or isinstance(data, DataSet):
        return data
    if isinstance(data, str | Path):
        shape = tuple(inputs[0].shape) if len(inputs) == 1 else None
        return load_data(str(data), seed, input_shape=shape, pixels=pixels, free=free)
    known = isinstance(data, Mapping | DataLoader | Dataset)
    if known or (isinstance(data, tuple | list) and len(data) in (2, len(KEYS))):
        return data_of(data, "data", seed, free=free)
    raise ModelLoadError(
        f"a {type(data).__name__} is no data set",
        hint=f"give a mapping or a tuple of {', '.join(KEYS)}, or a pair of torch DataLoaders (train, test)",
    )


def open_target(target: str | Target) -> Target:
    """The target, which something can be built for.

    Raises:
        TargetError: no such target, or one that nothing is built for yet.
    """
    loaded = load_target(target) if isinstance(target, str) else target
    loaded.require_buildable()
    return loaded
