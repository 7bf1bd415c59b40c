"""The fingerprint of a measurement: target, device, compiler, schedules, threads, clock."""

from __future__ import annotations

from edgeprune.compiler.kernels.registry import rule_named, schedules_version
from edgeprune.compiler.objects import compiler_versions, default_schedule
from edgeprune.devices.protocol import DeviceInfo
from edgeprune.errors import TargetError
from edgeprune.gpus import runs_on
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
    """What must agree for latencies to be used again. Evidence and memory size play no part in speed.

    Raises:
        MissingDependencyError: what compiles for the target's GPU is not installed.
    """
    device = {"cpu": info.cpu, "machine": info.machine, "cores": info.cores, "features": list(info.features)}
    if target.cuda:
        # Threads of the processor change nothing there, and the GPU that is not used plays no part elsewhere.
        threads = 1
        device |= {"gpu": info.gpu.name, "gpu_arch": info.gpu.arch} if info.gpu else {}
    return Fingerprint(
        target=target.name,
        target_hash=target.digest,
        device=device,
        compiler=dict(compiler_versions(target)),
        schedules=schedules_version(target),
        threads=threads,
        clock=info.clock,
        weight_span=weight_span(kernels, target),
    )


def require_match(target: Target, info: DeviceInfo) -> None:
    """Refuse a device that cannot run code compiled for ``target``.

    Raises:
        TargetError: another architecture, CPU features that are missing, another GPU, or nothing is built for that
            kind of target.
    """
    target.require_buildable()
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
    if target.cuda and info.gpu and not runs_on(target.cuda.arch, info.gpu.arch):
        raise TargetError(
            f"target {target.name} is for GPUs of {target.cuda.arch}, the device has {info.gpu.name} ({info.gpu.arch})",
            hint="choose a target of the device's GPU (docs/JETSON.md); on this computer: --target host_gpu",
            target=target.name,
            gpu=info.gpu.arch,
        )
