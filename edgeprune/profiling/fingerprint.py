"""The fingerprint of a measurement: target, device, compiler, schedules, threads, clock."""

from __future__ import annotations

from edgeprune.compiler.kernels.registry import SCHEDULES_VERSION
from edgeprune.compiler.objects import compiler_versions
from edgeprune.devices.protocol import DeviceInfo
from edgeprune.errors import TargetError
from edgeprune.latency.records import Fingerprint
from edgeprune.targets import Target


def fingerprint_of(target: Target, info: DeviceInfo, threads: int) -> Fingerprint:
    """What must agree for latencies to be used again. Evidence and memory size play no part in speed."""
    device = {"cpu": info.cpu, "machine": info.machine, "cores": info.cores, "features": list(info.features)}
    return Fingerprint(
        target=target.name,
        target_hash=target.digest,
        device=device,
        compiler=dict(compiler_versions()),
        schedules=SCHEDULES_VERSION,
        threads=threads,
        clock=info.clock,
    )


def require_match(target: Target, info: DeviceInfo) -> None:
    """Refuse a device that cannot run code compiled for ``target``.

    Raises:
        TargetError: another architecture, or CPU features that are missing.
    """
    if info.machine != target.arch:
        raise TargetError(
            f"target {target.name} is for {target.arch}, the device is {info.machine}",
            hint="choose a target of the device's architecture: edgeprune targets",
            target=target.name,
            machine=info.machine,
        )
    if missing := target.missing_features(info.features):
        raise TargetError(
            f"target {target.name} needs CPU features that the device lacks: {', '.join(missing)}",
            hint="choose a target with fewer requirements: edgeprune targets",
            target=target.name,
            missing=list(missing),
        )
