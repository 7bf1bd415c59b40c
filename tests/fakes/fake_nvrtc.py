"""NVRTC for a computer without a GPU: the very CUDA source, compiled for this computer's processor.

What it makes has the header and the kernels' names of a cubin, and behind them a library that the driver of
``fake_driver.c`` runs. Started as a program it is a worker that builds kernels (edgeprune.compiler.workers) with it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from edgeprune.compiler.cuda import nvrtc
from edgeprune.targets import load_target

VERSIONS = {nvrtc.PACKAGE: "fake"}

PRELUDE = """\
#include <math.h>
#define __global__
#define __launch_bounds__(n)
struct place { int x, y, z; };
static place blockIdx, threadIdx;
static inline float max(float a, float b) { return a > b ? a : b; }
static inline float min(float a, float b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline int min(int a, int b) { return a < b ? a : b; }
"""

LAUNCHER = """
extern "C" void launch_%s(void **p, unsigned blocks, unsigned threads) {
  for (blockIdx.x = 0; blockIdx.x < (int)blocks; blockIdx.x++)
    for (threadIdx.x = 0; threadIdx.x < (int)threads; threadIdx.x++) %s(%s);
}
"""


def zig(language: str, *arguments: str) -> None:
    """Build a library of this computer."""
    command = [sys.executable, "-m", "ziglang", language, "-target", load_target("host").zig_target, "-O2", "-shared"]
    done = subprocess.run(
        [*command, "-fPIC", "-fno-sanitize=all", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tempfile.gettempdir(),  # in a folder above the package it builds other C libraries
    )
    assert done.returncode == 0, done.stderr


def header(arch: str) -> bytes:
    """The ELF header of a cubin, as long as a file has to be to have one."""
    number = int(arch.removeprefix("sm_"))
    return b"\x7fELF" + bytes(14) + (190).to_bytes(2, "little") + bytes(28) + bytes([number, 5, number, 0]) + bytes(12)


def kernels_of(source: str) -> list[tuple[str, str]]:
    """Names and parameters of the kernels in a CUDA source."""
    return re.findall(r"__global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\(([^)]*)\) {", source)


def processor_library(source: str) -> bytes:
    """A shared library that runs each kernel as ``launch_NAME(addresses of the arguments, blocks, threads)``."""
    launchers = []
    for name, parameters in kernels_of(source):
        arguments = ", ".join(f"*(float **)p[{i}]" for i in range(len(parameters.split(","))))
        launchers.append(LAUNCHER % (name, name, arguments))
    with tempfile.TemporaryDirectory() as scratch:
        text, library = Path(scratch, "kernels.cpp"), Path(scratch, "kernels.so")
        text.write_text("".join([PRELUDE, source, *launchers]))
        options = ("-std=c++17", "-nostdlib++", "-fno-exceptions", "-fno-rtti", "-Wno-everything")
        zig("c++", *options, str(text), "-o", str(library), "-lm")
        return library.read_bytes()


def compiled(source: str, arch: str) -> bytes:
    """In place of ``nvrtc._compile``."""
    code = processor_library(source)
    names = b"".join(b"\0.text." + name.encode() + b"\0" for name, _ in kernels_of(source))
    offset = 80 + len(names)
    return header(arch) + offset.to_bytes(8, "little") + len(code).to_bytes(8, "little") + names + code


def use() -> None:
    """Build with this from now on."""
    nvrtc._compile = compiled
    nvrtc.versions = lambda: VERSIONS


if __name__ == "__main__":
    from edgeprune.compiler import workers

    use()
    workers.main()
