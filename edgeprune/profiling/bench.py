"""The bench: kernels with a choice of schedules are built, timed and stored batch by batch."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.kernels.registry import schedules_for
from edgeprune.compiler.objects import KernelObject
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.compiler.workers import build_all
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.records import KernelRecord
from edgeprune.latency.store import Profile
from edgeprune.profiling.farm import Board, Farm
from edgeprune.profiling.figures import NEAR
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
    """Measures kernels on one device, or on several of one kind, into one profile.

    Attributes:
        timings: kernels that were timed, each with each of its schedules.
        counts: whether the device's clock counts work instead of time.
        measured, drifted: kernels with a record from this bench, and those of them that were measured again, for the
            device's speed had changed; ``failed`` are those that did not run.
    """

    def __init__(
        self,
        profile: Profile,
        target: Target,
        farm: Farm,
        *,
        threads: int,
        timing: TimingOptions,
        workers: int | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self.profile, self._target, self._farm = profile, target, farm
        self._threads, self._timing, self._workers, self._progress = threads, timing, workers, progress
        self.counts = farm.lead.info.counts
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
        batches, winners = iter(_batches(kernels)), list[_Built]()

        def drawn() -> Iterator[_Built]:
            """Winners first: what is known of them is stored already, and where they are lost nothing else is."""
            while True:
                if winners:
                    yield winners.pop()
                elif time.monotonic() <= until and (batch := next(batches, None)) is not None:
                    yield self._built(batch)
                else:
                    return

        more = True
        while more:
            for built, found, board in self._farm.share(drawn(), self._timed):
                self.timings += len(built.candidates)
                board.timed += len(built.candidates)
                self._store(built, board, found, unless or {}, flags)
                self.keep_conditions()
                if again and not built.winners and (chosen := self._chosen(built, found)):
                    winners.append(chosen)
            more = bool(winners)  # of the batches that other boards had when there was nothing else to draw

    def keep_conditions(self) -> None:
        """Store what the boards have shown of clock and heat so far."""
        for board in self._farm.boards:
            if seen := board.watch.conditions:
                self.profile.add_conditions(seen)

    def _store(
        self,
        built: _Built,
        board: Board,
        found: Mapping[str, tuple[KernelRecord, Candidate | None]],
        unless: Mapping[str, KernelRecord],
        flags: tuple[str, ...],
    ) -> None:
        for key in built.keys:
            record = self._farm.as_lead(board, found[key][0])
            if built.winners:
                before = self.profile.get(key)
                if record.ok and (self._nominal(record) or before is None or not self._nominal(before)):
                    self.profile.add(replace(record, flags=(*record.flags, *flags)))
                continue
            other = unless.get(key)
            # Its schedule is the one that was chosen of several, as before.
            kept_flags = (TUNED,) if other is not None and TUNED in other.flags else ()
            if other is None or self._better(record, other):
                self.profile.add(replace(record, flags=(*record.flags, *flags, *kept_flags)) if record.ok else record)
            self._progress.advance()
            self._measured.add(key)
            self.drifted += "drift" in record.flags
            if not record.ok and (kept := self.profile.get(key)) is not None and not kept.ok:
                self.failed.append(record)
                self._progress.note(f"{record.spec}: {record.error}")

    def _built(self, kernels: Sequence[Tunable]) -> _Built:
        requests = [(s, schedule) for s, schedules in kernels for schedule in schedules]
        candidates, failed, evidence = list[Candidate](), list[KernelRecord](), self._farm.lead.info.evidence
        for (spec, schedule), built in zip(requests, build_all(requests, self._target, self._workers), strict=True):
            if isinstance(built, KernelObject):
                candidates.append(Candidate(spec, schedule, built))
            else:
                failed.append(KernelRecord(spec, dict(schedule), "failed", evidence=evidence, error=built.message))
        return _Built([s.key for s, _ in kernels], candidates, failed)

    def _timed(self, board: Board, built: _Built) -> dict[str, tuple[KernelRecord, Candidate | None]]:
        """By the key of each kernel its best record, and the candidate that it is of."""
        best: dict[str, tuple[KernelRecord, Candidate | None]] = {r.spec.key: (r, None) for r in built.failed}
        for candidate, record in zip(built.candidates, self._measured_on(board, built.candidates), strict=True):
            key = record.spec.key
            if key not in best or _rank(record) > _rank(best[key][0]):
                best[key] = record, candidate
        return best

    def _chosen(self, built: _Built, found: Mapping[str, tuple[KernelRecord, Candidate | None]]) -> _Built | None:
        """The candidates that were the best of several."""
        rivals = Counter(c.spec.key for c in built.candidates)
        best = {key: c for key, (record, c) in found.items() if record.ok and c is not None and rivals[key] > 1}
        return None if self.counts or not best else _Built(list(best), list(best.values()), [], winners=True)

    def _measured_on(self, board: Board, candidates: Sequence[Candidate]) -> list[KernelRecord]:
        if not candidates:
            return []
        of = {"threads": self._threads, "timing": self._timing, "clock": board.clock}
        found = measure(candidates, self._target, board.device, board.info, **of)  # type: ignore[arg-type]
        board.watch.look()
        return found

    def _nominal(self, record: KernelRecord) -> bool:
        """Whether it was measured at the nominal clock, or nothing is known of clocks."""
        return record.reference_ns <= self._farm.lead.clock.nominal_ns * (1 + NEAR)

    def _better(self, record: KernelRecord, before: KernelRecord) -> bool:
        if not before.ok or bool(record.reference_ns) > bool(before.reference_ns):
            return True
        if not record.ok or self._nominal(record) != self._nominal(before):
            return record.ok and self._nominal(record)
        return _rank(record) > _rank(before)


@dataclass(frozen=True, slots=True)
class _Built:
    """Kernels that were asked for, by key, with what could be built of them and what could not. ``winners`` were the
    best of several, and are timed once more.
    """

    keys: list[str]
    candidates: list[Candidate]
    failed: list[KernelRecord]
    winners: bool = False


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
