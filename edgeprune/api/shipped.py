"""Profiles that edgeprune ships, for planning without the board: nothing was ever measured by this user."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeprune.compiler.kernels.registry import schedules_version
from edgeprune.compiler.objects import compiler_versions
from edgeprune.devices.registry import open_device
from edgeprune.graph.network import Network
from edgeprune.latency.catalogue import shipped_files, stored_profiles
from edgeprune.latency.jsonl import ProfileFile
from edgeprune.latency.records import Fingerprint
from edgeprune.latency.store import Profile, ProfileStore
from edgeprune.profiling.fingerprint import fingerprint_of, weight_span
from edgeprune.targets import Target

LOCAL = "local:"


@contextmanager
def shipped_for(network: Network, target: Target, threads: int) -> Iterator[Profile | None]:
    """The shipped profile of a target that was made by this very compiler, and None where there is none.

    The board is not asked, as it may be far away, or not be prepared; only this computer is, for that costs nothing. Of
    several profiles that of the network with the most similar amount of weights is taken.
    """
    found = list[tuple[int, int, ProfileFile]]()
    for said in shipped_files():
        fingerprint = said.fingerprint
        if fingerprint.target != target.name or fingerprint.device != _device(network, target, threads, fingerprint):
            continue
        wanted = Fingerprint(
            target=target.name,
            target_hash=target.digest,
            device=fingerprint.device,
            compiler=dict(compiler_versions(target)),
            schedules=schedules_version(target),
            threads=threads,
            clock=fingerprint.clock,
            weight_span=fingerprint.weight_span,
        )
        if wanted == fingerprint:
            found.append((abs(fingerprint.weight_span - weight_span(network.kernels, target)), len(found), said))
    if not found:
        yield None
        return
    _, _, nearest = min(found)
    with tempfile.TemporaryDirectory() as folder, ProfileStore(Path(folder) / "shipped.sqlite3") as store:
        yield store.merge(*nearest).profile


def knows(store: Path, target: Target) -> bool:
    """Whether a store holds a profile of a target."""
    return any(found.fingerprint.target == target.name for found in stored_profiles(store))


def _device(network: Network, target: Target, threads: int, shipped: Fingerprint) -> Mapping[str, Any]:
    """What a profile has to have been taken on."""
    if target.default_device != LOCAL:
        return shipped.device
    with tempfile.TemporaryDirectory() as folder, open_device(f"{LOCAL}{folder}") as computer:
        return fingerprint_of(target, computer.describe(), threads, network.kernels).device
