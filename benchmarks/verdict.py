"""How often a verdict is right: on simulated devices with restless clocks, and on this computer with real networks.

    python benchmarks/verdict.py [--devices 2000] [--pairs 20] [--json]

A simulated device changes between clock states 3 to 15 % apart, drifts, has heavy-tailed spikes, launches that differ,
and now and then throttles after 30 s of work. Its true ratio to the budget is drawn from 0.90 to 1.10; half of the
budgets are relative to the dense network, half are in milliseconds. Pairs on ``local:`` are chains of equal layers of
which one has 34 and the other 33, so that one takes 3 % more by construction.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bars import bar, told

from edgeprune.budget.verdict import Outcome, Question, Turn, Verdict, decide

KEPT_WRONG, BROKEN_WRONG, UNDECIDED = 0.01, 0.01, 0.05
SURE = 0.01
"""Where the truth is nearer to the limit than this, either verdict is right."""
HALF = 0.6745
"""Median of the absolute value of a normal variable: noise only adds, and the truth is the median with it."""
LAYERS = 33
LAUNCH_MS, START_MS, FEWEST = 60.0, 12.0, 10


@dataclass
class Restless:
    """A device whose clock nobody controls; ``now`` are its seconds."""

    rng: np.random.Generator
    now: float = 0.0
    switches: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        r = self.rng
        speeds = [1.0, 1.0 + r.uniform(0.03, 0.15)] + ([1.0 + r.uniform(0.03, 0.15)] if r.random() < 0.3 else [])
        dwell = np.exp(r.uniform(np.log(0.5), np.log(60), len(speeds)))
        at, state = 0.0, int(r.integers(len(speeds)))
        while at < 400:
            self.switches.append((at, speeds[state]))
            at += r.exponential(dwell[state])
            state = int(r.choice([s for s in range(len(speeds)) if s != state]))
        self.drift = r.uniform(-0.03, 0.03) / 60
        self.throttle = r.uniform(0.1, 0.4) if r.random() < 0.4 else 0.0
        self.launch, self.noise = r.uniform(0.001, 0.008), r.uniform(0.005, 0.03)
        self.spikes, self.spike = r.uniform(0, 0.03), r.uniform(0.05, 0.5)
        self.slow_starts = r.uniform(0, 0.1)

    def slowness(self, times: np.ndarray) -> np.ndarray:
        begins, factors = zip(*self.switches, strict=True)
        state = np.array(factors)[np.searchsorted(begins, times, side="right") - 1]
        hot = 1 + self.throttle * np.clip((times - 30) / 5, 0, 1)
        return np.maximum(state * (1 + self.drift * times) * hot, 0.5)

    def run(self, ms: float, likeness: float) -> tuple[list[float], float]:
        """One launch of a program that takes ``ms`` at the nominal clock: its samples, and the reference's time."""
        repeats = int(max(FEWEST, LAUNCH_MS / ms))
        times = self.now + START_MS / 1e3 + np.arange(repeats) * ms / 1e3
        slow, r = self.slowness(times), self.rng
        samples = ms * slow**likeness * np.exp(self.noise * (np.abs(r.standard_normal(repeats)) - HALF))
        samples *= np.exp(self.launch * r.standard_normal()) * (1.2 if r.random() < self.slow_starts else 1.0)
        hit = r.random(repeats) < self.spikes
        samples[hit] *= 1 + self.spike * (r.pareto(1.3, hit.sum()) + 1)
        reference = float(np.median(0.05 * slow * np.exp(0.01 * (np.abs(r.standard_normal(repeats)) - HALF))))
        self.now = float(times[0] + samples.sum() / 1e3)
        return samples.tolist(), reference


def simulate(number: int) -> tuple[float, Verdict, str]:
    """The true ratio to the budget of one device, and the verdict on it."""
    rng = np.random.default_rng([number, 20261128])
    truth, dense = rng.uniform(0.90, 1.10), float(np.exp(rng.uniform(np.log(0.3), np.log(80))))
    device, share = Restless(rng), rng.uniform(0.2, 0.9)
    relative = number % 2 == 0
    likeness = 1 + rng.uniform(-0.1, 0.1)
    if relative:
        pruned = truth * share * dense
        turns = Turns(device, pruned, dense, likeness, 1 + (likeness - 1) * rng.uniform(0.7, 1.3))
        question = Question(share * dense, "simulated", dense_ms=dense)
    else:
        turns = Turns(device, truth * dense, None, likeness, 1.0)
        # What profiling saw of the reference: the nominal clock, as a median over launches knows it.
        question = Question(dense, "simulated", nominal_ms=0.05 * float(np.exp(rng.normal(0, 0.002))))
    return truth, decide(question, turns, lambda: device.now), "relative" if relative else "absolute"


