"""The whole curve of a problem: how many plans with a gap, how good, in how many seconds; and of pairs of resources.

    python benchmarks/frontier.py [--problem resnet50 …] [--against latency,flash …] [--count 24] [--solver …]
                                  [--synthetic] [--json]

A problem is one of the networks of ``solvers.py``, from its profiles or with ``--synthetic`` from a cost model
(``solver_networks.py``); or it is a file that ``save_problem`` wrote. Every point's certificate is checked within the
seconds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bars import bar, told
from solvers import FOLDER, NETWORKS, PROFILES, problem_files

from edgeprune.api.frontiers import AGAINST
from edgeprune.budget import SOLVERS, Effort, Problem, load_problem
from edgeprune.budget.frontier import COUNT, sweep

POINTS, SECONDS = 20, 60.0
"""Of each curve: points with a gap at least, and seconds at most."""


def curve(
    name: str, problem: Problem, against: str, count: int, solver: str, time_limit_s: float | None
) -> dict[str, Any]:
    resources = tuple(AGAINST[word] for word in against.split(","))
    front = sweep(problem, resources, count=count, solver=solver, effort=Effort(time_limit_s))
    row = {
        "problem": name,
        "against": against,
        "solver": solver,
        "limits": front.asked,
        "points": len(front.points),
        "points_with_gap": sum(p.solution.gap is not None for p in front.points),
        "knees": sum(p.knee for p in front.points),
        "worst_gap_percent": 100 * front.worst_gap,
        "hypervolume": front.hypervolume,
        "hypervolume_bound": front.hypervolume_bound,
        "seconds": front.seconds,
        "stop": "complete" if front.stop is None else front.stop.value,
    }
    print(
        f"{name:14} {against:14} {solver:10} {row['points']:3} points of {front.asked} limits, gaps to "
        f"{row['worst_gap_percent']:.4f} %, hypervolume {front.hypervolume:.4f} of at most "
        f"{front.hypervolume_bound:.4f}, {front.seconds:.1f} s, {row['stop']}",
        file=sys.stderr,
        flush=True,
    )
    return row


def bars_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    bars = []
    for row in rows:
        # Of the limits of a pair many give one plan; what a curve has to have is asked of one resource.
        if row["against"].count(",") == 0:
            points = row["points_with_gap"]
            bars.append(bar(f"{row['problem']}, {row['against']}: points with a gap", points, POINTS, points >= POINTS))
        name = f"{row['problem']}, {row['against']}: seconds"
        bars.append(bar(name, row["seconds"], SECONDS, row["seconds"] <= SECONDS))
    return bars


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", nargs="+", default=["resnet50"], help=f"{', '.join(NETWORKS)}, or a file")
    parser.add_argument("--against", nargs="+", default=["latency"], help="latency, flash, ram, or two with a comma")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--solver", choices=SOLVERS, default="lagrangian")
    parser.add_argument("--time-limit", type=float, help="seconds of one curve")
    parser.add_argument("--synthetic", action="store_true", help="problems of a cost model")
    parser.add_argument("--profiles", type=Path, default=PROFILES, help="folder of the profiles")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where problems are kept")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    named = [n for n in args.problem if n in NETWORKS]
    files = {n: Path(n) for n in args.problem} | problem_files(
        named, args.profiles, args.folder, synthetic=args.synthetic
    )
    problems = {name: load_problem(path)[0] for name, path in files.items()}
    rows = [
        curve(name, problem, against, args.count, args.solver, args.time_limit)
        for name, problem in problems.items()
        for against in args.against
    ]
    return told("edgeprune.frontiers/1", {"rows": rows}, bars_of(rows), args.json)


if __name__ == "__main__":
    sys.exit(main())
