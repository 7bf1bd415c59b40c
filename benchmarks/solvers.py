"""What each solver retains, proves and takes: problems in the shapes of known networks, 32 widths a group.

    python benchmarks/solvers.py [--network resnet50 …] [--budget 80 …] [--solver exact …] [--time-limit 10] [--json]

The costs come from a model of a small processor (``solver_networks.py``), not from a device. Every certificate is
checked; its seconds are not the solver's.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np
from bars import bar, told
from solver_networks import NETWORKS

from edgeprune.budget import Budget, Evaluator, Problem, get_solver
from edgeprune.budget.certificate import verify
from edgeprune.budget.problem import by_resource

SOLVERS = ("uniform", "greedy", "knapsack", "lagrangian", "exact")
PROVED = {"resnet50": (0.1, 5.0), "mobilenet_v2": (0.1, 5.0), "densenet121": (0.5, 60.0), "yolo": (0.5, 60.0)}
"""The gap in per cent that ``exact`` has to prove, and within how many seconds."""
DEPTH = {"resnet18": 8, "resnet50": 16, "resnet101": 33, "resnet152": 50}
"""Blocks."""


def dense(problem: Problem) -> np.ndarray:
    evaluator = Evaluator(problem)
    widths = np.array([evaluator.widths(evaluator.full_levels)], dtype=np.int64)
    return by_resource(evaluator.costs(widths))[0]


def solved(name: str, percent: int, solver: str, time_limit_s: float, *, joint: bool = False) -> dict[str, Any]:
    problem = NETWORKS[name]()
    full = dense(problem) * percent / 100
    budget = Budget(*map(float, full)) if joint else Budget(float(full[0]))
    found = get_solver(solver).solve(problem, budget, time_limit_s=time_limit_s)
    start = time.perf_counter()
    verify(problem, budget, found)
    row = {
        "network": name,
        "groups": len(problem.choices),
        "budget": percent,
        "limits": "ms, flash, RAM" if joint else "ms",
        "solver": solver,
        "saliency": found.saliency,
        "gap_percent": 100 * (found.gap or 0.0),
        "seconds": found.seconds,
        "stop": found.stop.value,
        "verify_seconds": time.perf_counter() - start,
    }
    print(
        f"{name:14} {percent:3} % {row['limits']:14} {solver:11} kept {found.saliency:.5f}  "
        f"gap {row['gap_percent']:.4f} %  {found.seconds:6.2f} s  {found.stop.value}",
        file=sys.stderr,
        flush=True,
    )
    return row


def bars_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def of(name: str, solver: str, limits: str = "ms") -> list[dict[str, Any]]:
        return [r for r in rows if (r["network"], r["solver"], r["limits"]) == (name, solver, limits)]

    bars = []
    for name, (gap, seconds) in PROVED.items():
        if mine := of(name, "exact"):
            worst = max(r["gap_percent"] for r in mine)
            bars.append(bar(f"exact, {name}: gap in % within {seconds:g} s", worst, gap, worst <= gap))
    if mine := of("resnet50", "lagrangian"):
        slowest, worst = max(r["seconds"] for r in mine), max(r["gap_percent"] for r in mine)
        bars.append(bar("lagrangian, resnet50: seconds", slowest, 1.0, slowest <= 1.0))
        bars.append(bar("lagrangian, resnet50: gap in %", worst, 1.0, worst <= 1.0))
        if joint := of("resnet50", "lagrangian", "ms, flash, RAM"):
            ratio = sum(r["seconds"] for r in joint) / sum(r["seconds"] for r in mine)
            bars.append(bar("lagrangian, resnet50: three limits, times one", ratio, 3.0, ratio <= 3.0))
    ends = [of(name, "lagrangian") for name in ("resnet50", "resnet152")]
    if all(ends):
        grown = sum(r["seconds"] for r in ends[1]) / sum(r["seconds"] for r in ends[0])
        deeper = DEPTH["resnet152"] / DEPTH["resnet50"]
        bars.append(bar("lagrangian, resnet50 to resnet152: time, times", grown, deeper, grown <= deeper))
    return bars


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--budget", nargs="+", type=int, default=[80, 55, 30])
    parser.add_argument("--solver", nargs="+", choices=SOLVERS, default=list(SOLVERS))
    parser.add_argument("--time-limit", type=float, help="seconds; by default those of each network's bar, or 10")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    for name in args.network:
        limit = args.time_limit or PROVED.get(name, (0, 10.0))[1]
        for percent in args.budget:
            rows += [solved(name, percent, solver, limit) for solver in args.solver]
            if "lagrangian" in args.solver:
                rows.append(solved(name, percent, "lagrangian", limit, joint=True))
    return told("edgeprune.solvers/1", {"rows": rows}, bars_of(rows), args.json)


if __name__ == "__main__":
    sys.exit(main())
