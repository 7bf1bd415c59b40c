"""Timing kernels on a device: one program for a batch of them, put, run, read, removed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from edgeprune.board.client import ExitCode, KernelRow, NativeProgram
from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.kernels.registry import rule_named
from edgeprune.compiler.objects import KernelObject
from edgeprune.compiler.program import timing_program, write_program
from edgeprune.devices.protocol import Device, DeviceInfo
from edgeprune.devices.scratch import scratch
from edgeprune.errors import DeviceError, VerificationError
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.records import KernelRecord
from edgeprune.profiling.figures import ENOUGH, Clock, figure, nominal_clock, said
from edgeprune.targets import Target

FOLDER = "profiling"
DRIFT, WORST_DRIFT = 0.25, 1.0
"""Where there is no reference: how much longer one kernel may take at one end of a program than at the other. Above the
first, all kernels are measured again; above the second, their latencies are worth nothing. Shared computers swing by a
third for minutes.
"""
ATTEMPTS, REST_S = 5, 1.0
"""Launches of a program at most, beyond those planned where a reference tells the clock; seconds between them."""
RETAKES = 2
"""Samples that met a slow clock are taken again, at most this many for each that was asked for."""
GPU_SAMPLE = 10
"""How much longer a sample is on a GPU: it is waited for twice, which takes some ten microseconds each time."""


@dataclass(frozen=True, slots=True)
class TimingOptions:
    """Options of timing a kernel. A sample is the mean over as many calls as fill ``sample_us``
    (:data:`GPU_SAMPLE` times as much on a GPU); each call takes its weights from the next
    stretch of ``weight_span`` bytes, as it would in its network.

    Attributes:
        warmup: samples of each launch that do not count.
        repeats: samples, in ``launches`` launches: where memory lies differs from launch to launch, and by that
            latencies by several per cent; and the clock differs from second to second.
        timeout_s: what each kernel may take, all its samples together; a program of many may take as often as much.
    """

    warmup: int = 1
    repeats: int = 15
    launches: int = 5
    sample_us: int = 50
    weight_span: int = 0
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kernel built with one schedule, ready to be timed."""

    spec: KernelSpec
    schedule: Schedule
    kernel: KernelObject


def measure(
    candidates: Sequence[Candidate],
    target: Target,
    device: Device,
    info: DeviceInfo,
    *,
    threads: int,
    timing: TimingOptions,
    clock: Clock | None = None,
) -> list[KernelRecord]:
    """Time every candidate on the device; one record each, in order.

    A kernel that crashes, hangs, fails or yields values that are not finite gets a failed record,
    and the rest go on. A program that did not end in time does not say at which kernel it hung, so
    it is halved until one is left.

    Processors change their clock. Programs for cores time a reference loop beside each sample: samples at the quickest
    clock are what counts, and as long as some kernel has too few of them the program is launched again, a few times.
    Each record says at which clock its figures are. On a GPU there is no such loop: the first kernel is timed once more
    at the end, and where it takes much longer or shorter there all are measured again and flagged "drift".

    Args:
        clock: what is known of the device's clock from earlier measurements; it learns from these.

    Raises:
        DeviceError: its speed changes all the time, by far too much.
        DeviceError: its GPU cannot be used.
        DeviceUnreachableError: the device is gone; nothing that came before is lost to the caller's
            store if it stores batch by batch.
    """
    clock = clock or Clock()
    try:
        return _time(candidates, target, device, info, threads, timing, clock)
    except _Hung as e:
        if len(candidates) == 1:
            return [_failed(candidates[0], info, str(e))]
        middle = len(candidates) // 2
        halves = (candidates[:middle], candidates[middle:])
        again = partial(measure, target=target, device=device, info=info, threads=threads, timing=timing, clock=clock)
        return [r for half in halves for r in again(half)]


class _Hung(Exception):
    """A timing program did not end in time."""


