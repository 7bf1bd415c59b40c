"""Bytes that plans are predicted to need, beside those that their programs have: RAM and flash.

    python benchmarks/memory.py [--network resnet20 …] [--plans 100] [--compiled 3] [--json]

Of each network random plans are drawn, of any widths. Each is shrunk, traced and laid out as the compiler does it
(without building kernels), and the bytes that its program allocates are compared with what one model of the dense
network predicts. Of the networks in ``COMPILED`` some plans are compiled, and the programs asked what they allocate;
their files are compared with what tables predict that have the code of these very kernels. RAM and sizes of files are
**measured** there, else **compiled**.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from bars import bar, told

from edgeprune.compiler.allocated import allocated_bytes
from edgeprune.compiler.arena import lifetimes
from edgeprune.compiler.compile import compile_network
from edgeprune.compiler.flash import FlashModel
from edgeprune.compiler.inplace import overwritten, places
from edgeprune.compiler.kernels.registry import rule_named
from edgeprune.compiler.manifest import Manifest
from edgeprune.compiler.memory import busiest_bytes, plan_arena
from edgeprune.compiler.objects import find_object
from edgeprune.compiler.ram import MemoryModel
from edgeprune.compiler.ram_rows import ram_rows
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.graph.network import Network, read_network
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.grids import levels_of
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.records import KernelRecord
from edgeprune.models.zoo import ZOO, build
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink
from edgeprune.targets import Target, load_target

NETWORKS = {"resnet20": 32, "squeezenet": 64, "mobilenet_v2": 64, "unet_small": 64}
"""Networks whose plans are traced, and the side of their images."""
COMPILED = ("resnet20", "squeezenet")
POINTS = 8
FLASH, GAP, EVALUATION_MS = 0.005, 0.0, 5.0


def drawn(network: Network, random: np.random.Generator) -> dict[str, int]:
    return {g.name: int(random.integers(1, g.size + 1)) for g in network.channels.prunable}


def small(network: Network, widths: Mapping[str, int]) -> Network:
    scores = {g.name: np.arange(g.size, dtype=float) for g in network.channels.groups}
    module = shrink(network.module, network.channels, make_plan(network.channels, widths, scores))
    return read_network(module, network.example_inputs)


def laid_out(network: Network, target: Target) -> int:
    """Bytes that the compiler's program of a traced network allocates, without its kernels being built."""
    graph, over = network.kernels, overwritten(network.kernels)
    schedules = [ScheduleBook(target).choose(node.spec).schedule for node in graph.nodes]
    arena = plan_arena(lifetimes(graph, schedules, target, places(graph, over))).bytes
    buffers = 0
    for node, schedule in zip(graph.nodes, schedules, strict=True):
        rule = rule_named(schedule)
        constants, scratch = (f(node.spec, schedule, target) for f in (rule.constants, rule.scratch))
        buffers += len(node.inputs) + len(constants) + bool(scratch) + 1  # type: ignore[arg-type]
    return allocated_bytes(target, arena, buffers, 0, 0)


def traced(name: str, side: int, plans: int, target: Target) -> dict[str, Any]:
    network = read_network(build(name), (torch.zeros(1, 3, side, side),))
    model, random = memory_of(network, target), np.random.default_rng(0)
    equal = 0
    for _ in range(plans):
        widths = drawn(network, random)
        equal += model.at(widths).ram == laid_out(small(network, widths), target)
    return {"network": name, "side": side, "plans": plans, "equal": equal}


def packed(name: str, plans: int, target: Target) -> dict[str, Any]:
    """How the arena of plans of a network of the zoo lies above its busiest step, and what an evaluation costs."""
    network = read_network(build(name), (torch.zeros(ZOO[name].input_shape),))
    model, random = memory_of(network, target), np.random.default_rng(0)
    gaps, seconds = [], []
    for _ in range(plans):
        widths = drawn(network, random)
        alive = model.lifetimes(widths)
        began = time.perf_counter()
        found = model.at(widths)
        seconds.append(time.perf_counter() - began)
        gaps.append(found.arena / busiest_bytes(alive) - 1)
    levels = levels_of(network.channels, target.width_step, POINTS)
    index = {group: i for i, group in enumerate(g for g, widths in levels.items() if len(widths) > 1)}
    began = time.perf_counter()
    rows = ram_rows(model, levels, index)
    return {
        "network": name,
        "plans": plans,
        "above": sum(gap > 0 for gap in gaps),
        "worst_gap": max(gaps),
        "evaluation_ms": 1e3 * median(seconds),
        "rows": len(rows),
        "steps": len(network.kernels.nodes) + 1,
        "rows_s": time.perf_counter() - began,
    }


