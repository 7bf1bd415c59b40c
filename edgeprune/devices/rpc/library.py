"""The library that a TVM RPC server gets: built for the server's processor and C library.

Which these are is asked of the server itself: of the headers of the program that it runs, because
the kernel may be of another word size, and because a server without TVM's compiler parts has no
function that would tell.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from edgeprune.architectures import ARCHITECTURES
from edgeprune.board import zig
from edgeprune.errors import DeviceError, MissingDependencyError
from edgeprune.home import home

FUNCTION = "edgeprune_exec"

_FLAGS = "-std=c11 -O2 -g0 -Wall -Wextra -fno-sanitize=all -fvisibility=hidden -shared -fPIC -Wl,-Bsymbolic -s"
_MACHINES = {a.elf_machine: a.elf for a in ARCHITECTURES.values()}
# The oldest that the programs of edgeprune's targets run with.
_GLIBC = "2.28"
_PT_INTERP = 3


@dataclass(frozen=True, slots=True)
class ElfHeader:
    """Facts from the headers of an ELF program: processor and dynamic loader."""

    machine: int
    interpreter: str  # the dynamic loader: it names the C library

    @classmethod
    def of(cls, data: bytes) -> ElfHeader:
        """Raises:
        ValueError: no little-endian ELF program.
        """
        if data[:4] != b"\x7fELF" or data[5:6] != b"\1" or data[4:5] not in (b"\1", b"\2"):
            raise ValueError("not a little-endian ELF program")
        wide = data[4] == 2
        try:
            (machine,) = struct.unpack_from("<H", data, 18)
            (table,) = struct.unpack_from("<Q", data, 32) if wide else struct.unpack_from("<I", data, 28)
            entry, count = struct.unpack_from("<HH", data, 54 if wide else 42)
            for at in range(table, table + entry * count, entry):
                kind, *_ = struct.unpack_from("<I", data, at)
                if kind == _PT_INTERP:
                    form, where = ("<Q", 8) if wide else ("<I", 4)
                    (offset,) = struct.unpack_from(form, data, at + where)
                    (size,) = struct.unpack_from(form, data, at + (32 if wide else 16))
                    return cls(machine, data[offset : offset + size].rstrip(b"\0").decode("ascii", "replace"))
        except struct.error as e:
            raise ValueError("a program that is cut off") from e
        return cls(machine, "")

    @property
    def zig_target(self) -> str:
        """Raises:
        ValueError: no library can be built for it.
        """
        if self.machine not in _MACHINES:
            raise ValueError(f"it runs on a processor of another kind (ELF machine {self.machine})")
        processor = _MACHINES[self.machine]
        loader = self.interpreter.rpartition("/")[2]
        float_abi = ("eabihf" if "armhf" in loader else "eabi") if processor == "arm" else ""
        if loader.startswith("ld-musl"):
            return f"{processor}-linux-musl{float_abi}"
        return f"{processor}-linux-gnu{float_abi}.{_GLIBC}"


def library_for(url: str, program: ElfHeader) -> Path:
    """The library, built when it is not there yet.

    Raises:
        DeviceError: there is none for such a board.
        MissingDependencyError: ziglang is not installed.
    """
    try:
        target = program.zig_target
    except ValueError as e:
        raise DeviceError(f"{url}: edgeprune has nothing to run commands with on this server: {e}") from e
    folder = Path(str(resources.files("edgeprune") / "board" / "rpc"))
    sources = sorted(folder.glob("*.c"))
    digest = hashlib.sha256(repr((target, _FLAGS)).encode())
    for file in (*sources, *sorted(folder.glob("*.h"))):
        digest.update(file.read_bytes())
    library = home() / "rpc" / f"edgeprune-{digest.hexdigest()[:16]}.so"
    if not library.is_file():
        library.parent.mkdir(parents=True, exist_ok=True)
        _build(target, sources, library)
    return library


def _build(target: str, sources: list[Path], library: Path) -> None:
    partial = library.with_suffix(f".{secrets.token_hex(4)}.so")
    try:
        paths = (str(path.absolute()) for path in (partial, *sources))
        done = zig.cc(["-target", target, *_FLAGS.split(), "-o", *paths], library.parent)
        if done.returncode != 0:
            raise DeviceError(
                f"building {library.name} for {target} failed: {done.stderr.strip()[-800:]}",
                hint="edgeprune doctor checks the linker",
                stderr=done.stderr,
            )
        os.replace(partial, library)
    except ModuleNotFoundError:
        raise MissingDependencyError("the package ziglang is not installed", hint="pip install ziglang") from None
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