@dataclass
class Turns:
    device: Restless
    ms: float
    dense_ms: float | None
    likeness: float
    dense_likeness: float
    first: bool = True

    def __call__(self) -> Turn:
        dense: list[float] = []
        self.first = not self.first
        if self.dense_ms is not None and not self.first:
            dense, _ = self.device.run(self.dense_ms, self.dense_likeness)
        samples, reference = self.device.run(self.ms, self.likeness)
        if self.dense_ms is not None and self.first:
            dense, _ = self.device.run(self.dense_ms, self.dense_likeness)
        return Turn(samples, dense, reference)


def simulations(devices: int) -> dict[str, Any]:
    rows = [simulate(n) for n in range(devices)]
    counts: Counter[str] = Counter()
    seconds: dict[str, list[float]] = {}
    for truth, verdict, kind in rows:
        wrong = (verdict.outcome is Outcome.KEPT and truth > 1 + SURE) or (
            verdict.outcome is Outcome.BROKEN and truth < 1 - SURE
        )
        counts[f"wrong {verdict.outcome}" if wrong else str(verdict.outcome)] += 1
        counts[f"{kind} not decidable"] += verdict.outcome is Outcome.UNDECIDED
        seconds.setdefault(kind, []).append(verdict.seconds)
    over = max(1, sum(truth > 1 + SURE for truth, *_ in rows))
    under = max(1, sum(truth < 1 - SURE for truth, *_ in rows))
    covered = sum(v.low / v.limit <= truth <= v.high / v.limit for truth, v, _ in rows)
    return {
        "devices": devices,
        "wrong_kept": counts["wrong kept"] / over,
        "wrong_broken": counts["wrong broken"] / under,
        "not_decidable": counts["not decidable"] / devices,
        "truth_inside_interval": covered / devices,
        "counts": dict(sorted(counts.items())),
        "simulated_seconds": {
            kind: {f"p{q}": float(np.percentile(s, q)) for q in (50, 90, 99)} for kind, s in seconds.items()
        },
    }


def chain(layers: int, width: int, kernel: int) -> Any:
    from torch import nn

    blocks = [nn.Sequential(nn.Conv2d(width, width, kernel, padding=kernel // 2), nn.ReLU()) for _ in range(layers)]
    return nn.Sequential(*blocks)


def pairs(count: int) -> list[dict[str, Any]]:
    """Networks that are 3 % apart, each judged against the other, on ``local:``."""
    import torch

    from edgeprune.compiler.compile import compile_network
    from edgeprune.deploy.timing import Turns as Launches
    from edgeprune.deploy.timing import timed
    from edgeprune.deploy.trials import on_trial
    from edgeprune.devices.local.device import LocalDevice
    from edgeprune.graph.network import read_network
    from edgeprune.targets import load_target

    shapes = [(32, 3, 28), (48, 1, 56), (64, 3, 14), (96, 1, 28), (40, 3, 20), (16, 3, 56), (128, 1, 28), (24, 3, 40)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        device = LocalDevice(Path(folder) / "device")
        with on_trial(device) as trials:
            for number in range(count):
                width, kernel, size = shapes[number // 2 % len(shapes)]
                bundles = []
                for layers in (LAYERS, LAYERS + 1):
                    torch.manual_seed(number)
                    network = read_network(chain(layers, width, kernel).eval(), (torch.zeros(1, width, size, size),))
                    bundles.append(Path(folder) / f"{number}-{layers}")
                    compile_network(network, load_target("host"), bundles[-1], name=f"chain{layers}")
                kept = number % 2 == 0
                own, other = bundles if kept else reversed(bundles)
                with trials.open(own) as program, trials.open(other) as dense:
                    ms = timed(dense).median_ms
                    question = Question(ms, "measured", dense_ms=ms)
                    verdict = decide(question, Launches(program, dense), time.monotonic)
                rows.append(
                    {
                        "network": f"{LAYERS} layers {kernel}x{kernel}, {width} channels at {size}x{size}",
                        "truth": "kept" if kept else "broken",
                        "verdict": str(verdict.outcome),
                        "ratio": verdict.value / verdict.limit,
                        "interval": [verdict.low / verdict.limit, verdict.high / verdict.limit],
                        "turns": verdict.turns,
                        "seconds": verdict.seconds,
                    }
                )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = simulations(arguments.devices) if arguments.devices else {}
    real = pairs(arguments.pairs) if arguments.pairs else []
    bars = []
    if found:
        for name, limit in (("wrong_kept", KEPT_WRONG), ("wrong_broken", BROKEN_WRONG), ("not_decidable", UNDECIDED)):
            bars.append(bar(name, found[name], limit, found[name] <= limit))
    if real:
        right = sum(row["truth"] == row["verdict"] for row in real)
        bars.append(bar("pairs decided right on local:", right, len(real), right == len(real)))
    if not arguments.json:
        print(json.dumps(found, indent=1))
        for row in real:
            low, high = row["interval"]
            print(
                f"{row['network']:45} {row['truth']:7} {row['verdict']:14} {row['ratio']:.4f} "
                f"[{low:.4f}, {high:.4f}] {row['turns']:4} turns {row['seconds']:5.1f} s"
            )
    return told("edgeprune.verdict-benchmark/1", {"simulated": found, "local": real}, bars, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
