"""The hot block of each convolution kernel, as llvm-mca sees it on each core."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgeprune.compiler.kernels.registry import schedules_for
from edgeprune.compiler.objects import KernelObject
from edgeprune.compiler.workers import build_all
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.targets import Target, load_target

BOARDS = ("rpi3", "rpi4", "rpi5")
KERNELS = ((3, 64, 64, 56), (3, 128, 128, 28), (3, 75, 38, 28), (1, 64, 256, 56), (1, 256, 64, 28), (1, 153, 38, 28))
"""(kernel, channels in, channels out, image side); the third of each kind is irregular."""
ITERATIONS = 100
MODELS = {"cortex-a76": "neoverse-n1"}
"""LLVM schedules for the A76 as for the older A57; the server core of the same design has a model of its own, in
LLVM 16 and later."""


@dataclass(frozen=True)
class Row:
    """``fraction``: of the multiply-add peak, with the best schedule; ``default_fraction`` with the first."""

    core: str
    kernel: str
    schedule: dict[str, Any]
    multiply_adds: int
    spills: int
    fraction: float
    default_fraction: float
    evidence: str = "simulated"

    def __str__(self) -> str:
        found = f"{self.fraction:6.2f} (default {self.default_fraction:.2f})"
        return f"{self.core:12}{self.kernel:34}{found} {self.schedule}"


def mca_rows(mca: str, schedules: int) -> Iterator[Row]:
    """A row for each core and kernel; ``schedules`` of each are looked at."""
    for tool in (mca, "llvm-objdump"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not installed: apt-get install llvm")
    for board in BOARDS:
        yield from rows_of(load_target(board), mca, schedules)


def worst(rows: Sequence[Row]) -> dict[str, float]:
    """The smallest fraction on each core."""
    return {core: min(r.fraction for r in rows if r.core == core) for core in dict.fromkeys(r.core for r in rows)}


def rows_of(target: Target, mca: str, wanted: int) -> list[Row]:
    core = target.llvm.mcpu
    model = MODELS.get(core, core)
    alone = [f"fmla v{i}.4s, v30.4s, v31.s[0]" for i in range(16)]
    cycles_of_one = cycles(alone, model, mca) / len(alone)
    rows = []
    for side, channels, out, image in KERNELS:
        spec = conv(side, channels, out, image)
        schedules = [s for s in schedules_for(spec, target) if s["rule"] == "conv_direct"][:wanted]
        found = []
        for schedule, built in zip(schedules, build_all([(spec, s) for s in schedules], target), strict=True):
            if not isinstance(built, KernelObject):
                sys.exit(str(built))
            block = hot_block(built.path)
            fmla = sum(line.startswith("fmla") for line in block)
            fraction = fmla * cycles_of_one / cycles(block, model, mca)
            found.append((fraction, fmla, sum("[sp" in line for line in block), schedule))
        fraction, fmla, spills, schedule = max(found, key=lambda f: f[0])
        rows.append(Row(core, str(spec), dict(schedule), fmla, spills, min(fraction, 1.0), min(found[0][0], 1.0)))
    return rows


def conv(side: int, channels: int, out: int, image: int) -> KernelSpec:
    attrs: dict[str, Any] = {
        "kernel": (side, side),
        "stride": (1, 1),
        "padding": (side // 2,) * 2,
        "dilation": (1, 1),
        "groups": 1,
    }
    tensors = (TensorSpec((1, channels, image, image)),), TensorSpec((1, out, image, image))
    return KernelSpec("conv2d", *tensors, tuple(sorted(attrs.items())), ("bias", "relu"))


def hot_block(file: Path) -> list[str]:
    """The straight run of instructions with most multiply-adds, or a loop with half as many, which runs more often."""
    command = ["llvm-objdump", "-d", "--no-show-raw-insn", str(file)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^ *([0-9a-f]+):[ \t]+(\S+)[ \t]*(.*)$", listing, flags=re.M)
    targets = {t for _, op, args in found if branches(op) for t in re.findall(r"0x([0-9a-f]+)", args)}
    blocks: list[list[str]] = [[]]
    weights, start = [1], ""
    for address, op, args in found:
        if address in targets:
            blocks.append([])
            weights.append(1)
            start = f"0x{address}"
        if branches(op):
            if start and start in args:
                weights[-1] = 2
            blocks.append([])
            weights.append(1)
            start = ""
        else:
            blocks[-1].append(f"{op} {args.split('//')[0].strip()}")
    return max(zip(blocks, weights, strict=True), key=lambda b: b[1] * sum(line.startswith("fmla") for line in b[0]))[0]


def branches(op: str) -> bool:
    return op.startswith("b.") or op in ("b", "bl", "blr", "br", "ret", "cbz", "cbnz", "tbz", "tbnz")


def cycles(lines: Sequence[str], model: str, mca: str) -> float:
    """Cycles of one pass, in an endless loop."""
    with TemporaryDirectory() as folder:
        source = Path(folder) / "block.s"
        source.write_text("\n".join(lines) + "\n")
        command = [mca, "-mtriple=aarch64-linux-gnu", f"-mcpu={model}", f"-iterations={ITERATIONS}", str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    total = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    if total is None:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return int(total[1]) / ITERATIONS
