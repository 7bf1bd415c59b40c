"""What a profile holds, kernel by kernel, and in what two profiles differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from edgeprune.graph.spec import KernelSpec
from edgeprune.jsonable import Jsonable
from edgeprune.latency.jsonl import ProfileFile
from edgeprune.latency.model import at_one_clock, nominal_ns
from edgeprune.latency.records import KernelRecord, difference

SHORT = 8
"""Digits of a family's key that are shown; enough to name it."""


@dataclass(frozen=True, slots=True)
class Family(Jsonable):
    """A kernel at all the widths at which it was measured, alone or inside networks.

    Attributes:
        family: the beginning of ``KernelSpec.family``.
        kernel: the widest, in words.
        kernels, placed, failed: how many widths were measured alone, how many inside whole networks, how many failed.
        widths: of each axis the narrowest and the widest.
        latency_ms: the least and the most of them, alone where they were measured so; None where all failed.
        evidence: every level that occurs.
    """

    family: str
    kernel: str
    kernels: int
    placed: int
    failed: int
    widths: Mapping[str, tuple[int, int]]
    latency_ms: tuple[float, float] | None
    evidence: tuple[str, ...]


def families_of(profile: ProfileFile) -> list[Family]:
    """The kernels of a profile, those that take longest first."""
    clock = nominal_ns(profile.records)
    alone, placed = defaultdict[str, list[KernelRecord]](list), defaultdict[str, dict[str, float]](dict)
    specs, evidence = defaultdict[str, dict[str, KernelSpec]](dict), defaultdict[str, set[str]](set)
    for record in at_one_clock(profile.records):
        alone[record.spec.family].append(record)
        specs[record.spec.family][record.spec.key] = record.spec
        evidence[record.spec.family].add(record.evidence)
    for network in profile.networks:
        for p in network.placed_at(clock):
            placed[p.spec.family][p.spec.key] = p.latency_ns
            specs[p.spec.family].setdefault(p.spec.key, p.spec)
            evidence[p.spec.family].add(network.evidence)
    found = []
    for family, members in specs.items():
        ok = {r.spec.key: r.median_ns for r in alone[family] if r.ok}
        times = {**placed[family], **ok}
        widest = max(members.values(), key=lambda s: (s.macs, tuple(s.widths.values())))
        found.append(
            Family(
                family[:SHORT],
                str(widest),
                len(ok),
                len(placed[family]),
                len(alone[family]) - len(ok),
                {axis: _ends(s.widths[axis] for s in members.values()) for axis in widest.widths},
                (min(times.values()) / 1e6, max(times.values()) / 1e6) if times else None,
                tuple(sorted(evidence[family])),
            )
        )
    return sorted(found, key=lambda f: (-(f.latency_ms or (0.0, 0.0))[1], f.family))


def _ends(values: Iterable[int]) -> tuple[int, int]:
    found = sorted(values)
    return found[0], found[-1]


@dataclass(frozen=True, slots=True)
class Ratio(Jsonable):
    """Latencies of one profile over those of another.

    Attributes:
        what: a kernel at any widths, or a network; ``count``: how many both profiles have.
        median, low, high: of the ratios.
    """

    what: str
    count: int
    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference(Jsonable):
    """In what two profiles differ; ratios are of the second over the first, each at its own nominal clock.

    Attributes:
        fields: of the fingerprints, those that differ: here, there.
        only_first, only_second: kernels with a latency in one of them.
        schedules: kernels that both have, with another schedule each.
        kernels: all that both have; None where there is none. ``families``: the same by kernel, those that differ most
            first. ``networks``: whole ones.
    """

    fields: Mapping[str, tuple[Any, Any]]
    only_first: int
    only_second: int
    schedules: int
    kernels: Ratio | None
    networks: Ratio | None
    families: tuple[Ratio, ...]


def difference_of(first: ProfileFile, second: ProfileFile) -> Difference:
    here, there = (_by_key(profile) for profile in (first, second))
    both = here.keys() & there.keys()
    ratios = {key: there[key].median_ns / here[key].median_ns for key in both}
    by_family = defaultdict[str, list[str]](list)
    for key in sorted(both):
        by_family[here[key].spec.family].append(key)
    families = []
    for keys in by_family.values():
        widest = max((here[key].spec for key in keys), key=lambda s: (s.macs, tuple(s.widths.values())))
        families.append(_ratio(str(widest), [ratios[key] for key in keys]))
    whole = [{n.key: n.at_clock(nominal_ns(profile.records)) for n in profile.networks} for profile in (first, second)]
    of_networks = [whole[1][key] / whole[0][key] for key in whole[0].keys() & whole[1].keys()]
    return Difference(
        fields=difference(first.fingerprint, second.fingerprint),
        only_first=len(here.keys() - there.keys()),
        only_second=len(there.keys() - here.keys()),
        schedules=sum(dict(here[key].schedule) != dict(there[key].schedule) for key in both),
        kernels=_ratio("kernels", list(ratios.values())) if ratios else None,
        networks=_ratio("whole networks", of_networks) if of_networks else None,
        families=tuple(sorted(families, key=lambda r: (-abs(r.median - 1), r.what))),
    )


def _by_key(profile: ProfileFile) -> dict[str, KernelRecord]:
    return {r.spec.key: r for r in at_one_clock(profile.records) if r.ok}


def _ratio(what: str, ratios: list[float]) -> Ratio:
    return Ratio(what, len(ratios), median(ratios), min(ratios), max(ratios))
