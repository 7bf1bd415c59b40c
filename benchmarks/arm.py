"""Speed on ARM without a board: near the multiply-add peak of each core, and instructions against ONNX Runtime.

    python benchmarks/arm.py [--part mca|instructions] [--json] [--mca llvm-mca-19] [--models resnet18,…]

Part ``mca``: kernels are built for the Raspberry Pi 3, 4 and 5 (Cortex-A53, -A72, -A76), the block of instructions
with most multiply-adds, or a loop with half as many, is taken as the body of an endless loop, and its multiply-adds a
cycle are compared with those of a block of nothing else. Of the first schedules the best is printed, as tuning would
choose it, and the default. A core that completes in order (A53) is modelled as if a load had to wait for older
multiply-adds, which the real one need not: docs/KERNELS.md says what its figures are worth. Needs the package llvm.

Part ``instructions``: whole networks at 1x3x224x224, dense and with every width group cut to an irregular 60 %, on
an emulated Cortex-A72: the instructions that one inference executes, by the compiled program with its default
schedules (its answers are compared with torch's first) and by ONNX Runtime's aarch64 wheel with all optimisations, on
one thread each. Counts repeat to one in 1,000. What it needs is fetched into ``--cache`` (340 MB, Debian or Ubuntu).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from arm_instructions import MODELS, geomean_ratio, instruction_rows
from arm_mca import mca_rows, worst

from edgeprune.home import home
from edgeprune.targets import load_target

PARTS = ("mca", "instructions")
R = TypeVar("R")


def main() -> int:
    options = parse()
    result: dict[str, Any] = {}
    lines: list[str] = []
    if "mca" in options.part:
        rows = shown(mca_rows(options.mca, options.schedules))
        result |= {"rows": [asdict(r) for r in rows], "worst": worst(rows)}
        lines += [*map(str, rows), *(f"worst on {c}: {f:.2f} of the multiply-add peak" for c, f in worst(rows).items())]
    if "instructions" in options.part:
        counted = shown(instruction_rows(load_target("rpi4"), options.models.split(","), options.cache))
        result |= {"instructions": [asdict(r) for r in counted], "geomean_ratio": geomean_ratio(counted)}
        lines += [*map(str, counted), f"geometric mean of the instruction ratios: {geomean_ratio(counted):.2f}"]
    print(json.dumps(result, indent=1) if options.json else "\n".join(lines))
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs=1, choices=PARTS, default=PARTS, help="default: both")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--mca", default="llvm-mca")
    parser.add_argument("--schedules", type=int, default=6, help="of each kernel, in part mca")
    parser.add_argument("--models", default=",".join(MODELS), help="in part instructions")
    parser.add_argument("--cache", type=Path, default=home() / "arm-emulator", help="what is fetched for emulation")
    return parser.parse_args()


def shown(rows: Iterable[R]) -> list[R]:
    """The rows, each shown as it comes: there are minutes between some."""
    out = []
    for row in rows:
        print(row, file=sys.stderr, flush=True)
        out.append(row)
    return out


if __name__ == "__main__":
    sys.exit(main())
