"""Description of a Linux board, asked with commands alone, so that every transport gets the same answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from edgeprune.devices.protocol import Completed, DeviceInfo
from edgeprune.errors import DeviceError

# What code generation chooses by. Other flags change with the kernel and the hypervisor, and would
# make a profile look foreign on the very board that it was measured on.
# fmt: off
_X86_FEATURES = frozenset({
    "abm", "amx_bf16", "amx_int8", "amx_tile", "avx", "avx2", "avx512_bf16", "avx512_fp16", "avx512_vnni",
    "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl", "avx_vnni", "bmi1", "bmi2", "cx16", "f16c", "fma",
    "movbe", "popcnt", "sse4_1", "sse4_2", "ssse3",
})
_ARM_FEATURES = frozenset({
    "asimd", "asimddp", "asimdfhm", "asimdhp", "asimdrdm", "atomics", "bf16", "crc32", "fphp", "i8mm", "idiva", "lrcpc",
    "neon", "sme",
    "sve", "sve2", "svei8mm", "vfpv3", "vfpv4",
})
# fmt: on
# CPU part numbers of implementer 0x41 (Arm), from the MIDR tables of the cores' manuals: the
# "model name" line of ARM kernels is absent or says only "ARMv7 Processor rev 3".
_ARM_PARTS = {
    0xC07: "Cortex-A7",
    0xC08: "Cortex-A8",
    0xC09: "Cortex-A9",
    0xC0F: "Cortex-A15",
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE",
}
_RAM_STEP = 64 << 20


def describe_with(run: Callable[[Sequence[str]], Completed]) -> DeviceInfo:
    """Ask ``uname``, ``/proc`` and the C library who the board is.

    Args:
        run: runs one command on the board.

    Raises:
        DeviceError: the board has no ``uname``; whatever ``run`` raises.
    """

    def ask(*argv: str) -> str:
        done = run(argv)
        return done.stdout if done.returncode == 0 else ""

    system, _, machine = ask("uname", "-sm").strip().partition(" ")
    if not machine:
        raise DeviceError("the device does not answer uname", hint="a POSIX system is needed on the board")
    cpuinfo = ask("cat", "/proc/cpuinfo")
    cpu, features = cpu_of(cpuinfo)
    return DeviceInfo(
        machine=machine,
        system=system,
        cpu=cpu or machine,
        cores=_cores_of(cpuinfo) or int(ask("getconf", "_NPROCESSORS_ONLN") or 1),
        ram_bytes=ram_bytes_of(ask("cat", "/proc/meminfo")),
        features=features,
        libc=ask("getconf", "GNU_LIBC_VERSION").strip() or _musl_of(run(("ldd", "--version"))),
    )


def cpu_of(cpuinfo: str) -> tuple[str, tuple[str, ...]]:
    """Model name and sorted features from the text of ``/proc/cpuinfo``.

    A board with cores of several kinds names each kind once: ``Cortex-A53 + Cortex-A72``.
    """
    parts = {int(part, 16) for part in _values(cpuinfo, "CPU part")}
    if parts:
        name = " + ".join(_ARM_PARTS.get(part, f"ARM part {part:#x}") for part in sorted(parts))
        flags, wanted = _values(cpuinfo, "Features"), _ARM_FEATURES
    else:
        name = next(iter(_values(cpuinfo, "model name")), "")
        flags, wanted = _values(cpuinfo, "flags"), _X86_FEATURES
    found = set(flags[0].split()) if flags else set()
    return " ".join(name.split()), tuple(sorted(found & wanted))


def ram_bytes_of(meminfo: str) -> int:
    """Total RAM from the text of ``/proc/meminfo``, rounded to 64 MiB; 0 if it is not told.

    ``MemTotal`` leaves out what the kernel reserved at boot, which moves by a few pages from one
    boot to the next.
    """
    found = re.search(r"^MemTotal:\s*(\d+) kB", meminfo, re.MULTILINE)
    return round(int(found[1]) * 1024 / _RAM_STEP) * _RAM_STEP if found else 0


def _cores_of(cpuinfo: str) -> int:
    return len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE))


def _values(cpuinfo: str, key: str) -> list[str]:
    return [text.strip() for text in re.findall(rf"^{key}\s*:(.*)$", cpuinfo, re.MULTILINE)]


def _musl_of(ldd: Completed) -> str:
    found = re.search(r"^musl libc.*\nVersion (\S+)", ldd.stdout + ldd.stderr, re.MULTILINE)
    return f"musl {found[1]}" if found else ""
