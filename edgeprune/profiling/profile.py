"""Profiling a network on a device: latency tables over (in, out) widths of each distinct kernel.

Kernels are compiled exactly as the final build compiles them, measured in batches, and stored as
they come, so a profile that is interrupted goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import Field, InstanceOf

from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.kernels.registry import schedules_for
from edgeprune.compiler.objects import KernelObject
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.compiler.workers import build_all
from edgeprune.devices.protocol import Device, DeviceInfo
from edgeprune.graph.channels import ChannelGraph, KernelGraph
from edgeprune.graph.spec import KernelSpec
from edgeprune.jsonable import Jsonable
from edgeprune.latency.grids import levels_of
from edgeprune.latency.model import nominal_ns
from edgeprune.latency.problem import kernels_to_measure
from edgeprune.latency.records import KernelRecord
from edgeprune.latency.store import Profile, ProfileStore
from edgeprune.profiling.fingerprint import fingerprint_of, require_match
from edgeprune.profiling.measure import Candidate, TimingOptions, measure
from edgeprune.progress import SILENT, Progress
from edgeprune.targets import Target

Tunable = tuple[KernelSpec, list[Schedule]]

BATCH = 96
"""Kernels in one timing program: few links and uploads, little lost when one is interrupted."""


@dataclass(frozen=True, slots=True)
class ProfileOptions:
    """Attributes:
    threads: threads the kernels run on.
    points: most widths a group is offered; its step is a multiple of ``step``.
    step: smallest difference of widths; None: the finest that can pay on the target.
    tune: schedules measured for each kernel of the network as it is; the best is kept. At other widths two are
        measured, the one that was best nearby and the one that is estimated best; with 1, the latter alone.
    workers: processes that build kernels; None: one a core.
    blocks: offer width 0 to the groups of blocks: whole blocks may go.
    """

    threads: int = 1
    points: int = 8
    step: int | None = None
    tune: int = 8
    workers: int | None = None
    blocks: bool = False
    timing: TimingOptions = field(default_factory=TimingOptions)

    def levels(self, channels: ChannelGraph, target: Target) -> dict[str, tuple[int, ...]]:
        """Widths offered to each group of a network."""
        return levels_of(channels, self.step or target.width_step, self.points, blocks=self.blocks)


@dataclass(frozen=True, slots=True)
class ProfileResult(Jsonable):
    """``levels``: group -> widths the tables cover. ``measured``, ``reused`` and ``drifted`` (measured again, for the
    device's speed had changed) count kernels.
    """

    profile: Annotated[InstanceOf[Profile], Field(exclude=True)]  # the store keeps it, and what failed
    levels: Mapping[str, tuple[int, ...]]
    measured: int
    reused: int
    drifted: int
    failed: Annotated[tuple[InstanceOf[KernelRecord], ...], Field(exclude=True)] = ()


def profile(
    kernels: KernelGraph,
    channels: ChannelGraph,
    target: Target,
    device: Device,
    store: ProfileStore,
    options: ProfileOptions | None = None,
    *,
    info: DeviceInfo | None = None,
    allow_mismatch: bool = False,
    progress: Progress = SILENT,
) -> ProfileResult:
    """Measure what the store does not hold yet.

    ``info`` is what the device says of itself, if it was asked already. With ``allow_mismatch`` a stored profile of the
    same target is used as it is, whatever device it came from, and nothing is measured.

    Raises:
        TargetError: the device cannot run code for this target.
        MissingDependencyError: what compiles for the target's GPU is not installed.
        ProfileError: ``allow_mismatch`` and the stored profile lacks kernels (when tables are read).
        BusyError, DeviceError: store or device failed; what was measured is kept.
    """
    options = options or ProfileOptions()
    info = info or device.describe()
    require_match(target, info)
    levels = options.levels(channels, target)
    wanted = kernels_to_measure(kernels, channels, levels)
    fingerprint = fingerprint_of(target, info, options.threads, kernels)
    options = replace(options, timing=replace(options.timing, weight_span=fingerprint.weight_span))
    opened = store.open_profile(fingerprint, allow_mismatch=allow_mismatch)
    known = {r.spec.key: r for r in opened.records()}
    missing = [] if opened.mismatch else [s for s in wanted if s.key not in known or not known[s.key].ok]
    failed: list[KernelRecord] = []
    drifted: list[KernelRecord] = []
    reused = sum(s.key in known and known[s.key].ok for s in wanted)
    progress.stage("profiling kernels", len(missing))
    own = {n.spec.key for n in kernels.nodes}

    def run(kernels: Sequence[Tunable]) -> None:
        for batch in _batches(kernels):
            for record in _measured(batch, target, device, info, options, nominal_ns(opened.records())):
                opened.add(record)
                progress.advance()
                drifted.extend([record] * ("drift" in record.flags))
                if not record.ok:
                    failed.append(record)
                    progress.note(f"{record.spec}: {record.error}")

    run([(s, schedules_for(s, target)[: max(1, options.tune)]) for s in missing if s.key in own])
    book = ScheduleBook(target, opened.records())
    run([(s, _transferred(s, book, target, options.tune)) for s in missing if s.key not in own])
    return ProfileResult(opened, levels, len(missing), reused, len(drifted), tuple(failed))


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


def _measured(
    kernels: Sequence[Tunable],
    target: Target,
    device: Device,
    info: DeviceInfo,
    options: ProfileOptions,
    nominal: float,
) -> Iterable[KernelRecord]:
    """One record a spec: the best of its candidates."""
    requests = [(s, schedule) for s, schedules in kernels for schedule in schedules]
    candidates: list[Candidate] = []
    records: list[KernelRecord] = []
    for (spec, schedule), built in zip(requests, build_all(requests, target, options.workers), strict=True):
        if isinstance(built, KernelObject):
            candidates.append(Candidate(spec, schedule, built))
        else:
            records.append(KernelRecord(spec, dict(schedule), "failed", evidence=info.evidence, error=built.message))
    if candidates:
        threads, timing = options.threads, options.timing
        records += measure(candidates, target, device, info, threads=threads, timing=timing, nominal_ns=nominal)
    best: dict[str, KernelRecord] = {}
    for record in records:
        rival = best.get(record.spec.key)
        if rival is None or _rank(record) > _rank(rival):
            best[record.spec.key] = record
    return [best[s.key] for s, _ in kernels]


def _rank(record: KernelRecord) -> tuple[bool, float]:
    """Higher is better; latencies of one batch are compared at one clock."""
    return record.ok, -record.median_ns / (record.reference_ns or 1.0)
