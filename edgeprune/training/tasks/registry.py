"""The one list of ready tasks. A new one is one new file and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from edgeprune.errors import UsageError
from edgeprune.models import entrypoint

if TYPE_CHECKING:
    from edgeprune.training.tasks.task import Task

# Named by text, so that the command line can list the names without loading torch.
TASKS: dict[str, str] = {
    "classification": "edgeprune.training.tasks.classification:classification",
    "segmentation": "edgeprune.training.tasks.segmentation:segmentation",
    "detection": "edgeprune.training.tasks.detection:detection",
    "regression": "edgeprune.training.tasks.regression:regression",
    "language": "edgeprune.training.tasks.language:language",
    "distillation": "edgeprune.training.tasks.distillation:distillation",
}


def load_task(source: str) -> Task:
    """A task by name, ``detection?layout=yolov5&iou=0.6`` with options, or what ``FILE.py:factory`` returns.

    Raises:
        UsageError: an unknown name or option; lists what exists. ModelLoadError: the factory fails or returns none.
    """
    from edgeprune.training.tasks.task import Task

    name, _, query = source.partition("?")
    if name in TASKS:
        module, _, function = TASKS[name].partition(":")
        try:
            options = {k: _value(v) for k, v in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))}
            made = getattr(import_module(module), function)(**options)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"task {name!r} does not take {query!r}: {error}", hint="docs/TASKS.md lists them"
            ) from error
    elif entrypoint.is_entrypoint(source):
        made = entrypoint.call(source)
    else:
        raise UsageError(
            f"no task {source!r}", hint=f"tasks: {', '.join(TASKS)}, or FILE.py:factory of your own", known=list(TASKS)
        )
    if not isinstance(made, Task):
        raise UsageError(
            f"{source} returned a {type(made).__name__}",
            hint="a task factory returns an edgeprune.Task (docs/TASKS.md)",
        )
    return made


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
