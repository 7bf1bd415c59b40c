"""The multiply-add peak of this computer: vectors in registers, nothing else (peak.c).

    python benchmarks/peak.py [--target host] [--threads 1] [--json]

The best of all vector widths that the target has and of some numbers of independent chains. A compiler that is asked
for 512 bits may take 256 (clang does for x86-64-v4, unless told not to), some processors have one unit of 512 bits and
others two, and how many chains hide a multiply-add's latency is the processor's own. The text that each program is
assembled from is searched for the multiply-adds of its loop: as many as chains, on registers of the width that is asked
for. Evidence level: measured.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeprune.targets import Target, load_target

SCHEMA = "edgeprune.benchmark-peak/1"
CHAINS = (8, 10, 12, 16, 24)
MULTIPLY_ADDS = {
    ("x86_64", 128): r"vfmadd\d+ps\b.*%xmm",
    ("x86_64", 256): r"vfmadd\d+ps\b.*%ymm",
    ("x86_64", 512): r"vfmadd\d+ps\b.*%zmm",
    ("aarch64", 128): r"fmla\b.*v\d+\.4s",
    ("armv7", 128): r"v(fma|mla)\.f32\s+q",
}
"""By architecture and bits of a vector: how the assembler writes a multiply-add."""


@dataclass(frozen=True)
class Measured:
    """One loop: GFLOP/s of the best of its runs, over all threads."""

    vector_bits: int
    chains: int
    gflops: float


def measured(target: Target, threads: int = 1, chains: tuple[int, ...] = CHAINS) -> list[Measured]:
    """The loops of all widths, the widest first.

    Raises:
        RuntimeError: the compiler made other instructions of a loop than it is named after.
    """
    widths = [bits for arch, bits in MULTIPLY_ADDS if arch == target.arch and bits <= target.vector_bits]
    return [measure(target, bits, count, threads) for bits in sorted(widths, reverse=True) for count in chains]


def measure(target: Target, bits: int, chains: int, threads: int) -> Measured:
    """One loop, compiled, its instructions counted, and run."""
    with tempfile.TemporaryDirectory() as folder:
        text, program = Path(folder) / "peak.s", Path(folder) / "peak"
        compiler = [sys.executable, "-m", "ziglang", "cc", f"-mcpu={target.llvm.mcpu.replace('-', '_')}", "-O3"]
        flags = ["-ffp-contract=fast", f"-DBYTES={bits // 8}", f"-DCHAINS={chains}", "-S", "-o", str(text)]
        if target.arch == "x86_64":
            flags.append(f"-mprefer-vector-width={bits}")
        subprocess.run([*compiler, *flags, str(Path(__file__).with_name("peak.c"))], check=True)
        found = multiply_adds(text.read_text(), MULTIPLY_ADDS[target.arch, bits])
        # With more chains than registers, vectors come and go: what is counted must still be there.
        if not found or found % chains:
            raise RuntimeError(f"{chains} chains of {bits} bits became {found} multiply-adds of that width")
        quiet = "-Wno-unused-command-line-argument"
        subprocess.run([*compiler, quiet, "-o", str(program), str(text), "-lpthread"], check=True)
        said = subprocess.run([program, str(threads)], check=True, capture_output=True, text=True).stdout
    return Measured(bits, chains, float(said))


def multiply_adds(text: str, mnemonic: str) -> int:
    """How many the hot loop of peak.c has."""
    body = re.search(r"^chains:(.*?)^\s*\.size\s+chains", text, re.MULTILINE | re.DOTALL)
    return len(re.findall(mnemonic, body[1])) if body else 0


def peak_gflops(target: Target, threads: int = 1) -> float:
    """What the multiply-add units of this computer do: the best of all loops."""
    return max(m.gflops for m in measured(target, threads))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="host")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = measured(load_target(given.target), given.threads)
    best = max(rows, key=lambda m: m.gflops)
    if given.json:
        print(
            json.dumps({"schema": SCHEMA, "evidence": "measured", "best": asdict(best), "rows": [*map(asdict, rows)]})
        )
        return
    for row in rows:
        print(f"{row.vector_bits} bits, {row.chains:2} chains: {row.gflops:7.1f} GFLOP/s")
    print(
        f"peak: {best.gflops:.1f} GFLOP/s on {given.threads} thread(s), {best.vector_bits} bits, {best.chains} chains"
    )


if __name__ == "__main__":
    main()
