"""What one measurement of one kernel says, and the fingerprint of where it was taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgeprune.graph.spec import KernelSpec

EVIDENCE = ("measured", "emulated", "simulated", "compiled")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Everything that must agree for a latency table to be used again.

    Attributes:
        target: name of the target, and ``target_hash`` the digest of its checked contents.
        device: cpu model, machine, cores, features (stable over reboots).
        compiler: package name -> version (apache-tvm, ziglang, …).
        schedules: version of the schedule rules.
        threads: threads the kernels ran on.
        clock: "monotonic" or "virtual".
    """

    target: str
    target_hash: str
    device: Mapping[str, Any]
    compiler: Mapping[str, str]
    schedules: str
    threads: int
    clock: str = "monotonic"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class KernelRecord:
    """One kernel, one schedule, one device: what was measured.

    ``status`` is "ok" or "failed" (then ``error`` says why and the figures are 0).
    """

    spec: KernelSpec
    schedule: Mapping[str, Any]
    status: str
    median_ns: float = 0.0
    spread_ns: float = 0.0  # interquartile range
    min_ns: float = 0.0
    samples: int = 0
    object_bytes: int = 0  # machine code and constants of the kernel, without weights
    weight_bytes: int = 0  # packed weights as stored
    evidence: str = "measured"
    error: str = ""
    flags: tuple[str, ...] = field(default=())  # "drift": measured again because the clock drifted
