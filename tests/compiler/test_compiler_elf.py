"""Reading ELF tables: of programs that were really built, and of damaged ones."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from edgeprune.compiler.elf import Needs, read_needs
from edgeprune.errors import BundleError

# pow, fstat and pthread_create took part in later versions of glibc.
SOURCE = """
#include <math.h>
#include <pthread.h>
static void *thread(void *p) { return p; }
int answer(double x) { pthread_t t; return pthread_create(&t, 0, thread, 0) + (int)pow(exp(x), x); }
#ifdef PROGRAM
int main(int n, char **arguments) { (void)arguments; return answer(n); }
#endif
"""


def build(folder: Path, target: str, *options: str) -> Path:
    (folder / "source.c").write_text(SOURCE)
    program = folder / "built"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-O2", str(folder / "source.c"), "-s"]
    subprocess.run(
        [*command, "-o", str(program), *options, "-lm", "-lpthread"], check=True, capture_output=True, cwd=folder
    )
    return program


PROGRAM = ("-DPROGRAM",)
LIBRARY = ("-shared", "-fPIC")


@pytest.mark.parametrize(
    ("target", "options", "expected"),
    [
        ("aarch64-linux-gnu.2.17", PROGRAM, ("aarch64", 64, "", "/lib/ld-linux-aarch64.so.1", "glibc 2.17")),
        ("aarch64-linux-gnu.2.28", PROGRAM, ("aarch64", 64, "", "/lib/ld-linux-aarch64.so.1", "glibc 2.17")),
        ("aarch64-linux-gnu.2.36", PROGRAM, ("aarch64", 64, "", "/lib/ld-linux-aarch64.so.1", "glibc 2.34")),
        ("aarch64-linux-gnu.2.36", LIBRARY, ("aarch64", 64, "", "", "glibc 2.34")),
        ("arm-linux-gnueabihf.2.36", PROGRAM, ("arm", 32, "hard", "/lib/ld-linux-armhf.so.3", "glibc 2.34")),
        ("arm-linux-gnueabi.2.28", PROGRAM, ("arm", 32, "soft", "/lib/ld-linux.so.3", "glibc 2.4")),
        ("x86_64-linux-gnu.2.36", PROGRAM, ("x86_64", 64, "", "/lib64/ld-linux-x86-64.so.2", "glibc 2.34")),
        ("aarch64-linux-musl", (*PROGRAM, "-static"), ("aarch64", 64, "", "", "")),
        ("aarch64-linux-musl", (*PROGRAM, "-dynamic"), ("aarch64", 64, "", "/lib/ld-musl-aarch64.so.1", "musl")),
    ],
)
def test_what_a_program_needs(tmp_path: Path, target: str, options: tuple[str, ...], expected: tuple) -> None:
    needs = read_needs(build(tmp_path, target, *options))
    assert needs is not None
    assert (needs.architecture, needs.bits, needs.float_abi, needs.interpreter, needs.libc) == expected
    if needs.libc.startswith("glibc"):
        assert "libc.so.6" in needs.libraries


def test_versions_compare_as_numbers_and_private_ones_do_not_count() -> None:
    versions = ("GLIBCXX_3.4.21", "GLIBC_2.2.5", "GLIBC_2.17", "GLIBC_2.4", "GLIBC_PRIVATE")
    assert Needs(architecture="x86_64", bits=64, versions=versions).glibc == (2, 17)


@pytest.mark.parametrize("content", [b"", b"\x7fEL", b"#!/bin/sh\n", b"MZ\x90"])
def test_other_files_need_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert read_needs(tmp_path / "file") is None


def test_damaged_programs_are_refused_or_read_and_never_crash(tmp_path: Path) -> None:
    whole = build(tmp_path, "x86_64-linux-gnu.2.36", *PROGRAM).read_bytes()
    file = tmp_path / "damaged"
    file.write_bytes(whole[:40])
    with pytest.raises(BundleError, match="damaged"):
        read_needs(file)
    choose = random.Random(0)
    refused = 0
    for _ in range(500):
        # Most of what matters is at the start and at the end: headers of the file, segments and sections.
        data = bytearray(whole[: choose.choice([len(whole), choose.randrange(4, len(whole))])])
        for _ in range(choose.randrange(1, 8)):
            end = choose.choice([min(1024, len(data)), len(data)])
            data[choose.randrange(4, end) if end > 4 else -1] = choose.randrange(256)
        file.write_bytes(b"\x7fELF" + bytes(data[4:]))
        try:
            read_needs(file)
        except BundleError:
            refused += 1
    assert refused > 150
