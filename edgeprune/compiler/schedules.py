"""Which schedule a kernel gets: the measured one, a neighbour's, or the rule's default."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.objects import default_schedule
from edgeprune.graph.spec import KernelSpec
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
        for record in records:
            if record.status == "ok":
                self._exact[record.spec.key] = record
                self._family.setdefault(record.spec.family, []).append(record)

    def choose(self, spec: KernelSpec) -> Chosen:
        if record := self._exact.get(spec.key):
            return Chosen(record.schedule, "profile")
        if relatives := self._family.get(spec.family):
            nearest = min(relatives, key=lambda r: (_distance(r.spec, spec), r.spec.key))
            return Chosen(nearest.schedule, "transfer")
        return Chosen(default_schedule(spec, self.target), "default")


def _distance(a: KernelSpec, b: KernelSpec) -> float:
    """Sum over the axes of the width ratio, at least 1 each: 24 is as far from 12 as from 48."""
    return sum(max(a.widths[k], b.widths[k]) / min(a.widths[k], b.widths[k]) for k in a.widths)
