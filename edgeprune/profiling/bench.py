"""The bench: kernels with a choice of schedules are built, timed and stored batch by batch."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.kernels.registry import schedules_for
from edgeprune.compiler.objects import KernelObject
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.compiler.workers import build_all
from edgeprune.devices.protocol import Device, DeviceInfo
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.model import nominal_ns
from edgeprune.latency.records import KernelRecord
from edgeprune.latency.store import Profile
from edgeprune.profiling.figures import NEAR, Clock
from edgeprune.profiling.measure import Candidate, TimingOptions, measure
from edgeprune.progress import SILENT, Progress
from edgeprune.targets import Target

Tunable = tuple[KernelSpec, list[Schedule]]

BATCH = 96
"""Kernels in one timing program: few links and uploads, little lost when one is interrupted."""


TUNED = "tuned"
"""Flag of a record whose schedule was chosen among several."""
BORROWED = "borrowed"
"""Flag of a record that was measured with more or fewer weights around: its schedule is right, its latency nearly."""


class Bench:
    """Measures kernels on one device into one profile.

    Attributes:
        timings: kernels that were timed, each with each of its schedules.
        clock: of the device, as far as it is known; ``counts``: whether it counts work instead of time.
        measured, drifted: kernels with a record from this bench, and those of them that were measured again, for the
            device's speed had changed; ``failed`` are those that did not run.
    """

    def __init__(
        self,
        profile: Profile,
        target: Target,
        device: Device,
        info: DeviceInfo,
        *,
        threads: int,
        timing: TimingOptions,
        workers: int | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self.profile, self._target, self._device, self._info = profile, target, device, info
        self._threads, self._timing, self._workers, self._progress = threads, timing, workers, progress
        self.clock = Clock(nominal_ns(profile.records()))
        self.counts = info.counts
        self.timings = self.drifted = 0
        self._measured: set[str] = set()
        self.failed: list[KernelRecord] = []

    @property
    def measured(self) -> int:
        return len(self._measured)

    def lacks(self, specs: Iterable[KernelSpec], *, borrowed: bool = False) -> list[KernelSpec]:
        """Those without a latency in the profile, or with a borrowed one if that is not enough; none where it is not
        this device's.
        """
        if self.profile.mismatch:
            return []
        known = {r.spec.key for r in self.profile.records() if r.ok and (borrowed or BORROWED not in r.flags)}
        return [s for s in specs if s.key not in known]

    def tuned(self, specs: Iterable[KernelSpec], tune: int, *, again: bool = True) -> None:
        """Measure kernels with the first schedules of each; the best is kept, flagged "tuned" if there were several.

        Args:
            again: as of :meth:`run`.
        """
        flags = (TUNED,) if tune > 1 else ()
        self.run([(s, schedules_for(s, self._target)[: max(1, tune)]) for s in specs], flags=flags, again=again)

    def transferred(self, specs: Iterable[KernelSpec], tune: int) -> None:
        """Measure kernels with the schedule that was best nearby and with the one that is estimated best; with a
        ``tune`` of 1 with the latter alone.
        """
        book = ScheduleBook(self._target, self.profile.records())
        self.run([(s, _transferred(s, book, self._target, tune)) for s in specs])

    def slow_clock(self) -> list[KernelSpec]:
        """Kernels of the profile that met the nominal clock too rarely."""
        return [r.spec for r in self.profile.records() if r.ok and not self._nominal(r)]

    def again(self, specs: Iterable[KernelSpec], until: float = math.inf) -> None:
        """Measure kernels once more with the schedule that each has. What disturbs a measurement makes it slower, so
        the quicker of two at the nominal clock is kept; one that did not meet it replaces none that did.
        """
        known = [found for spec in specs if (found := self.profile.get(spec.key)) is not None]
        self.run([(r.spec, [r.schedule]) for r in known], {r.spec.key: r for r in known}, until=until)

    def run(
        self,
        kernels: Sequence[Tunable],
        unless: Mapping[str, KernelRecord] | None = None,
        *,
        flags: tuple[str, ...] = (),
        again: bool = True,
        until: float = math.inf,
    ) -> None:
        """Measure kernels, and store each batch as it ends.

        Args:
            unless: by the keys of specs records that stay if they are better.
            flags: of the records.
            again: time the best of several schedules once more: it looks better than it is by what it was lucky with.
            until: on the clock of :func:`time.monotonic`; no batch begins later.
        """
        for batch in _batches(kernels):
            if time.monotonic() > until:
                return
            best, winners = self._batch(batch)
            for key, record in best.items():
                before = (unless or {}).get(key)
                if before is None or self._better(record, before):
                    self.profile.add(replace(record, flags=(*record.flags, *flags)) if record.ok else record)
                self._progress.advance()
                self._measured.add(key)
                self.drifted += "drift" in record.flags
                if not record.ok and (found := self.profile.get(key)) is not None and not found.ok:
                    self.failed.append(record)
                    self._progress.note(f"{record.spec}: {record.error}")
            for record in self._timed(winners if again else []):
                if record.ok and (self._nominal(record) or not self._nominal(best[record.spec.key])):
                    self.profile.add(replace(record, flags=(*record.flags, *flags)))

    def _batch(self, kernels: Sequence[Tunable]) -> tuple[dict[str, KernelRecord], list[Candidate]]:
        """One record a spec, by its key: the best of its candidates; and those that were chosen among several."""
        requests = [(s, schedule) for s, schedules in kernels for schedule in schedules]
        candidates: list[Candidate] = []
        best: dict[str, KernelRecord] = {}
        for (spec, schedule), built in zip(requests, build_all(requests, self._target, self._workers), strict=True):
            if isinstance(built, KernelObject):
                candidates.append(Candidate(spec, schedule, built))
            else:
                evidence, error = self._info.evidence, built.message
                best[spec.key] = KernelRecord(spec, dict(schedule), "failed", evidence=evidence, error=error)
        rivals = Counter(c.spec.key for c in candidates)
        winners: dict[str, Candidate] = {}
        for candidate, record in zip(candidates, self._timed(candidates), strict=True):
            key = record.spec.key
            if key not in best or _rank(record) > _rank(best[key]):
                best[key], winners[key] = record, candidate
        again = [] if self.counts else [c for key, c in winners.items() if rivals[key] > 1 and best[key].ok]
        return {s.key: best[s.key] for s, _ in kernels}, again

    def _timed(self, candidates: Sequence[Candidate]) -> list[KernelRecord]:
        self.timings += len(candidates)
        if not candidates:
            return []
        return measure(
            candidates,
            self._target,
            self._device,
            self._info,
            threads=self._threads,
            timing=self._timing,
            clock=self.clock,
        )

    def _nominal(self, record: KernelRecord) -> bool:
        """Whether it was measured at the nominal clock, or nothing is known of clocks."""
        return record.reference_ns <= self.clock.nominal_ns * (1 + NEAR)

    def _better(self, record: KernelRecord, before: KernelRecord) -> bool:
        if not before.ok or bool(record.reference_ns) > bool(before.reference_ns):
            return True
        if not record.ok or self._nominal(record) != self._nominal(before):
            return record.ok and self._nominal(record)
        return _rank(record) > _rank(before)


def _transferred(spec: KernelSpec, book: ScheduleBook, target: Target, tune: int) -> list[Schedule]:
    first = schedules_for(spec, target)[0]
    known = book.choose(spec).schedule
    return [first] if tune == 1 or dict(known) == dict(first) else [known, first]


def _batches(kernels: Sequence[Tunable]) -> Iterable[Sequence[Tunable]]:
    """At most :data:`BATCH` schedules each."""
    batch: list[Tunable] = []
    for kernel in kernels:
        if batch and sum(len(s) for _, s in batch) + len(kernel[1]) > BATCH:
            yield batch
            batch = []
        batch.append(kernel)
    if batch:
        yield batch


def _rank(record: KernelRecord) -> tuple[bool, float]:
    """Higher is better; latencies of one batch are compared at one clock."""
    return record.ok, -record.median_ns / (record.reference_ns or 1.0)
