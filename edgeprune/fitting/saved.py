"""Results of stages as files and JSON: saliency, and the profile that a store holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save

from edgeprune.files import write_whole
from edgeprune.importance.criterion import Scores
from edgeprune.importance.curves import IMPORTANCE, Saliency
from edgeprune.latency.store import ProfileStore
from edgeprune.profiling.profile import ProfileResult

SCORES, CURVES = "scores.safetensors", "curves.safetensors"


def save_saliency(saliency: Saliency, folder: Path) -> dict[str, Any]:
    """Write scores and curves into the folder; returns, as JSON, what else :func:`load_saliency` needs."""
    write_whole(folder / SCORES, save(saliency.scores))
    write_whole(folder / CURVES, save(saliency.curves))
    return {"objective": saliency.objective}


def load_saliency(folder: Path, objective: str = IMPORTANCE) -> Saliency:
    return Saliency(load_scores(folder), dict(load_file(folder / CURVES)), objective)


def load_scores(folder: Path) -> Scores:
    return dict(load_file(folder / SCORES))


def profile_json(result: ProfileResult) -> dict[str, Any]:
    """The counts of a profile result as JSON, with the fingerprint that names its profile in the store."""
    return {"digest": result.profile.fingerprint.digest, **result.to_json()}


def profile_of(said: dict[str, Any], store: ProfileStore) -> ProfileResult:
    """The profile result that :func:`profile_json` wrote; raises KeyError if the store no longer holds its profile."""
    profiles, digest = {p.fingerprint.digest: p for p in store.profiles()}, said.pop("digest")
    if digest not in profiles:
        raise KeyError(f"{store.path} has no profile {digest[:12]}")
    return ProfileResult.from_json({**said, "profile": profiles[digest]})
