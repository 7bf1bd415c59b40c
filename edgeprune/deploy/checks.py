"""The checks that a release passes on the device before it counts: golden output and latency."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from edgeprune.compiler.manifest import Manifest
from edgeprune.devices.protocol import Completed, Device, DeviceInfo
from edgeprune.errors import DeviceError, DeviceUnreachableError, VerificationError

_OUTPUTS_DIFFER = 7  # docs/BOARD.md


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """How far the device's output is from the golden one; ``scale`` is the largest expected value."""

    max_abs_diff: float
    scale: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BenchResult:
    """End-to-end latencies of one release on one device.

    ``launches`` of the program were timed; ``steady``: the quickest of them agreed (deploy/steady.py).
    """

    samples_ns: tuple[float, ...]
    clock: str
    evidence: str
    launches: int = 1
    steady: bool = True

    @property
    def median_ms(self) -> float:
        return median(self.samples_ns) / 1e6

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "median_ms": self.median_ms}


def check_golden(device: Device, home: str, manifest: Manifest, *, timeout_s: float) -> GoldenResult:
    """Run the program in the folder ``home`` on its golden input, there on the device.

    Raises:
        VerificationError: it crashes, hangs or computes something else.
    """
    golden = manifest.golden
    done = run_program(
        device,
        home,
        manifest,
        [
            "check",
            *(part for name in golden.inputs for part in ("--input", f"{home}/{name}")),
            *(part for name in golden.outputs for part in ("--expect", f"{home}/{name}")),
            *("--rtol", repr(golden.rtol), "--atol", repr(golden.atol), "--threads", str(manifest.threads)),
        ],
        timeout_s=timeout_s,
    )
    if done.returncode not in (0, _OUTPUTS_DIFFER):
        raise crashed("check", done)
    data = _object(done, "check")
    try:
        scale = float(data["scale"])
        if data["max_abs_diff"] is None:
            raise VerificationError("the output is not finite", max_abs_diff=None, scale=scale)
        result = GoldenResult(float(data["max_abs_diff"]), scale)
    except (KeyError, TypeError, ValueError) as e:
        raise VerificationError("check prints no difference", stdout=done.stdout) from e
    if done.returncode != 0 or data.get("ok") is not True:
        raise VerificationError(
            f"the output differs from the golden one by {result.max_abs_diff:g} at a scale of {result.scale:g} "
            f"(rtol {golden.rtol:g}, atol {golden.atol:g})",
            **result.to_json(),
        )
    return result


def bench(
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
    """Time the program in the folder ``home``.

    Args:
        info: what the device said of itself: its figures have its evidence level.

    Raises:
        VerificationError: it crashes, hangs or prints no such samples.
    """
    arguments = ["bench", "--warmup", str(warmup), "--repeats", str(repeats), "--threads", str(threads)]
    done = run_program(device, home, manifest, arguments, timeout_s=timeout_s)
    if done.returncode != 0:
        raise crashed("bench", done)
    data = _object(done, "bench")
    try:
        samples = tuple(float(sample) for sample in data["samples"])
        clock, unit = str(data["clock"]), data["unit"]
    except (KeyError, TypeError, ValueError) as e:
        raise VerificationError("bench prints no samples", stdout=done.stdout) from e
    if unit != "ns" or len(samples) != repeats or not all(math.isfinite(s) and s > 0 for s in samples):
        raise VerificationError(f"bench does not print {repeats} positive samples in ns", stdout=done.stdout)
    if clock == "virtual":  # never measured, whatever device it ran on
        return BenchResult(samples, clock, "simulated")
    # The program knows which clock it reads, and not what that counts.
    return BenchResult(samples, info.clock if info.counts else clock, info.evidence)


def require_latency(result: BenchResult, budget_ms: float, tolerance: float) -> None:
    """Raises:
    VerificationError: the median is above ``budget_ms * (1 + tolerance)``.
    """
    if result.median_ms > budget_ms * (1 + tolerance):
        raise VerificationError(
            f"a median latency of {result.median_ms:.4g} ms ({result.evidence}) is over the budget of {budget_ms:g} ms",
            latency_ms=result.median_ms,
            budget_ms=budget_ms,
            tolerance=tolerance,
            evidence=result.evidence,
        )


def run_program(device: Device, home: str, manifest: Manifest, arguments: list[str], *, timeout_s: float) -> Completed:
    """Raises:
    VerificationError: the device answers and the program does not end.
    """
    try:
        return device.run([f"{home}/{manifest.program}", *arguments], timeout_s=timeout_s)
    except DeviceUnreachableError:
        raise
    except DeviceError as e:
        raise VerificationError(f"{arguments[0]} does not end: {e.message}") from e


def crashed(command: str, done: Completed) -> VerificationError:
    """The error for a program that neither succeeded nor failed by the rules of docs/BOARD.md."""
    stderr = done.stderr.strip()
    last = stderr.splitlines()[-1] if stderr else "no message"
    loader = "GLIBC_" in stderr or done.returncode in (126, 127)
    return VerificationError(
        f"{command} failed with exit code {done.returncode}: {last}",
        hint="the program does not fit the C library or processor of the board: compile for its libc" if loader else "",
        returncode=done.returncode,
        stderr=stderr,
    )


def _object(done: Completed, command: str) -> dict[str, Any]:
    lines = done.stdout.strip().splitlines()
    try:
        data = json.loads(lines[-1]) if lines else None
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise VerificationError(f"{command} prints no JSON object", stdout=done.stdout, stderr=done.stderr)
    return data
