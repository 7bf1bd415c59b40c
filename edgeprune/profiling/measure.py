"""Timing kernels on a device: one program for a batch of them, put, run, read, removed."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from edgeprune.latency.records import KernelRecord, spread
from edgeprune.targets import Target

FOLDER = "profiling"
DRIFT, WORST_DRIFT = 0.25, 1.0
"""How much longer one kernel may take at one end of a program than at the other: above the first, all kernels are
measured again; above the second, their latencies are worth nothing. Shared computers swing by a third for minutes.
"""
ATTEMPTS, REST_S = 5, 1.0
GPU_SAMPLE = 10
"""How much longer a sample is on a GPU: it is waited for twice, which takes some ten microseconds each time."""


@dataclass(frozen=True, slots=True)
class TimingOptions:
    """Options of timing a kernel. A sample is the mean over as many calls as fill ``sample_us``
    (:data:`GPU_SAMPLE` times as much on a GPU); each call takes its weights from the next
    stretch of ``weight_span`` bytes, as it would in its network.

    ``timeout_s`` is what each kernel may take, all its samples together; a program of many may take
    as often as much.
    """

    warmup: int = 2
    repeats: int = 15
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
) -> list[KernelRecord]:
    """Time every candidate on the device; one record each, in order.

    A kernel that crashes, hangs, fails or yields values that are not finite gets a failed record,
    and the rest go on. A program that did not end in time does not say at which kernel it hung, so
    it is halved until one is left. Where the device's speed changed meanwhile (a clock that throttles, another load),
    all are measured again, and the records are flagged "drift".

    Raises:
        DeviceError: its speed changes all the time, by far too much.
        DeviceError: its GPU cannot be used.
        DeviceUnreachableError: the device is gone; nothing that came before is lost to the caller's
            store if it stores batch by batch.
    """
    try:
        return _time(candidates, target, device, info, threads, timing)
    except _Hung as e:
        if len(candidates) == 1:
            return [_failed(candidates[0], info, str(e))]
        middle = len(candidates) // 2
        halves = (candidates[:middle], candidates[middle:])
        return [r for half in halves for r in measure(half, target, device, info, threads=threads, timing=timing)]


class _Hung(Exception):
    """A timing program did not end in time."""


def _time(
    candidates: Sequence[Candidate],
    target: Target,
    device: Device,
    info: DeviceInfo,
    threads: int,
    timing: TimingOptions,
) -> list[KernelRecord]:
    timed = candidates if info.counts else [*candidates, candidates[0]]
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as here, scratch(device, FOLDER) as there:
        program = timing_program("timing", [(c.spec, c.schedule, c.kernel) for c in timed], target)
        built = write_program(program, target, Path(here))
        path = f"{there}/timing"
        device.put(built["program"], path, executable=True)
        return _steadily(device, lambda: _run(timed, target, device, info, path, threads, timing), info)


def _steadily(device: Device, run: Callable[[], list[KernelRecord]], info: DeviceInfo) -> list[KernelRecord]:
    """Records of a program whose last kernel is its first one once more: if these differ, all are measured again.

    Raises:
        DeviceError: the device's speed changed by far too much in every attempt.
    """
    if info.counts:
        return run()
    attempts: list[tuple[float, list[KernelRecord]]] = []
    while len(attempts) < ATTEMPTS:
        if attempts:
            time.sleep(REST_S * len(attempts))
        *records, last = run()
        first = records[0]
        # The smallest samples: a moment's disturbance spares some of them, a throttled clock none.
        times = sorted((first.min_ns, last.min_ns)) if first.ok and last.ok else (1.0, 1.0)
        attempts.append((times[1] / times[0] - 1, records))
        if attempts[-1][0] <= DRIFT:
            break
    drift, records = min(attempts, key=lambda attempt: attempt[0])
    if drift > WORST_DRIFT:
        raise DeviceError(
            f"{device.url}: in all {ATTEMPTS} attempts its speed changed by {drift:.0%} or more while it timed kernels",
            hint="fix its clock (docs/boards), cool it, stop other programs; what was measured before is kept",
            drift=drift,
        )
    return records if len(attempts) == 1 else [replace(r, flags=(*r.flags, "drift")) for r in records]


def _run(
    candidates: Sequence[Candidate],
    target: Target,
    device: Device,
    info: DeviceInfo,
    program: str,
    threads: int,
    timing: TimingOptions,
) -> list[KernelRecord]:
    records: list[KernelRecord] = []
    sample_us = timing.sample_us * (GPU_SAMPLE if target.cuda else 1)
    while len(records) < len(candidates):
        left = len(candidates) - len(records)
        try:
            found = NativeProgram(device.run, (f"./{program}",), timing.timeout_s * left).kernels(
                warmup=timing.warmup,
                repeats=timing.repeats,
                threads=threads,
                first=len(records),
                min_ns=sample_us * 1000,
                weight_span=timing.weight_span,
                most=left,
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
        measured = zip(candidates[len(records) :], found.rows, strict=False)
        records += [_record(candidate, target, info, row) for candidate, row in measured]
        if len(records) < len(candidates):
            # The line that is missing is that of the kernel that stopped the program.
            problem = f"exit {code}: {stderr}" if code else "no result for it"
            records.append(_failed(candidates[len(records)], info, f"the timing program stopped: {problem}"))
    return records


def _record(candidate: Candidate, target: Target, info: DeviceInfo, row: KernelRow) -> KernelRecord:
    samples = row.samples_ns
    if not row.finite:
        return _failed(candidate, info, "its output is not finite")
    if min(samples) <= 0:
        return _failed(candidate, info, f"the device's clock gave {min(samples)} ns")
    constants = rule_named(candidate.schedule).constants(candidate.spec, candidate.schedule, target)
    return KernelRecord(
        spec=candidate.spec,
        schedule=dict(candidate.schedule),
        status="ok",
        median_ns=statistics.median(samples),
        spread_ns=spread(samples),
        min_ns=min(samples),
        samples=len(samples),
        object_bytes=candidate.kernel.bytes,
        weight_bytes=4 * sum(constants),
        evidence=info.evidence,
    )


def _failed(candidate: Candidate, info: DeviceInfo, error: str) -> KernelRecord:
    return KernelRecord(candidate.spec, dict(candidate.schedule), "failed", evidence=info.evidence, error=error)
