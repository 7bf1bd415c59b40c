"""Kernels that store and compute only blocks of weights, against our own dense kernels.

    python benchmarks/block_sparse.py [--layer 512-512-14 …] [--sparsity 50 75 90] [--pairs 300] [--json]

For each layer (``IN-OUT-SIDE``: a 1x1 convolution of SIDE x SIDE pixels; ``IN-OUT``: a linear layer) every schedule of
the dense kernel is tried, and every one of the kernel with stored blocks; then the quickest of each are called in
turns. Told are medians in ms, the median of the ratios of the pairs with its quartiles, and what the work that is left
away would give. A call's time is that of the processor on it, on one thread: what else runs here does not count.
Blocks are 1x16: one value that 16 filters read. Which are stored is drawn: evenly over all, and in a second kernel
(``skewed``) ever fewer from the first row of blocks to the last. Weights come from a stretch of 25 MB, so that no cache
near the processor holds them from one call to the next. Where the lower quartile is not above 1, a row says ``not
faster``.

The bar: 1.5 times as fast as the dense kernel at 75 % zeros, 512 to 512 channels, 14 x 14 and 28 x 28 pixels.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from bars import bar, told

from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.kernels.registry import schedules_for
from edgeprune.compiler.kernels.stored_blocks import Pattern, blocks_of, places_of, stored_of
from edgeprune.compiler.objects import build_object
from edgeprune.compiler.program import timing_program, write_program
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.targets import Target, load_target

LAYERS = [
    *("512-512-14", "512-512-28", "256-256-14", "256-1024-14", "1024-256-14", "128-128-28", "64-64-56"),
    *("512-512-7", "320-1280-7", "960-160-7", "512-512", "2048-1000", "4096-1024"),
]
JUDGED, SPARSITY, FASTER = ("512-512-14", "512-512-28"), 75, 1.5
SPAN = 25 * 2**20


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


class Timed:
    """The kernels of one layer with all schedules of some rules, as one library, called one by one from here.

    Args:
        pattern: of the stored blocks; None: as kernels are timed for a profile.
    """

    def __init__(
        self,
        spec: KernelSpec,
        schedules: Sequence[Schedule],
        target: Target,
        folder: Path,
        pattern: Pattern | None = None,
    ) -> None:
        self.spec, self.schedules = spec, schedules
        program = timing_program("timed", [(spec, s, build_object(spec, s, target)) for s in schedules], target)
        if pattern is not None:
            given = places_of(spec, target, pattern).tobytes()
            calls = tuple(
                replace(call, buffers=tuple(replace(b, fixed=given) if b.fixed else b for b in call.buffers))
                for call in program.calls
            )
            program = replace(program, calls=calls)
        folder.mkdir()
        self._c = ctypes.CDLL(str(write_program(program, target, folder, library=True)["library"]))
        self._c.ep_open.restype = ctypes.c_void_p
        self._c.ep_set_weight_span(ctypes.c_uint64(SPAN))
        self._model = ctypes.c_void_p(self._c.ep_open(1))
        self.use(0)

    def use(self, schedule: int) -> None:
        """Make ready to call the kernel with this schedule."""
        self.chosen = schedule
        self._c.ep_fill_arena(self._model)
        self._c.ep_fill_weights(self._model, schedule)
        self()
        assert self._c.ep_call_finite(self._model, schedule), f"{self.spec} is not finite"

    def __call__(self) -> int:
        """Nanoseconds that one call keeps the processor busy, with the next stretch of weights."""
        self._c.ep_next_weights(self._model, self.chosen)
        began = time.thread_time_ns()
        code = self._c.ep_run_call(self._model, self.chosen)
        ended = time.thread_time_ns()
        assert code == 0, f"{self.spec} failed"
        return ended - began

    def tune(self) -> None:
        """Use the schedule that is quickest."""
        found: dict[int, list[int]] = {i: [] for i in range(len(self.schedules))}
        for _ in range(3):
            for i, ns in found.items():
                self.use(i)
                ns += [self() for _ in range(5)]
        self.use(min(found, key=lambda i: min(found[i])))

    def close(self) -> None:
        self._c.ep_close(self._model)


@dataclass(frozen=True, slots=True)
class Race:
    """Two kernels in turns: medians in ms, and quartiles of the first one's time over the second one's."""

    ms: tuple[float, float]
    ratios: tuple[float, float, float]


def raced(first: Timed, second: Timed, pairs: int) -> Race:
    ns = np.array([(first(), second()) for _ in range(pairs)], float)
    ms = np.median(ns, axis=0) / 1e6
    low, middle, high = np.percentile(ns[:, 0] / ns[:, 1], (25, 50, 75))
    return Race((float(ms[0]), float(ms[1])), (float(low), float(middle), float(high)))


def by_rule(spec: KernelSpec, target: Target, blocks: bool) -> list[Schedule]:
    """Schedules of the rules that store blocks, or of the others."""
    return [s for s in schedules_for(spec, target) if str(s["rule"]).endswith("_blocks") == blocks]


def measured(name: str, sparsities: Sequence[int], target: Target, pairs: int, folder: Path) -> list[dict[str, Any]]:
    """A row for each share of zeros."""
    spec, rows = layer(name, None), []
    dense = Timed(spec, by_rule(spec, target, blocks=False), target, folder / "dense")
    dense.tune()
    for sparsity in sparsities:
        spec = layer(name, 100 - sparsity)
        schedules = by_rule(spec, target, blocks=True)
        stored = Timed(spec, schedules, target, folder / f"{sparsity}")
        stored.tune()
        other = Timed(spec, schedules, target, folder / f"{sparsity}-skewed", skewed(spec))
        other.use(stored.chosen)
        even, uneven = raced(dense, stored, pairs), raced(dense, other, pairs)
        row = {
            "layer": name,
            "sparsity": sparsity,
            "dense_ms": even.ms[0],
            "blocks_ms": even.ms[1],
            "ratio": even.ratios[1],
            "ratio_quartiles": [even.ratios[0], even.ratios[2]],
            "ratio_skewed": uneven.ratios[1],
            "work_saved": 100 / (100 - sparsity),
            "faster": even.ratios[0] > 1,
            "schedules": [dict(t.schedules[t.chosen]) for t in (dense, stored)],
        }
        rows.append(row)
        print(said(row), file=sys.stderr, flush=True)
        stored.close()
        other.close()
    dense.close()
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
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    target, rows = load_target("host"), []
    print("layer        zeros  dense ms blocks ms  ratio [quartiles] skewed  saved", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="edgeprune-blocks-") as folder:
        for name in given.layer:
            home = Path(folder, name)
            home.mkdir()
            rows += measured(name, given.sparsity, target, given.pairs, home)
    judged = [row for row in rows if row["layer"] in JUDGED and row["sparsity"] == SPARSITY]
    bars = [
        bar(f"dense over blocks, {r['layer']} at {SPARSITY} %", r["ratio"], FASTER, r["ratio"] >= FASTER)
        for r in judged
    ]
    return told("edgeprune.benchmark-block-sparse/1", {"rows": rows}, bars, given.json)


if __name__ == "__main__":
    sys.exit(main())
