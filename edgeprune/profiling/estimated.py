"""The latency model of a profile, with estimates of the widths that were not measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from edgeprune.errors import ProfileError
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.model import LatencyModel, at_one_clock, nominal_ns
from edgeprune.latency.networks import NetworkRecord, surplus_of
from edgeprune.latency.records import KernelRecord
from edgeprune.latency.store import Profile
from edgeprune.latency.tables import LatencyTable
from edgeprune.profiling.estimator import WorkEstimator
from edgeprune.targets import Target

TAUGHT = 2000
"""Kernels alone, and kernels in their places, that estimates are made from at most: they take memory by the square of
their number, and time by the cube.
"""


def estimator_of(
    records: Iterable[KernelRecord],
    target: Target,
    network: Sequence[KernelSpec],
    networks: Sequence[NetworkRecord] = (),
    *,
    clock_ns: float = 0.0,
) -> WorkEstimator:
    """An estimator of the kernels of a network at other widths: from those of its families, and others of the store as
    far as there is room.

    Args:
        records: at one clock.
        networks: whole ones that were measured on the same device.
        clock_ns: the reference loop's time at that clock.

    Raises:
        ProfileError: nothing was measured that teaches anything.
    """
    families, known = {s.family for s in network}, [r for r in records if r.ok]
    if len(known) > TAUGHT:
        order = np.random.default_rng(0).permutation(len(known))
        known = sorted((known[i] for i in order), key=lambda r: r.spec.family not in families)[:TAUGHT]
    placed = [p for n in networks for p in n.placed_at(clock_ns)]
    placed.sort(key=lambda p: p.spec.family not in families)
    return WorkEstimator(known, target, placed[:TAUGHT])


def estimated(
    records: Iterable[KernelRecord],
    target: Target,
    network: Sequence[KernelSpec],
    networks: Sequence[NetworkRecord] = (),
) -> LatencyModel:
    """A latency model of the kernels of a network at all widths.

    Args:
        networks: whole ones that were measured on the same device; what they take beyond their kernels corrects the
            model.
    """
    found = list(records)
    clock, steady = nominal_ns(found), at_one_clock(found)
    try:
        estimator = estimator_of(steady, target, network, networks, clock_ns=clock)
    except ProfileError:
        return LatencyModel(steady)
    surplus = surplus_of(networks, estimator, clock, network) if networks else None
    return LatencyModel(steady, estimator=estimator, surplus=surplus)


def estimated_of(profile: Profile, target: Target, network: Sequence[KernelSpec]) -> LatencyModel:
    """The same of all that a profile holds."""
    return estimated(profile.records(), target, network, profile.networks())


def whole_table(
    records: Sequence[KernelRecord], target: Target, networks: Sequence[NetworkRecord], spec: KernelSpec
) -> LatencyTable:
    """Latency of a kernel over all its widths in a profile; those that were timed neither alone nor in a network are
    estimated.

    Raises:
        ProfileError: the profile does not cover it.
    """
    timed = _timed(records, networks)
    cells = {
        tuple(s.widths.values()) for s in timed if s.family == spec.family and tuple(s.widths) == tuple(spec.widths)
    }
    model = estimated(records, target, [spec], networks)
    if not cells:
        return model.table(spec, estimate=True)
    grids = tuple(np.array(sorted(set(axis)), dtype=np.int64) for axis in zip(*cells, strict=True))
    return with_timed(model.table(spec, grids=grids, estimate=True), timed)


def timed_in(profile: Profile) -> list[KernelSpec]:
    """Kernels of a profile that were timed, alone or inside a network."""
    return _timed(profile.records(), profile.networks())


def _timed(records: Iterable[KernelRecord], networks: Iterable[NetworkRecord]) -> list[KernelSpec]:
    placed = [p.spec for network in networks for p in network.placed]
    return [*placed, *(r.spec for r in records if r.ok)]


def with_timed(table: LatencyTable, timed: Iterable[KernelSpec]) -> LatencyTable:
    """The table with those cells told from estimated ones that were timed, alone or inside a network."""
    places = [{int(w): i for i, w in enumerate(grid)} for grid in table.grids]
    estimated_cells = np.ones([len(grid) for grid in table.grids], dtype=bool)
    for spec in timed:
        if spec.family == table.family and tuple(spec.widths) == table.axes:
            cell = [grid.get(width) for width, grid in zip(spec.widths.values(), places, strict=True)]
            if None not in cell:
                estimated_cells[tuple(cell)] = False
    return replace(table, estimated=estimated_cells)
