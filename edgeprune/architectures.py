"""Architectures of processors, one record each: all that edgeprune has to know of one, in one place.

A new architecture is one record here, a generic target file, and kernels that were looked at on it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Architecture:
    """What a processor's architecture is called and can do.

    Attributes:
        name: as ``uname -m`` and target files say it.
        elf: its name in ELF headers (compiler/elf.py), and ``elf_machine`` the number there.
        bits: of an address.
        runs: (ELF name, bits) of the programs that its kernel starts: 64-bit kernels start 32-bit programs, too.
        triples: how LLVM triples of it begin.
        generic: target for a computer of it that no other target fits.
        gpus: whether CUDA targets are composed for computers of it.
        vector_registers: architectural vector registers; AVX-512 has 32 whatever this says.
        memory_operands: whether a multiplication reads one factor from memory; else it takes a lane of a register.
        qemu: program that runs its programs elsewhere, and ``static`` what the linker calls it with musl for that.
        oldest: processor that a generic target promises to run on, so that an instruction too new for it is found.
    """

    name: str
    elf: str
    elf_machine: int
    bits: int
    runs: frozenset[tuple[str, int]]
    triples: tuple[str, ...]
    generic: str
    gpus: bool = False
    vector_registers: int = 16
    memory_operands: bool = False
    qemu: str = ""
    static: str = ""
    oldest: str = ""


_ARM_32 = frozenset({("arm", 32)})

ARCHITECTURES = {
    a.name: a
    for a in (
        Architecture(
            name="x86_64",
            elf="x86_64",
            elf_machine=62,
            bits=64,
            runs=frozenset({("x86_64", 64), ("x86", 32)}),
            triples=("x86_64-",),
            generic="x86_64_sse4",
            gpus=True,
            memory_operands=True,
            static="x86_64-linux-musl",
        ),
        Architecture(
            name="aarch64",
            elf="aarch64",
            elf_machine=183,
            bits=64,
            runs=frozenset({("aarch64", 64)}) | _ARM_32,
            triples=("aarch64-",),
            generic="aarch64_generic",
            gpus=True,
            vector_registers=32,
            qemu="qemu-aarch64",
            static="aarch64-linux-musl",
            oldest="cortex-a53",
        ),
        Architecture(
            name="armv7l",
            elf="arm",
            elf_machine=40,
            bits=32,
            runs=_ARM_32,
            triples=("arm-", "armv7", "thumbv7"),
            generic="armv7_generic",
            qemu="qemu-arm",
            static="arm-linux-musleabihf",
            oldest="cortex-a7",
        ),
    )
}
"""Those that targets exist for, by name."""

RUNS: dict[str, frozenset[tuple[str, int]]] = {
    **{a.name: a.runs for a in ARCHITECTURES.values()},
    # Boards that answer, and that nothing is built for.
    "i686": frozenset({("x86", 32)}),
    "armv6l": _ARM_32,
    "riscv64": frozenset({("riscv", 64)}),
}
"""``uname -m`` -> (ELF name, bits) of what it may run."""
