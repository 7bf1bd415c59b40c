"""Plans by a sampled profile beside plans by a profile of all widths, at equal measured latency.

    python benchmarks/sampled_plans.py [--network resnet50] [--second resnet152] [--folder F] [--json]

Both profiles are made from empty stores, of profiles and of kernels. For each of three budgets, shares of the dense
latency, both are asked for the plan that retains most; all plans are launched in turns at the nominal clock, each with
the schedules of its own profile. Where the two plans of a budget differ in what they really take, the complete
profile is asked once more, for a budget that is longer or shorter by that; its plan is timed beside the other, and its
saliency brought to the other's latency by what a budget is worth there (the saliency between its two plans). The
figure is the sampled plan's saliency over that.

Then a second network of the family is profiled into the store of the sampled profile, no longer than its own kernels
take: how many of these need not be timed again. With ``--folder`` profiles are kept, and a run goes on with them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from bars import bar, told
from prediction import Told, empty_home, note
from profiled_networks import PROFILED

from edgeprune.budget import Budget, Problem, get_solver
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.devices.protocol import Device
from edgeprune.devices.registry import open_device
from edgeprune.graph.network import Network, read_network
from edgeprune.graph.resized import at_widths
from edgeprune.importance.curves import Saliency
from edgeprune.importance.registry import criterion
from edgeprune.latency.model import LatencyModel, nominal_ns
from edgeprune.latency.problem import build_problem, usable_levels
from edgeprune.latency.store import ProfileStore
from edgeprune.profiling.estimated import estimated_of
from edgeprune.profiling.figures import Clock
from edgeprune.profiling.networks import NetworkTiming, whole_networks
from edgeprune.profiling.profile import ProfileOptions, ProfileResult
from edgeprune.sampling.sampled import profiled
from edgeprune.targets import Target, load_target

SHARES = (0.8, 0.55, 0.3)
ROUNDS = 40
"""Launches of each plan at the nominal clock."""
SALIENCY, REUSED = 0.995, 0.5

Widths = Mapping[str, int]


@dataclass(frozen=True)
class Planned:
    """What one profile offers."""

    network: Network
    problem: Problem
    dense_ms: float
    book: ScheduleBook

    @classmethod
    def of(cls, network: Network, done: ProfileResult, target: Target) -> Planned:
        own = [n.spec for n in network.kernels.nodes]
        model: LatencyModel = estimated_of(done.profile, target, own)
        usable, _ = usable_levels(network.kernels, network.channels, done.levels, model)
        curves = Saliency.summed(criterion("l2").score(network, None)).curves
        problem = build_problem(network.kernels, network.channels, curves, usable, model, estimate=True)
        return cls(network, problem, model.network(own).latency_ms, ScheduleBook(target, done.profile.records()))

    def best(self, share: float) -> tuple[Widths, float]:
        """Widths of the best plan within a share of the dense latency, and the saliency that it retains."""
        found = get_solver("exact").solve(self.problem, Budget(latency_ms=share * self.dense_ms))
        chosen = {c.name: w for c, w in zip(self.problem.choices, found.widths, strict=True)}
        return {g.name: chosen.get(g.name, g.size) for g in self.network.channels.groups}, found.saliency


def took(plans: Sequence[tuple[Planned, Widths]], target: Target, device: Device, nominal: float) -> list[float]:
    """ms of plans, launched in turns."""
    with whole_networks(device, device.describe(), threads=1, timing=NetworkTiming(rounds=ROUNDS)) as whole:
        for by, widths in plans:
            whole.put(at_widths(by.network.kernels, widths), target, by.book)
        clock = Clock(nominal)
        whole.settle(clock)
        return [n.at_clock(nominal) / 1e6 for n in whole.records(clock)]


def compared(
    sampled: Planned, complete: Planned, target: Target, device: Device, nominal: float
) -> list[dict[str, Any]]:
    """A row for each budget."""
    plans = [(by, *by.best(share)) for share in SHARES for by in (sampled, complete)]
    first = took([(by, widths) for by, widths, _ in plans], target, device, nominal)
    shares = [s * a / b for s, a, b in zip(SHARES, first[::2], first[1::2], strict=True)]
    again = [(complete, *complete.best(share)) for share in shares]
    pairs = [x for ours, theirs in zip(plans[::2], again, strict=True) for x in (ours, theirs)]
    second = took([(by, widths) for by, widths, _ in pairs], target, device, nominal)
    rows = []
    for i, share in enumerate(SHARES):
        (_, _, ours), (_, _, once), (_, _, theirs) = plans[2 * i], plans[2 * i + 1], again[i]
        ratio = second[2 * i] / second[2 * i + 1]
        moved = shares[i] / share - 1
        worth = (theirs - once) / moved if abs(moved) > 1e-3 else 0.0
        rows.append(
            {
                "share": share,
                "sampled_ms": [first[2 * i], second[2 * i]],
                "complete_ms": [first[2 * i + 1], second[2 * i + 1]],
                "sampled_saliency": ours,
                "complete_saliency": [once, theirs],
                "ratio": ours / (theirs + max(0.0, worth) * (ratio - 1)),
            }
        )
        note(f"    {share:.0%}: saliency {ours:.5f} beside {theirs:.5f}, at {ratio:.3f} of its latency")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet50", choices=sorted(PROFILED))
    parser.add_argument("--second", default="resnet152", choices=sorted(PROFILED))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    target = load_target("host")
    with tempfile.TemporaryDirectory(prefix="edgeprune-plans-") as temporary, open_device("local:") as device:
        folder, found = given.folder or Path(temporary), dict[str, Any]()
        first, second = (traced(name) for name in (given.network, given.second))
        made = {}
        for kind, options in (("sampled", ProfileOptions(sampled=True)), ("complete", ProfileOptions(sampled=False))):
            note(f"{given.network}, {kind}")
            store = ProfileStore(folder / f"{kind}.sqlite3")
            with empty_home(folder / "home"):
                began = time.monotonic()
                done = made[kind] = profiled(first, target, device, store, options, progress=Told())
                seconds = time.monotonic() - began
            found[kind] = {"seconds": seconds, "timings": done.timings, "kernels": done.measured, "known": done.reused}
        sampled, complete = (Planned.of(first, made[kind], target) for kind in ("sampled", "complete"))
        with empty_home(folder / "home"):
            rows = compared(sampled, complete, target, device, nominal_ns(made["sampled"].profile.records()))
        note(f"{given.second}, its own kernels")
        options = replace(ProfileOptions(sampled=True), seconds=1e-3)
        (folder / "second.sqlite3").unlink(missing_ok=True)
        with ProfileStore(folder / "second.sqlite3") as store:
            kept = made["sampled"].profile
            store.merge(kept.fingerprint, kept.records(), kept.networks())
        with ProfileStore(folder / "second.sqlite3") as store, empty_home(folder / "home"):
            again = profiled(second, target, device, store, options, progress=Told())
        own = len({n.spec.key for n in second.kernels.nodes})
        found["second"] = {"network": given.second, "kernels": own, "measured": again.measured, "known": again.reused}
    worst, reused = min(row["ratio"] for row in rows), 1 - again.measured / own
    bars = [
        bar(f"{given.network}: saliency beside a complete profile's, at worst", worst, SALIENCY, worst >= SALIENCY),
        bar(f"{given.second}: share of its kernels that were known", reused, REUSED, reused >= REUSED),
    ]
    if not given.json:
        for row in rows:
            print(f"{row['share']:.0%}: {row['ratio']:.4f} of the saliency at equal measured latency")
    return told("edgeprune.benchmark-sampled-plans/1", {**found, "rows": rows}, bars, given.json)


def traced(name: str) -> Network:
    entry = PROFILED[name]
    torch.manual_seed(0)
    return read_network(entry.make().eval(), (torch.zeros(1, 3, entry.side, entry.side),))


if __name__ == "__main__":
    sys.exit(main())
