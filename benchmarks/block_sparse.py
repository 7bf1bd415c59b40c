"""Kernels that store and compute only blocks of weights, against our own dense kernels.

    python benchmarks/block_sparse.py [--layer 512-512-14 …] [--sparsity 50 75 90] [--launches 8] [--threads 1] [--json]

For each layer (``IN-OUT-SIDE``: a 1x1 convolution of SIDE x SIDE pixels; ``IN-OUT``: a linear layer) every schedule of
the dense kernel is timed, and every one of the kernel with stored blocks; the quickest of each run in turns in one
program, as long as it takes for pairs of samples that lie a few milliseconds apart. Told are milliseconds, the median of
the pairs' ratios and its quartiles, and what the work that is left away would give. Blocks are 1x16: one value that 16
filters read. Which are stored is drawn: evenly over all, and in a second kernel skewed, so that the fullest row has many
times what the emptiest has. Weights come from a stretch of 25 MB, so that no cache holds them from one call to the next.

The bar: 1.5 times as fast as the dense kernel at 75 %, 512 to 512 channels, 14 x 14 and 28 x 28 pixels, one thread.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from bars import bar, told

from edgeprune.board.client import NativeProgram
from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.kernels.registry import schedules_for
from edgeprune.compiler.kernels.stored_blocks import PLACES, Pattern, blocks_of, drawn_pattern, places_of, stored_of
from edgeprune.compiler.objects import build_object
from edgeprune.compiler.program import Program, timing_program, write_program
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.targets import Target, load_target

LAYERS = ("512-512-14", "512-512-28", "256-256-14", "256-1024-14", "1024-256-14", "128-128-28", "64-64-56")
LAYERS += ("512-512-7", "320-1280-7", "960-160-7", "512-512", "2048-1000", "4096-1024")
JUDGED, SPARSITY, FASTER = ("512-512-14", "512-512-28"), 75, 1.5
PAIRS, SAMPLES, SPAN = 6, 3, 25 * 2**20
Kernel = tuple[KernelSpec, Schedule]


def layer(name: str, density: int | None) -> KernelSpec:
    """The kernel of a layer; with a ``density`` one whose weights are zero in the other blocks."""
    channels, out, *side = map(int, name.split("-"))
    attrs: dict[str, Any] = {} if density is None else {"density": density}
    if not side:
        x, y = TensorSpec((1, channels), "plain"), TensorSpec((1, out), "plain")
        return KernelSpec("dense", (x,), y, tuple(attrs.items()), ("bias", "relu"))
    x, y = (TensorSpec((1, n, side[0], side[0])) for n in (channels, out))
    attrs |= {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    return KernelSpec("conv2d", (x,), y, tuple(sorted(attrs.items())), ("bias", "relu"))


def skewed(spec: KernelSpec) -> Pattern:
    """As many blocks as there is room for, ever fewer from the first row to the last."""
    rows, read = blocks_of(spec)
    left, pattern = stored_of(spec), np.zeros((rows, read), bool)
    generator = np.random.default_rng(1)
    shares = np.minimum(1.0, np.linspace(2, 0, rows) * left / (rows * read))
    for row in range(rows):
        count = left if row == rows - 1 else min(left, round(shares[row] * read))
        pattern[row, generator.permutation(read)[: min(count, read)]] = True
        left -= min(count, read)
    if left:  # where rows are full
        free = np.argwhere(~pattern)
        pattern[tuple(free[generator.permutation(len(free))[:left]].T)] = True
    return pattern


def samples(program: Program, target: Target, threads: int, sample_us: int, launches: int) -> np.ndarray:
    """(launches, calls, samples) in ns."""
    with tempfile.TemporaryDirectory(prefix="edgeprune-blocks-") as folder:
        path = write_program(program, target, Path(folder))["program"]

        def run(argv: Sequence[str], *, timeout_s: float) -> Any:
            return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)

        native, found = NativeProgram(run, (str(path),), 300.0), []
        for _ in range(launches):
            rows = native.kernels(
                warmup=1,
                repeats=SAMPLES,
                threads=threads,
                min_ns=1000 * sample_us,
                weight_span=SPAN,
                most=len(program.calls),
            ).rows
            assert len(rows) == len(program.calls) and all(r.finite for r in rows), "a kernel failed"
            found.append([r.samples_ns[:SAMPLES] for r in rows])
    return np.array(found)


def quickest(spec: KernelSpec, rule: str, target: Target, threads: int) -> Kernel:
    """The kernel with the schedule that is quickest, of those of the rules whose names end so."""
    schedules = [s for s in schedules_for(spec, target) if str(s["rule"]).endswith("_blocks") == (rule == "blocks")]
    timed = timing_program("schedules", [(spec, s, build_object(spec, s, target)) for s in schedules], target)
    return spec, schedules[int(np.median(samples(timed, target, threads, 1000, 3), axis=(0, 2)).argmin())]


@dataclass(frozen=True, slots=True)
class Race:
    """Two kernels in turns. ``ratios``: the first one's time over the second one's, quartiles."""

    ms: tuple[float, float]
    ratios: tuple[float, float, float]


def raced(first: Kernel, second: Kernel, target: Target, threads: int, launches: int, pattern: Pattern | None) -> Race:
    pair = [(spec, schedule, build_object(spec, schedule, target)) for spec, schedule in (first, second)]
    program = timing_program("race", pair * PAIRS, target)
    if pattern is not None:
        given = places_of(second[0], target, pattern).tobytes()
        calls = tuple(
            replace(call, buffers=tuple(replace(b, fixed=given) if b.fixed else b for b in call.buffers))
            for call in program.calls
        )
        program = replace(program, calls=calls)
    ns = np.median(samples(program, target, threads, 1500, launches), axis=2).reshape(-1, 2)
    ms = np.median(ns, axis=0) / 1e6
    low, middle, high = np.percentile(ns[:, 0] / ns[:, 1], (25, 50, 75))
    return Race((float(ms[0]), float(ms[1])), (float(low), float(middle), float(high)))


def measured(name: str, sparsities: Sequence[int], target: Target, threads: int, launches: int) -> list[dict[str, Any]]:
    """A row for each share of zeros."""
    dense, rows = quickest(layer(name, None), "dense", target, threads), []
    for sparsity in sparsities:
        stored = quickest(layer(name, 100 - sparsity), "blocks", target, threads)
        even = raced(dense, stored, target, threads, launches, None)
        other = raced(dense, stored, target, threads, launches, skewed(stored[0]))
        rows.append(
            {
                "layer": name,
                "sparsity": sparsity,
                "dense_ms": even.ms[0],
                "blocks_ms": even.ms[1],
                "ratio": even.ratios[1],
                "ratio_quartiles": [even.ratios[0], even.ratios[2]],
                "ratio_skewed": other.ratios[1],
                "work_saved": 100 / (100 - sparsity),
                "faster": even.ratios[0] > 1,
                "schedules": [dict(dense[1]), dict(stored[1])],
            }
        )
        print(said(rows[-1]), file=sys.stderr, flush=True)
    return rows


def said(row: dict[str, Any]) -> str:
    low, high = row["ratio_quartiles"]
    return (
        f"{row['layer']:12} {row['sparsity']:3} % {row['dense_ms']:8.4f} {row['blocks_ms']:8.4f} {row['ratio']:6.2f} "
        f"[{low:.2f}, {high:.2f}] {row['ratio_skewed']:6.2f} {row['work_saved']:6.1f} "
        f"{'' if row['faster'] else 'not faster'}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layer", nargs="+", default=LAYERS)
    parser.add_argument("--sparsity", nargs="+", type=int, default=[50, 75, 90])
    parser.add_argument("--launches", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    target = load_target("host")
    print("layer         zeros  dense ms blocks ms  ratio [quartiles] skewed  saved", file=sys.stderr)
    rows = [
        row
        for name in given.layer
        for row in measured(name, given.sparsity, target, given.threads, given.launches)
    ]
    judged = [row for row in rows if row["layer"] in JUDGED and row["sparsity"] == SPARSITY]
    bars = [
        bar(f"dense over blocks, {r['layer']} at {SPARSITY} %", r["ratio"], FASTER, r["ratio"] >= FASTER) for r in judged
    ]
    return told("edgeprune.benchmark-block-sparse/1", {"threads": given.threads, "rows": rows}, bars, given.json)


if __name__ == "__main__":
    sys.exit(main())
