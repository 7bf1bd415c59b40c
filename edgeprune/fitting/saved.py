"""Results of stages as files and JSON: scores, and the profile that a store holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save

from edgeprune.files import write_whole
from edgeprune.importance.criterion import Scores
from edgeprune.latency.store import ProfileStore
from edgeprune.profiling.profile import ProfileResult

SCORES = "scores.safetensors"


def save_scores(scores: Scores, folder: Path) -> list[str]:
    """Write saliencies into the folder; the names of the groups."""
    write_whole(folder / SCORES, save(scores))
    return sorted(scores)


def load_scores(folder: Path) -> Scores:
    return dict(load_file(folder / SCORES))


def profile_json(result: ProfileResult) -> dict[str, Any]:
    """Which profile of the store it is, and the levels that it covers."""
    return {
        "digest": result.profile.fingerprint.digest,
        "levels": {g: list(widths) for g, widths in result.levels.items()},
        "measured": result.measured,
        "reused": result.reused,
        "drifted": result.drifted,
    }


def profile_of(said: Mapping[str, Any], store: ProfileStore) -> ProfileResult:
    """Raises KeyError if the store does not hold the profile any more."""
    profiles = {p.fingerprint.digest: p for p in store.profiles()}
    if said["digest"] not in profiles:
        raise KeyError(f"{store.path} has no profile {said['digest'][:12]}")
    levels = {g: tuple(widths) for g, widths in said["levels"].items()}
    return ProfileResult(profiles[said["digest"]], levels, said["measured"], said["reused"], (), said["drifted"])
