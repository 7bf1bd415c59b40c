"""What a compiled file needs of the board that loads it, read from its ELF tables.

Formats: System V ABI (gABI 4.1), the ARM supplement (IHI 0044, e_flags), and the GNU version tables
of the Linux Standard Base (chapter 10.7), which name the C library's versions that are needed.
"""

from __future__ import annotations

import re
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from elftools.elf.segments import InterpSegment
from pydantic import BaseModel, ConfigDict

from edgeprune.errors import BundleError

_MAGIC = b"\x7fELF"
_MACHINES = {"EM_386": "x86", "EM_X86_64": "x86_64", "EM_ARM": "arm", "EM_AARCH64": "aarch64", "EM_RISCV": "riscv"}
_ARM_FLOAT = {0x400: "hard", 0x200: "soft"}  # EF_ARM_ABI_FLOAT_HARD, EF_ARM_ABI_FLOAT_SOFT
# What a damaged table leads pyelftools to, an offset that no file has among it.
_DAMAGED = (
    *(ELFError, ConstructError, UnicodeDecodeError, LookupError, TypeError, ValueError, AttributeError),
    *(OSError, OverflowError),
)


class Needs(BaseModel):
    """What one ELF file asks of the computer that loads it.

    Attributes:
        architecture: ``aarch64``, ``arm``, ``x86_64``, …; the ELF number where the name is not known here.
        bits: 32 or 64.
        float_abi: ``hard`` or ``soft`` on 32-bit ARM, else empty.
        interpreter: the dynamic loader; empty for a static program and for a library.
        libraries: shared libraries, in the order of the file.
        versions: versions of symbols those must have, sorted: ``GLIBC_2.17``, ``GLIBCXX_3.4.21``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: str
    bits: int
    float_abi: str = ""
    interpreter: str = ""
    libraries: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()

    @property
    def glibc(self) -> tuple[int, ...]:
        """Oldest glibc that has all that is asked for, (2, 17); empty if none is needed."""
        found = (re.fullmatch(r"GLIBC_(\d+(?:\.\d+)*)", version) for version in self.versions)
        return max((version_of(match[1]) for match in found if match), default=())

    @property
    def libc(self) -> str:
        """The C library needed, as a device names its own: ``glibc 2.17``, ``musl``; empty for none."""
        if self.glibc:
            return "glibc " + ".".join(map(str, self.glibc))
        if "ld-musl" in self.interpreter or any(name.startswith(("libc.musl", "ld-musl")) for name in self.libraries):
            return "musl"
        # zig's musl calls its library as glibc calls an alias of its own: libc.so, without a number.
        return "musl" if "libc.so" in self.libraries else "glibc" if "libc.so.6" in self.libraries else ""


def version_of(text: str) -> tuple[int, ...]:
    """``"2.36"`` as (2, 36), which compares as versions do."""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def read_needs(file: Path) -> Needs | None:
    """What an ELF file needs; None if it is none.

    Raises:
        BundleError: it begins like one and cannot be read to the end.
    """
    with file.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            return None
        stream.seek(0)
        try:
            return _needs(ELFFile(stream))
        except _DAMAGED as e:
            raise BundleError(f"{file} is a damaged program: {type(e).__name__}: {e}", hint="compile again") from e


_ALLOCATED = 0x2  # SHF_ALLOC
_SHARED = ".text.tvm."
"""Helpers that TVM puts into every object file, and of which a program has one copy at most."""


def loaded_bytes(file: Path) -> int:
    """Bytes that an object file adds to a program: code, constants and unwind tables, as they are aligned there.

    Debug sections, symbols and relocations stay behind.

    Raises:
        BundleError: it is no object file.
    """
    with file.open("rb") as stream:
        try:
            headers = [(s.name, s.header) for s in ELFFile(stream).iter_sections()]
            kept = (
                (h["sh_size"], max(h["sh_addralign"], 1))
                for name, h in headers
                if h["sh_flags"] & _ALLOCATED and h["sh_type"] != "SHT_NOBITS" and not name.startswith(_SHARED)
            )
            return sum(-(-size // align) * align for size, align in kept)
        except _DAMAGED as e:
            raise BundleError(
                f"{file} is no object file: {type(e).__name__}: {e}", hint="remove it, and build again"
            ) from e


def _needs(elf: ELFFile) -> Needs:
    header = elf.header
    interpreter, libraries, versions = "", [], set()
    for segment in elf.iter_segments():
        if isinstance(segment, InterpSegment):
            interpreter = segment.get_interp_name()
    for section in elf.iter_sections():
        if isinstance(section, DynamicSection):
            libraries += [str(vars(tag)["needed"]) for tag in section.iter_tags("DT_NEEDED")]
        elif isinstance(section, GNUVerNeedSection):
            versions |= {needed.name for _, entries in section.iter_versions() for needed in entries}
    machine = str(header["e_machine"])
    arm = machine == "EM_ARM"
    return Needs(
        architecture=_MACHINES.get(machine, machine),
        bits=elf.elfclass,
        float_abi=next((name for bit, name in _ARM_FLOAT.items() if arm and header["e_flags"] & bit), ""),
        interpreter=interpreter,
        libraries=tuple(libraries),
        versions=tuple(sorted(versions, key=lambda v: (v.split("_")[0], version_of(v)))),
    )