def memory_of(network: Network, target: Target) -> MemoryModel:
    return MemoryModel(network.kernels, network.channels, target, ScheduleBook(target))


def built(name: str, plans: int, target: Target, folder: Path) -> list[dict[str, Any]]:
    """Plans compiled for real: what their programs allocate, and how large they are."""
    side = NETWORKS[name]
    network = read_network(build(name), (torch.zeros(1, 3, side, side),))
    model, random = memory_of(network, target), np.random.default_rng(1)
    asked: list[dict[str, int]] = [{}, *(drawn(network, random) for _ in range(plans))]
    made = [
        compile_network(small(network, w) if w else network, target, folder / f"{name}-{i}")
        for i, w in enumerate(asked)
    ]
    tables = LatencyModel(record for manifest in made for record in records_of(manifest, target))
    flash = FlashModel.beside(model, tables, made[0].memory.flash)
    rows = []
    for i, (widths, manifest) in enumerate(zip(asked, made, strict=True)):
        command = [str(folder / f"{name}-{i}" / manifest.program), "bench", "--warmup", "0", "--repeats", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        rows.append(
            {
                "network": name,
                "plan": "dense" if not widths else f"random {i}",
                "allocated_bytes": json.loads(done.stdout)["allocated_bytes"],
                "predicted_ram_bytes": model.at(widths).ram,
                "file_bytes": manifest.memory.flash,
                "predicted_flash_bytes": flash.bytes(widths),
            }
        )
    return rows


def records_of(manifest: Manifest, target: Target) -> list[KernelRecord]:
    """The code of a program's kernels as a profile has it, without a device: times are made up."""
    found = []
    for kernel in manifest.kernels:
        spec = KernelSpec.from_json(kernel.spec)
        made = find_object(spec, kernel.schedule, target)
        assert made is not None
        found.append(KernelRecord(spec, kernel.schedule, "ok", 1.0, 0.0, 1.0, 1, made.bytes))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=NETWORKS)
    parser.add_argument("--plans", type=int, default=100)
    parser.add_argument("--compiled", type=int, default=3, help="plans of each small network that are compiled")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    target, names = load_target("host"), arguments.network or list(NETWORKS)
    trials = [traced(name, NETWORKS[name], arguments.plans, target) for name in names]
    packings = [packed(name, arguments.plans, target) for name in ZOO]
    with tempfile.TemporaryDirectory() as folder:
        programs = [
            row for name in COMPILED if name in names for row in built(name, arguments.compiled, target, Path(folder))
        ]
    if not arguments.json:
        show(trials, packings, programs)
    plans = sum(t["plans"] for t in trials)
    equal = sum(t["equal"] for t in trials)
    off = sum(p["predicted_ram_bytes"] != p["allocated_bytes"] for p in programs)
    flash = max((abs(p["predicted_flash_bytes"] / p["file_bytes"] - 1) for p in programs), default=0.0)
    above = sum(p["above"] for p in packings)
    slowest = max(p["evaluation_ms"] for p in packings)
    bars = [
        bar("plans whose RAM is predicted to the byte", equal, plans, equal == plans),
        bar("programs that allocate another number of bytes", off, 0, off == 0),
        bar("predicted flash beside the file, relative, at worst", flash, FLASH, flash <= FLASH),
        bar("plans whose arena is above its busiest step", above, GAP, above <= GAP),
        bar("an evaluation, ms, median of the slowest network", slowest, EVALUATION_MS, slowest <= EVALUATION_MS),
    ]
    body = {"traced": trials, "packed": packings, "compiled": programs}
    return told("edgeprune.memory-benchmark/1", body, bars, arguments.json)


def show(trials: list[dict[str, Any]], packings: list[dict[str, Any]], programs: list[dict[str, Any]]) -> None:
    for t in trials:
        print(f"{t['network']:18} at {t['side']}: {t['equal']} of {t['plans']} plans to the byte")
    for p in packings:
        print(
            f"{p['network']:18} {p['above']} of {p['plans']} arenas above the busiest step ({p['worst_gap']:.1%}), "
            f"{p['evaluation_ms']:.2f} ms an evaluation, {p['rows']} rows of {p['steps']} steps in {p['rows_s']:.1f} s"
        )
    for p in programs:
        print(
            f"{p['network']:18} {p['plan']:9} RAM {p['allocated_bytes']} bytes, predicted {p['predicted_ram_bytes']}; "
            f"file {p['file_bytes']} bytes, predicted {p['predicted_flash_bytes'] / p['file_bytes'] - 1:+.3%}"
        )


if __name__ == "__main__":
    sys.exit(main())
