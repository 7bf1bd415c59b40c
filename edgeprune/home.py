"""The home folder of edgeprune's own files: compiled kernels, profile store, local device, the key of runs."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """``$EDGEPRUNE_HOME``, or ``~/.edgeprune``.

    Everything in it can be made again; a lost ``key`` ends ``--resume`` for runs that name code.
    """
    return Path(os.environ.get("EDGEPRUNE_HOME") or Path.home() / ".edgeprune")


def store_path(given: Path | str | None = None) -> Path:
    """The profile store that was named, or the one at home."""
    return Path(given) if given else home() / "profiles.sqlite3"
