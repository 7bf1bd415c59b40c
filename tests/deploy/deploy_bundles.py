"""Bundles without a compiler run: one C program, compiled once and patched into its variants."""

import hashlib
import struct
import subprocess
import sys
from pathlib import Path

from edgeprune.compiler.manifest import MANIFEST, FileEntry, Golden, Manifest, Memory, TensorEntry

SOURCE = Path(__file__).with_name("deploy_model.c")
SAMPLE = struct.pack("<4f", 1.0, -2.0, 3.5, 0.0)
DOUBLED = struct.pack("<4f", 2.0, -4.0, 7.0, 0.0)


def compile_program(folder: Path, zig_target: str = "native") -> bytes:
    program = folder / "model"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", zig_target, "-O2", "-o", str(program), str(SOURCE)]
    command += ["-lm", "-s"]
    # In a folder of its own, as edgeprune runs it: in one above the package it builds other C libraries.
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    return program.read_bytes()


def variant(program: bytes, name: str) -> bytes:
    """The program that misbehaves as ``name`` says; any other name behaves, and is another release."""
    old, new = b"variant=good".ljust(62), f"variant={name}".encode().ljust(62)
    assert program.count(old) == 1
    assert len(old) == len(new)
    return program.replace(old, new)


def with_elf_machine(program: bytes, bits: int, machine: int) -> bytes:
    """The program, with a header that says it is for another processor."""
    return program[:4] + bytes([2 if bits == 64 else 1]) + program[5:18] + struct.pack("<H", machine) + program[20:]


def needing_a_newer_libc(program: bytes) -> bytes:
    """The program, asking for a version of the C library that does not exist yet."""
    start = program.index(b"\0GLIBC_2.") + 1
    old = program[start : program.index(b"\0", start)]
    new = old.replace(b"GLIBC_2", b"GLIBC_9")

    def elf_hash(name: bytes) -> bytes:  # System V ABI, "Hash Table"
        h = 0
        for c in name:
            h = (h << 4) + c
            h = (h ^ (h & 0xF0000000) >> 24) & 0x0FFFFFFF
        return struct.pack("<I", h)

    return program.replace(old + b"\0", new + b"\0").replace(elf_hash(old), elf_hash(new))


def make_bundle(
    folder: Path, program: bytes, *, files: dict[str, bytes] | None = None, budget: dict[str, float] | None = None
) -> Path:
    contents = {"model": program, "golden.in": SAMPLE, "golden.out": DOUBLED, **(files or {})}
    roles = {"model": "program", "golden.in": "golden_input", "golden.out": "golden_output"}
    folder.mkdir(parents=True)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    manifest = Manifest(
        target="test",
        target_hash="0" * 64,
        program="model",
        files={
            name: FileEntry(
                sha256=hashlib.sha256(data).hexdigest(),
                bytes=len(data),
                role=roles.get(name, "library"),
                deploy=not name.endswith(".h"),
                executable=name == "model",
            )
            for name, data in contents.items()
        },
        inputs=(TensorEntry(name="x", shape=(1, 4), dtype="float32"),),
        outputs=(TensorEntry(name="y", shape=(1, 4), dtype="float32"),),
        golden=Golden(inputs=("golden.in",), outputs=("golden.out",), rtol=1e-5, atol=1e-6),
        memory=Memory(arena=0, peak_ram=32, weights=0, flash=len(program)),
        threads=1,
        kernels=(),
        versions={},
        provenance={},
        budget=budget or {},
    )
    (folder / MANIFEST).write_text(manifest.to_text())
    return folder