def _time(
    candidates: Sequence[Candidate],
    target: Target,
    device: Device,
    info: DeviceInfo,
    threads: int,
    timing: TimingOptions,
    clock: Clock,
) -> list[KernelRecord]:
    timed = candidates if info.counts else [*candidates, candidates[0]]
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as here, scratch(device, FOLDER) as there:
        program = timing_program("timing", [(c.spec, c.schedule, c.kernel) for c in timed], target)
        built = write_program(program, target, Path(here))
        path = f"{there}/timing"
        device.put(built["program"], path, executable=True)

        def launch(repeats: int) -> list[Outcome]:
            return _launch(timed, target, device, path, threads, timing, repeats, clock.nominal_ns)

        def record(candidate: Candidate, rows: list[Outcome]) -> KernelRecord:
            return _record(candidate, target, info, rows, clock)

        if info.counts:
            return [record(c, [row]) for c, row in zip(candidates, launch(timing.repeats), strict=True)]
        in_each = timing.repeats if target.cuda else max(ENOUGH, -(-timing.repeats // timing.launches))
        first = launch(in_each)
        if not any(isinstance(row, KernelRow) and row.reference_ns for row in first):
            rows, flags = _steadily(device, first, lambda: launch(timing.repeats))
            return [replace(record(c, [row]), flags=flags) for c, row in zip(candidates, rows, strict=True)]
        launches = _at_one_clock(first, lambda: launch(in_each), timing, clock)
        of_each = zip(*(x[:-1] for x in launches), strict=True)
        return [record(c, list(rows)) for c, rows in zip(candidates, of_each, strict=True)]


Outcome = KernelRow | str
"""Samples of a kernel in one launch, or why there are none."""


def _at_one_clock(
    first: list[Outcome], launch: Callable[[], list[Outcome]], timing: TimingOptions, clock: Clock
) -> list[list[Outcome]]:
    """The launches of a program, as many as planned, and more where the nominal clock was too rare for a kernel."""
    launches = [first]
    while True:
        of_each = [[r for r in rows if isinstance(r, KernelRow)] for rows in zip(*launches, strict=True)]
        nominal = nominal_clock(of_each, clock.nominal_ns)
        # A kernel that failed once has failed.
        whole = [rows for rows in of_each if len(rows) == len(launches)]
        if len(launches) >= timing.launches and all(len(said(rows, nominal)) >= ENOUGH for rows in whole):
            break
        if len(launches) == timing.launches + ATTEMPTS:
            break
        if len(launches) >= timing.launches:
            time.sleep(REST_S)
        launches.append(launch())
    clock.meet(of_each)
    return launches


def _steadily(
    device: Device, first: list[Outcome], launch: Callable[[], list[Outcome]]
) -> tuple[list[Outcome], tuple[str, ...]]:
    """Rows of a program whose last kernel is its first one once more: if these differ, all are measured again.

    Raises:
        DeviceError: the device's speed changed by far too much in every attempt.
    """
    attempts: list[tuple[float, list[Outcome]]] = []
    while len(attempts) < ATTEMPTS:
        if attempts:
            time.sleep(REST_S * len(attempts))
        *rows, last = first if not attempts else launch()
        # The smallest samples: a moment's disturbance spares some of them, a throttled clock none.
        ends = [min(row.samples_ns) if isinstance(row, KernelRow) else 0.0 for row in (rows[0], last)]
        low, high = sorted(ends)
        attempts.append((high / low - 1 if low > 0 else 0.0, rows))
        if attempts[-1][0] <= DRIFT:
            break
    drift, rows = min(attempts, key=lambda attempt: attempt[0])
    if drift > WORST_DRIFT:
        raise DeviceError(
            f"{device.url}: in all {ATTEMPTS} attempts its speed changed by {drift:.0%} or more while it timed kernels",
            hint="fix its clock (docs/boards), cool it, stop other programs; what was measured before is kept",
            drift=drift,
        )
    return rows, () if len(attempts) == 1 else ("drift",)


def _launch(
    candidates: Sequence[Candidate],
    target: Target,
    device: Device,
    program: str,
    threads: int,
    timing: TimingOptions,
    repeats: int,
    nominal_ns: float,
) -> list[Outcome]:
    """What one launch says of each kernel; it is launched again behind each one that stopped it."""
    outcomes: list[Outcome] = []
    sample_us = timing.sample_us * (GPU_SAMPLE if target.cuda else 1)
    while len(outcomes) < len(candidates):
        left = len(candidates) - len(outcomes)
        try:
            found = NativeProgram(device.run, (f"./{program}",), timing.timeout_s * left).kernels(
                warmup=timing.warmup,
                repeats=repeats,
                threads=threads,
                first=len(outcomes),
                min_ns=sample_us * 1000,
                weight_span=timing.weight_span,
                most=left,
                retakes=RETAKES * repeats,
                nominal_ns=round(nominal_ns),
            )
        except VerificationError as e:
            raise _Hung(e.message) from e
        stderr, code = found.ended.stderr.strip()[-300:], found.ended.returncode
        if target.cuda and code == ExitCode.NOT_OPENED:
            raise DeviceError(
                f"{device.url}: its GPU cannot be used for {target.name}: {stderr}",
                hint=f"choose a target of its GPU (docs/JETSON.md); {target.cores_hint}",
                target=target.name,
            )
        outcomes += found.rows
        if len(outcomes) < len(candidates):
            # The line that is missing is that of the kernel that stopped the program.
            problem = f"exit {code}: {stderr}" if code else "no result for it"
            outcomes.append(f"the timing program stopped: {problem}")
    return outcomes


def _record(
    candidate: Candidate,
    target: Target,
    info: DeviceInfo,
    outcomes: Sequence[Outcome],
    clock: Clock,
) -> KernelRecord:
    rows = []
    for outcome in outcomes:
        if isinstance(outcome, str):
            return _failed(candidate, info, outcome)
        if not outcome.finite:
            return _failed(candidate, info, "its output is not finite")
        if min(outcome.samples_ns) <= 0:
            return _failed(candidate, info, f"the device's clock gave {min(outcome.samples_ns)} ns")
        rows.append(outcome)
    found = figure(rows, clock)
    constants = rule_named(candidate.schedule).constants(candidate.spec, candidate.schedule, target)
    return KernelRecord(
        spec=candidate.spec,
        schedule=dict(candidate.schedule),
        status="ok",
        median_ns=found.latency_ns,
        spread_ns=found.spread_ns,
        min_ns=found.min_ns,
        samples=found.samples,
        object_bytes=candidate.kernel.bytes,
        weight_bytes=4 * sum(constants),
        evidence=info.evidence,
        reference_ns=found.reference_ns,
    )


def _failed(candidate: Candidate, info: DeviceInfo, error: str) -> KernelRecord:
    return KernelRecord(candidate.spec, dict(candidate.schedule), "failed", evidence=info.evidence, error=error)
