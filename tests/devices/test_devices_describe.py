"""/proc/cpuinfo of real boards (excerpts, as their kernels print them)."""

import pytest

from edgeprune.devices.describe import cpu_of, describe_with, ram_bytes_of
from edgeprune.devices.protocol import Completed
from edgeprune.errors import DeviceError
from edgeprune.targets import list_targets

RPI4_64 = """processor	: 0
BogoMIPS	: 108.00
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd08
CPU revision	: 3

processor	: 1
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41
CPU part	: 0xd08

Hardware	: BCM2835
Model		: Raspberry Pi 4 Model B Rev 1.1
"""
RPI2_32 = """processor	: 0
model name	: ARMv7 Processor rev 5 (v7l)
Features	: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm
CPU part	: 0xc07
"""
BIG_LITTLE = (
    "processor : 0\nFeatures : fp asimd\nCPU part : 0xd03\n\nprocessor : 1\nFeatures : fp asimd\nCPU part : 0xd08\n"
)
X86 = """processor	: 0
model name	: Intel(R) Xeon(R)  Processor @ 2.10GHz
flags		: fpu vme sse4_2 avx avx2 fma avx512f avx512vl avx512_vnni hypervisor

"""


@pytest.mark.parametrize(
    ("text", "cpu", "features"),
    [
        (RPI4_64, "Cortex-A72", ("asimd", "crc32")),
        (RPI2_32, "Cortex-A7", ("idiva", "neon", "vfpv3", "vfpv4")),
        (BIG_LITTLE, "Cortex-A53 + Cortex-A72", ("asimd",)),
        (
            X86,
            "Intel(R) Xeon(R) Processor @ 2.10GHz",
            ("avx", "avx2", "avx512_vnni", "avx512f", "avx512vl", "fma", "sse4_2"),
        ),
        ("CPU part : 0xabc\n", "ARM part 0xabc", ()),
        ("", "", ()),
    ],
)
def test_cpu_and_features(text, cpu, features):
    assert cpu_of(text) == (cpu, features)


@pytest.mark.parametrize("target", list_targets(), ids=lambda t: t.name)
def test_every_feature_that_a_target_requires_can_be_reported(target):
    """A requirement that no board can ever report would refuse every board."""
    key = "flags" if target.arch == "x86_64" else "CPU part : 0xd08\nFeatures"
    _, reported = cpu_of(f"{key} : {' '.join(target.requires)}\n")
    assert target.missing_features(reported) == ()


def test_ram_does_not_move_with_what_one_boot_reserves():
    assert ram_bytes_of("MemTotal:        3885396 kB\n") == ram_bytes_of("MemTotal:        3885012 kB\n") > 3 << 30
    assert ram_bytes_of("") == 0


def test_a_musl_board_without_getconf():
    answers = {
        ("uname", "-sm"): Completed(0, "Linux armv7l\n", ""),
        ("cat", "/proc/cpuinfo"): Completed(0, RPI2_32, ""),
        ("ldd", "--version"): Completed(1, "", "musl libc (armhf)\nVersion 1.2.4\nDynamic Program Loader\n"),
    }
    info = describe_with(lambda argv: answers.get(tuple(argv), Completed(127, "", "not found")))
    assert (info.machine, info.system, info.libc, info.cores) == ("armv7l", "Linux", "musl 1.2.4", 1)


def test_something_that_is_no_posix_system_is_refused():
    with pytest.raises(DeviceError):
        describe_with(lambda argv: Completed(127, "", "not found"))
