"""The fingerprint of a measurement: target, device, compiler, schedules, threads, clock."""

from __future__ import annotations

from edgeprune.compiler.kernels.registry import SCHEDULES_VERSION, rule_named
from edgeprune.compiler.objects import compiler_versions, default_schedule
from edgeprune.devices.protocol import DeviceInfo
from edgeprune.errors import TargetError
from edgeprune.graph.channels import KernelGraph
from edgeprune.latency.records import Fingerprint
from edgeprune.targets import Target

LARGEST_SPAN = 64 << 20


def weight_span(kernels: KernelGraph, target: Target) -> int:
    """Bytes of packed weights of a network, as a power of two: which caches they fall out of.

    At most 64 MiB: more is beyond every cache, and a board has to hold it while it is measured.
    """
    total = 0
    for node in kernels.nodes:
        schedule = default_schedule(node.spec, target)
        total += 4 * sum(rule_named(schedule).constants(node.spec, schedule, target))
    return min(1 << max(0, total - 1).bit_length(), LARGEST_SPAN)


def fingerprint_of(target: Target, info: DeviceInfo, threads: int, kernels: KernelGraph) -> Fingerprint:
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
        weight_span=weight_span(kernels, target),
    )


def require_match(target: Target, info: DeviceInfo) -> None:
    """Refuse a device that cannot run code compiled for ``target``.

    Raises:
        TargetError: another architecture, CPU features that are missing, or kernels that do not run on the cores.
    """
    target.require_cpu()
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
