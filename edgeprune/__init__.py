"""edgeprune: prune a trained network to a millisecond budget on a real board.

The public names below are imported when they are first used, so that ``import edgeprune`` (and
with it the start of every command) costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgeprune import errors

if TYPE_CHECKING:
    from edgeprune.compiler.library import load_bundle
    from edgeprune.devices.registry import open_device
    from edgeprune.fitting.fit import fit
    from edgeprune.models.loading import load_model
    from edgeprune.profiling.profile import profile
    from edgeprune.targets import load_target

__version__ = "0.1.0"

__all__ = ["__version__", "errors", "fit", "load_bundle", "load_model", "load_target", "open_device", "profile"]

_HOMES = {
    "fit": "edgeprune.fitting.fit",
    "load_bundle": "edgeprune.compiler.library",
    "load_model": "edgeprune.models.loading",
    "load_target": "edgeprune.targets",
    "open_device": "edgeprune.devices.registry",
    "profile": "edgeprune.profiling.profile",
}
"""Public name -> the module it lives in. A new one goes here, into ``__all__`` and above for type checkers."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgeprune' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
