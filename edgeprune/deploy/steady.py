"""A latency that repeats: several launches of the program, until the quickest of them agree.

What disturbs a measurement (another process, an interrupt storm, a clock that still ramps up) only
ever adds time, and it lasts longer than one launch. So launches are repeated until the three with
the smallest medians agree, and their samples are the result; a launch that was disturbed is left
out as a whole, never sample by sample, so the median stays a median.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from edgeprune.compiler.manifest import Manifest
from edgeprune.deploy.checks import BenchResult, bench
from edgeprune.devices.protocol import Device, DeviceInfo

AGREEING = 3
AGREEMENT = 0.02
RESOLUTION_MS = 1e-3
MOST_LAUNCHES = 20
PAUSE_S = 0.03
PAIRS = 9
ATTEMPTS, REST_S = 4, 3.0


def steady_bench(
    device: Device,
    home: str,
    manifest: Manifest,
    *,
    warmup: int,
    repeats: int,
    threads: int,
    timeout_s: float,
    info: DeviceInfo,
) -> BenchResult:
    """Time the program in the folder ``home`` with ``repeats`` samples a launch.

    ``steady`` is False in the result if the three quickest of 20 launches still differ by more than
    2 %: the device was busy all the time. On a virtual clock one launch says it all.

    Raises:
        VerificationError: it crashes, hangs or prints no such samples.
    """
    launches: list[BenchResult] = []
    while True:
        launches.append(
            bench(
                device,
                home,
                manifest,
                warmup=warmup,
                repeats=repeats,
                threads=threads,
                timeout_s=timeout_s,
                info=info,
            )
        )
        if launches[0].clock == "virtual":
            return launches[0]
        result = _quickest(launches)
        if result.steady or len(launches) == MOST_LAUNCHES:
            return result
        if len(launches) >= AGREEING:
            time.sleep(PAUSE_S * len(launches))


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Two programs launched in turn: the quickest launches of each, and the median over the pairs of first / second."""

    first: BenchResult
    second: BenchResult
    ratio: float


def side_by_side(first: Callable[[], BenchResult], second: Callable[[], BenchResult]) -> SideBySide:
    """Compare two programs on a device whose speed changes from second to second.

    ``first`` and ``second`` launch the programs once. A slow phase meets both of a pair, so the ratio
    keeps its meaning where neither latency does.
    """
    pairs = [(first(), second()) for _ in range(PAIRS)]
    ratio = median(a.median_ms / b.median_ms for a, b in pairs)
    return SideBySide(_quickest([a for a, _ in pairs]), _quickest([b for _, b in pairs]), ratio)


def _quickest(launches: Sequence[BenchResult]) -> BenchResult:
    """The samples of the launches with the smallest medians, as one result."""
    quickest = sorted(launches, key=lambda r: r.median_ms)[:AGREEING]
    apart = quickest[-1].median_ms - quickest[0].median_ms
    return replace(
        quickest[0],
        samples_ns=tuple(s for r in quickest for s in r.samples_ns),
        launches=len(launches),
        steady=len(quickest) == AGREEING and apart <= max(RESOLUTION_MS, AGREEMENT * quickest[0].median_ms),
    )


def patient_bench(limit_ms: float | None, measure: Callable[[], BenchResult]) -> BenchResult:
    """``measure`` (a :func:`steady_bench`), again after a rest while it is over the limit; the quickest attempt.

    A slow phase of a shared computer can outlast one steady measurement, and agree with itself. A
    program is called too slow only if it stays so.
    """
    best = measure()
    for _ in range(1, ATTEMPTS):
        if limit_ms is None or best.median_ms <= limit_ms or best.clock == "virtual":
            break
        time.sleep(REST_S)
        best = min(best, measure(), key=lambda r: r.median_ms)
    return best
