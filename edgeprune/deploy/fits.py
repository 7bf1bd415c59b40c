"""Whether a device could run a bundle at all, told from ELF tables before anything is sent."""

from __future__ import annotations

from pathlib import Path

from edgeprune.architectures import RUNS
from edgeprune.compiler.cuda.nvrtc import embedded_gpus
from edgeprune.compiler.elf import Needs, read_needs, version_of
from edgeprune.compiler.manifest import Manifest
from edgeprune.devices.protocol import DeviceInfo
from edgeprune.errors import BundleError
from edgeprune.gpus import runs_on


def require_fit(bundle: Path, manifest: Manifest, info: DeviceInfo) -> None:
    """Refuse a bundle with a file that the device's processor, C library or GPU cannot load.

    What cannot be known passes: files that are not ELF, machines that are not listed here, and
    devices that do not tell their C library or GPU. The golden check runs the program before anything is
    switched.

    Raises:
        BundleError: with what is needed and what is there.
    """
    for name, entry in sorted(manifest.files.items()):
        if entry.deploy and (needs := read_needs(bundle / name)) is not None:
            # Not from the manifest, though it says the same: the file is what will be loaded.
            _require_processor(bundle / name, needs, info)
            _require_libc(bundle / name, needs, info)
            _require_gpu(bundle / name, info)


def _require_processor(file: Path, needs: Needs, info: DeviceInfo) -> None:
    runs = RUNS.get(info.machine)
    if runs is not None and (needs.architecture, needs.bits) not in runs:
        built_for = f"{needs.architecture} ({needs.bits} bit)"
        raise BundleError(
            f"{file} is built for {built_for} and the device is {info.machine}",
            hint="compile for the target of this device",
            built_for=built_for,
            device=info.machine,
        )


def _require_libc(file: Path, needs: Needs, info: DeviceInfo) -> None:
    if not needs.libc or not info.libc:
        return
    family, _, version = info.libc.partition(" ")
    if needs.libc.split()[0] != family:
        what, hint = f"{needs.libc.split()[0]}, another C library", "compile for the C library of this device"
    elif needs.glibc > version_of(version):
        what, hint = needs.libc, f"compile with a zig_target that ends in .{version} or less (docs/TARGETS.md)"
    else:
        return
    raise BundleError(f"{file} needs {what}; the device has {info.libc}", hint=hint, needs=needs.libc, device=info.libc)


def _require_gpu(file: Path, info: DeviceInfo) -> None:
    if info.gpu is None:
        return
    built_for = sorted({code for code in embedded_gpus(file.read_bytes()) if not runs_on(code, info.gpu.arch)})
    if built_for:
        raise BundleError(
            f"{file} is built for GPUs of {', '.join(built_for)}; the device has {info.gpu.name} ({info.gpu.arch})",
            hint="compile for the target of this device's GPU",
            built_for=built_for,
            device=info.gpu.arch,
        )
