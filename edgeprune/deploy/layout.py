"""Where a device keeps its releases.

::

    releases/<release id>/          program, golden files, manifest.json: immutable once it has this name
    releases/<release id>.partial/  an upload that is not complete
    current   -> releases/<id>      what runs
    previous  -> releases/<id>      what rollback goes back to
    deploy.json                     the journal, while a deployment is under way
    lock      -> the owner          held while a deployment runs
    switch-test                     a link, while it is tried whether one can be replaced
    io/<random>/                    inputs and outputs of one ``run``, and who runs it (devices/scratch.py)

A release id is the sha256 of the manifest text, so a release proves itself: its manifest hashes to
its name, and its files hash to what the manifest says.
"""

from __future__ import annotations

import re

RELEASES = "releases"
CURRENT = "current"
PREVIOUS = "previous"
JOURNAL = "deploy.json"
LOCK = "lock"
TRIED_LINK = "switch-test"
IO = "io"

_RELEASE = re.compile(rf"{RELEASES}/([0-9a-f]{{64}})")


def release_path(release: str) -> str:
    return f"{RELEASES}/{release}"


def partial_path(release: str) -> str:
    return f"{RELEASES}/{release}.partial"


def release_of(path: str) -> str | None:
    """The release id that ``releases/<id>`` names; None for any other path."""
    found = _RELEASE.fullmatch(path)
    return found[1] if found else None


def short(release: str | None) -> str:
    """A release id as messages show it."""
    return release[:12] if release else "none"
