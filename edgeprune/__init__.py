"""edgeprune: prune a trained network to a millisecond budget on a real board.

The public names below are imported when they are first used, so that ``import edgeprune`` (and
with it the start of every command) costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgeprune import errors

if TYPE_CHECKING:
    from edgeprune.api.boards import bench, flash, rollback, run
    from edgeprune.api.explaining import Explained, explain
    from edgeprune.api.fitted import Fit
    from edgeprune.api.frontiers import Frontier, frontier
    from edgeprune.api.methods import list_methods
    from edgeprune.api.profiles import Profile, profile
    from edgeprune.api.programs import Bundle, Exported, compile, export
    from edgeprune.api.pruning import Pruned, prune
    from edgeprune.api.runs import Run, fit, load_run
    from edgeprune.api.stored import StoredProfile, load_profile
    from edgeprune.compiler.library import load_bundle
    from edgeprune.devices.registry import open_device
    from edgeprune.models.loading import load_model
    from edgeprune.targets import load_target
    from edgeprune.training.data import DataSet, load_data
    from edgeprune.training.tasks.task import Task

__version__ = "0.1.0"

_HOMES = {
    "Bundle": "edgeprune.api.programs",
    "DataSet": "edgeprune.training.data",
    "Explained": "edgeprune.api.explaining",
    "Exported": "edgeprune.api.programs",
    "Fit": "edgeprune.api.fitted",
    "Frontier": "edgeprune.api.frontiers",
    "Profile": "edgeprune.api.profiles",
    "Pruned": "edgeprune.api.pruning",
    "Run": "edgeprune.api.runs",
    "StoredProfile": "edgeprune.api.stored",
    "Task": "edgeprune.training.tasks.task",
    "bench": "edgeprune.api.boards",
    "compile": "edgeprune.api.programs",
    "explain": "edgeprune.api.explaining",
    "export": "edgeprune.api.programs",
    "fit": "edgeprune.api.runs",
    "flash": "edgeprune.api.boards",
    "frontier": "edgeprune.api.frontiers",
    "list_methods": "edgeprune.api.methods",
    "load_bundle": "edgeprune.compiler.library",
    "load_data": "edgeprune.training.data",
    "load_model": "edgeprune.models.loading",
    "load_profile": "edgeprune.api.stored",
    "load_run": "edgeprune.api.runs",
    "load_target": "edgeprune.targets",
    "open_device": "edgeprune.devices.registry",
    "profile": "edgeprune.api.profiles",
    "prune": "edgeprune.api.pruning",
    "rollback": "edgeprune.api.boards",
    "run": "edgeprune.api.boards",
}
"""Public name -> the module it lives in. A new one goes here, into ``__all__`` and above for type checkers."""

__all__ = [
    "Bundle",
    "DataSet",
    "Explained",
    "Exported",
    "Fit",
    "Frontier",
    "Profile",
    "Pruned",
    "Run",
    "StoredProfile",
    "Task",
    "__version__",
    "bench",
    "compile",
    "errors",
    "explain",
    "export",
    "fit",
    "flash",
    "frontier",
    "list_methods",
    "load_bundle",
    "load_data",
    "load_model",
    "load_profile",
    "load_run",
    "load_target",
    "open_device",
    "profile",
    "prune",
    "rollback",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgeprune' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
