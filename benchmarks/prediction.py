"""How well latency is predicted from a sampled profile, of networks of random irregular widths that nobody measured.

    python benchmarks/prediction.py [--network NAME ...] [--count 20] [--real 2] [--emulated] [--folder F] [--json]

For each network: a profile by sampling, from an empty store of profiles and of kernels; ``--count`` networks of
random widths (other ones than the profile has seen), predicted with an interval at 95 %; and what these take, launched
in turns with each other and with the networks that were timed for the profile, at the nominal clock. Shared computers
have minutes in which memory is slower for all: what the latter take now, and took when they were profiled, says by how
much (the median), and the others' latencies are brought to the time of the profile by that. The errors without this are
told beside (``raw``), and so is by how much the networks that were measured twice differ from that median, on average
(``repeat``): a prediction that were exact would seem as wrong.
Programs that are timed have noise for weights; ``--real`` of each network's plans are also shrunk, traced and compiled
with their weights, and timed in turns with the others, so that the two can be compared. ``--emulated`` adds a small
network on the instruction counter of an emulated Cortex-A53.

With ``--folder`` profiles and figures are kept there, and a run goes on where another stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bars import bar, told

from edgeprune.compiler.compile import lower_network
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.devices.registry import open_device
from edgeprune.files import write_whole
from edgeprune.graph.network import Network, read_network
from edgeprune.graph.resized import at_widths
from edgeprune.latency.model import LEVEL, LatencyModel, nominal_ns
from edgeprune.latency.networks import NetworkRecord, network_key
from edgeprune.latency.store import Profile, ProfileStore
from edgeprune.models.zoo import build
from edgeprune.profiling.estimated import estimated_of
from edgeprune.profiling.figures import Clock
from edgeprune.profiling.networks import NetworkTiming, random_widths, whole_networks, widths_apart
from edgeprune.profiling.profile import ProfileOptions
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.shrink import shrink
from edgeprune.sampling.sampled import MOST, profiled
from edgeprune.targets import load_target

NETWORKS = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small")
PIXELS = 224
EMULATED = ("emulated:a53", "emulated_a53", "resnet8", 32)
"""Device, target, network and pixels of the part that counts instructions."""
SEED = 1000
"""Of the random networks; profiles draw theirs from another."""
ROUNDS = 24
"""Launches of each network at the nominal clock."""
MEAN, WORST, INSIDE, WIDTH = 0.02, 0.05, 0.95, 0.08
COUNTED_MEAN = 0.01
TIMINGS, SECONDS, OF = 300, 300.0, "resnet50"


@dataclass(frozen=True)
class Predicted:
    """One network: milliseconds at the nominal clock."""

    measured_ms: float
    """Brought to the time of the profile."""
    raw_ms: float
    """As it was measured."""
    predicted_ms: float
    low_ms: float
    high_ms: float
    sum_ms: float
    """Of the kernels, without what whole networks take beyond them."""

    @property
    def error(self) -> float:
        return self.predicted_ms / self.measured_ms - 1

    @property
    def inside(self) -> bool:
        return self.low_ms <= self.measured_ms <= self.high_ms


def note(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Told:
    """Progress as lines."""

    def stage(self, name: str, total: int | None = None) -> None:
        note(f"    {name}" if total is None else f"    {name}: {total}")

    def note(self, text: str) -> None:
        note(f"    {text}")

    def advance(self, n: int = 1) -> None: ...


@contextmanager
def empty_home(folder: Path) -> Iterator[None]:
    """Kernels are built anew: what a store of objects holds would flatter the seconds."""
    before = os.environ.get("EDGEPRUNE_HOME")
    os.environ["EDGEPRUNE_HOME"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("EDGEPRUNE_HOME")
        if before is not None:
            os.environ["EDGEPRUNE_HOME"] = before


def shrunk(network: Network, widths: dict[str, int]) -> Network:
    """The real network of these widths, traced."""
    keep = {g.name: tuple(range(widths[g.name])) for g in network.channels.prunable}
    plan = Plan(keep, {g.name: g.size for g in network.channels.groups}, {}, {}, {})
    module = shrink(network.module, network.channels, plan)
    return read_network(module, network.example_inputs, network.interface)


def judged(model: LatencyModel, record: NetworkRecord, nominal: float, then: float) -> Predicted:
    """Args:
    then: what networks took when they were profiled, over what they take now.
    """
    found, raw = model.network(record.kernels), record.at_clock(nominal) / 1e6
    alone = (found.latency_ms - model.beyond_ms) / model.correction
    return Predicted(then * raw, raw, found.latency_ms, *found.interval_ms, alone)


def part(name: str, pixels: int, url: str, target_name: str, count: int, real: int, folder: Path) -> dict[str, Any]:
    """One network on one device."""
    network = read_network(build(name, seed=0), (torch.zeros(1, 3, pixels, pixels),))
    target, out = load_target(target_name), folder / f"{name}-{target_name}"
    options, generator = ProfileOptions(sampled=True), np.random.default_rng(SEED)
    drawn = [random_widths(network.channels, generator) for _ in range(count)]
    with open_device(url) as device, ProfileStore(out / "profile.sqlite3") as store, empty_home(out / "home"):
        info, sampling = device.describe(), out / "sampling.json"
        note(f"{name} on {url}")
        if not sampling.exists():
            if len(store.profiles()):
                raise SystemExit(
                    f"{out} has a profile that was interrupted: its seconds say nothing; remove the folder"
                )
            began = time.monotonic()
            done = profiled(network, target, device, store, options, info=info, progress=Told())
            said = {
                "seconds": time.monotonic() - began,
                "timings": done.timings,
                "kernels": done.measured,
                "placed": done.placed,
                "failed": len(done.failed),
                "sureness": [asdict(s) for s in done.sureness],
            }
            write_whole(sampling, json.dumps(said))
        profile: Profile = store.profiles()[0]
        records = profile.records()
        nominal = nominal_ns(records)
        book, clock = ScheduleBook(target, records), Clock(nominal)
        timing = NetworkTiming(rounds=ROUNDS)
        with whole_networks(device, info, threads=options.threads, timing=timing) as whole:
            note(f"    building {count} networks")
            known = {n.key: n.at_clock(nominal) for n in profile.networks()}
            apart = [at_widths(network.kernels, w) for w in widths_apart(network.channels, MOST)]
            yardsticks = [g for g in (network.kernels, *apart) if network_key(n.spec for n in g.nodes) in known]
            for graph in yardsticks:
                whole.put(graph, target, book)
            for widths in drawn:
                whole.put(at_widths(network.kernels, widths), target, book)
            for widths in drawn[: min(real, count)]:
                whole.place(lower_network(shrunk(network, widths), target, book, name=name), target)
            note("    timing them")
            whole.settle(clock)
            timed = whole.records(clock)
        again, measured = timed[: len(yardsticks)], timed[len(yardsticks) :]
        model = estimated_of(profile, target, [n.spec for n in network.kernels.nodes])
        ratios = [known[n.key] / n.at_clock(nominal) for n in again]
        then = float(np.median(ratios))
        rows = [judged(model, record, nominal, then) for record in measured[:count]]
    pairs = zip(measured[count:], measured, strict=False)
    real_over_noise = [a.at_clock(nominal) / b.at_clock(nominal) for a, b in pairs]
    found = {
        "network": name,
        "device": url,
        "evidence": info.evidence,
        "felt": clock.felt,
        "then_over_now": ratios,
        "repeat": float(np.mean(np.abs(np.array(ratios) / then - 1))),
        **json.loads(sampling.read_text()),
        **summary(rows),
        "real_over_noise": real_over_noise,
        "rows": [asdict(r) for r in rows],
    }
    note(f"    {said_of(found)}")
    return found


def summary(rows: Sequence[Predicted]) -> dict[str, float]:
    errors, raw = np.abs([r.error for r in rows]), np.array([r.predicted_ms / r.raw_ms - 1 for r in rows])
    sums = np.array([r.sum_ms / r.measured_ms - 1 for r in rows])
    return {
        "mean_error": float(errors.mean()),
        "p95_error": float(np.quantile(errors, 0.95)),
        "bias": float(np.mean([r.error for r in rows])),
        "raw_mean_error": float(np.abs(raw).mean()),
        "raw_bias": float(raw.mean()),
        "inside": float(np.mean([r.inside for r in rows])),
        "width": float(np.median([(r.high_ms - r.low_ms) / r.predicted_ms for r in rows])),
        "sum_mean_error": float(np.abs(sums).mean()),
        "sum_scatter": float(sums.std()),
    }


def said_of(found: dict[str, Any]) -> str:
    return (
        f"{found['network']}: {found['timings']} timings in {found['seconds']:.0f} s, {found['kernels']} kernels alone "
        f"and {found['placed']} in their places; error {found['mean_error']:.1%} (95th percentile "
        f"{found['p95_error']:.1%}, bias {found['bias']:+.1%}; raw {found['raw_mean_error']:.1%}), "
        f"{found['inside']:.0%} inside intervals {found['width']:.1%} wide; the same networks measured twice differ by "
        f"{found['repeat']:.1%}"
    )


def bars_of(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    bars = []
    timed = [p for p in parts if p["evidence"] == "measured"]
    for p in timed:
        name = p["network"]
        bars += [
            bar(f"{name}: mean error", p["mean_error"], MEAN, p["mean_error"] <= MEAN),
            bar(f"{name}: 95th percentile of the error", p["p95_error"], WORST, p["p95_error"] <= WORST),
            bar(f"{name}: median width of intervals", p["width"], WIDTH, p["width"] <= WIDTH),
        ]
        if name == OF:
            bars.append(bar(f"{name}: timings", p["timings"], TIMINGS, p["timings"] <= TIMINGS))
            bars.append(bar(f"{name}: seconds", p["seconds"], SECONDS, p["seconds"] <= SECONDS))
    if timed:
        inside = float(np.mean([r["low_ms"] <= r["measured_ms"] <= r["high_ms"] for p in timed for r in p["rows"]]))
        bars.append(bar(f"inside intervals at {LEVEL:.0%}", inside, INSIDE, inside >= INSIDE))
    for p in parts:
        if p["evidence"] != "measured":
            met = p["mean_error"] <= COUNTED_MEAN
            bars.append(bar(f"{p['network']} on {p['device']}: mean error", p["mean_error"], COUNTED_MEAN, met))
    return bars


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="*", default=list(NETWORKS))
    parser.add_argument("--pixels", type=int, default=PIXELS)
    parser.add_argument("--count", type=int, default=20, help="random networks of each")
    parser.add_argument("--real", type=int, default=2, help="of these shrunk and compiled with their weights")
    parser.add_argument("--device", default="local:")
    parser.add_argument("--target", default="host")
    parser.add_argument("--emulated", action="store_true", help="also on the emulated Cortex-A53")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgeprune-prediction-") as temporary:
        folder = given.folder or Path(temporary)
        asked = [(name, given.pixels, given.device, given.target) for name in given.network]
        if given.emulated:
            url, target, name, pixels = EMULATED
            asked.append((name, pixels, url, target))
        parts = [part(*of, given.count, given.real, folder) for of in asked]
    if not given.json:
        for found in parts:
            print(said_of(found))
    return told("edgeprune.benchmark-prediction/1", {"parts": parts}, bars_of(parts), given.json)


if __name__ == "__main__":
    sys.exit(main())
