"""Which schedule a kernel gets: the measured one, a neighbour's, or the rule's default."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.kernels.registry import stores_blocks
from edgeprune.compiler.objects import default_schedule
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.model import at_one_clock
from edgeprune.latency.records import KernelRecord
from edgeprune.targets import Target


@dataclass(frozen=True, slots=True)
class Chosen:
    """``source``: "profile" (this very kernel was measured), "transfer" (another width of it), "default"."""

    schedule: Schedule
    source: str


class ScheduleBook:
    """Schedules by kernel, from the records of a profile. An empty book gives every kernel its default."""

    def __init__(self, target: Target, records: Iterable[KernelRecord] = ()) -> None:
        self.target = target
        self._exact: dict[str, KernelRecord] = {}
        self._family: dict[str, list[KernelRecord]] = {}
        self._blocks: dict[str, list[KernelRecord]] = {}  # by the family of the kernel with all weights
        self._anchors: dict[str, list[KernelRecord]] = {}  # the same, by that of its anchor
        for record in records:
            if record.status == "ok":
                self._exact[record.spec.key] = record
                self._family.setdefault(record.spec.family, []).append(record)
                if record.spec.density is not None:
                    self._blocks.setdefault(record.spec.with_density(None).family, []).append(record)
                    self._anchors.setdefault(_anchor(record.spec).family, []).append(record)

    @property
    def knows_blocks(self) -> bool:
        """Whether kernels were timed that may store blocks of their weights alone."""
        return bool(self._blocks)

    def quicker_in_blocks(self, spec: KernelSpec) -> bool:
        """Whether timings say that this kernel is quicker if it stores blocks of its weights than if it stores all.

        That of the same density or of the next higher one tells, which has more to do.
        """
        if (found := self._nearest_in_blocks(spec)) is None or not stores_blocks(found.schedule):
            return False
        if (whole := self._exact.get(found.spec.with_density(None).key)) is None:
            return True
        stored, dense = at_one_clock([found, whole])
        return stored.median_ns < dense.median_ns

    def of_blocks(self) -> ScheduleBook:
        """A book that gives every kernel with a density a schedule that stores blocks."""
        kept = (r for r in self._exact.values() if r.spec.density is None or stores_blocks(r.schedule))
        return ScheduleBook(self.target, kept)

    def _nearest_in_blocks(self, spec: KernelSpec) -> KernelRecord | None:
        """Of kernels with this density or a higher one: nearest in widths, then in density.

        Where nobody timed one that ends in the same operations (what it was added to is gone with a block of the
        network, say), of those that end in others.
        """
        density = spec.density or 0
        alike = self._blocks.get(spec.with_density(None).family, []) or self._anchors.get(_anchor(spec).family, [])
        known = [r for r in alike if (r.spec.density or 0) >= density]
        return min(known, key=lambda r: (_distance(r.spec, spec), r.spec.density, r.spec.key), default=None)

    def choose(self, spec: KernelSpec) -> Chosen:
        if record := self._exact.get(spec.key):
            return Chosen(record.schedule, "profile")
        if relatives := self._family.get(spec.family):
            nearest = min(relatives, key=lambda r: (_distance(r.spec, spec), r.spec.key))
            return Chosen(nearest.schedule, "transfer")
        if spec.density is not None and (found := self._nearest_in_blocks(spec)) is not None:
            return Chosen(found.schedule, "transfer")
        return Chosen(default_schedule(spec, self.target), "default")


def _anchor(spec: KernelSpec) -> KernelSpec:
    """A layer with all weights, and with nothing behind it."""
    return replace(spec.with_density(None), inputs=spec.inputs[: spec.anchor_inputs], epilogue=())


def _distance(a: KernelSpec, b: KernelSpec) -> float:
    """Sum over the axes of the width ratio, at least 1 each: 24 is as far from 12 as from 48."""
    return sum(max(a.widths[k], b.widths[k]) / min(a.widths[k], b.widths[k]) for k in a.widths)
