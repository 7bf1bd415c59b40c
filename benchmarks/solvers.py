"""What each solver retains, proves and takes, on problems from real profiles: eight networks, 32 widths a group.

    python benchmarks/solvers.py [--network resnet50 …] [--budget 80 …] [--solver exact …] [--time-limit 10] [--json]
    python benchmarks/solvers.py --profile [--device local:]

Kernels' latencies are those of the profiles in ``benchmarks/profiles/``, measured by ``--profile``; saliency is drawn
(``profiled_problems.py``). Problems are built once, and kept in ``--folder``. A budget is a share of the milliseconds
of the dense network; or of these, of its flash, and of what its RAM is above that of the narrowest widths, for no plan
has less. Each solver runs in a process of its own; its peak memory is the most that the process had resident meanwhile,
less what it had before. What takes less than 2 s is repeated, and the median of its seconds told. Every certificate is
checked; the seconds of that are not the solver's. Times that a bar compares (a deep network's and a shallow one's,
three limits' and one's) are taken in turns, for the clock changes between one network and the next. ``--synthetic``
solves problems of a cost model instead (``solver_networks.py``): no profile, nothing traced.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from bars import bar, told

from edgeprune.api.progress import reporting
from edgeprune.budget import (
    Axis,
    Budget,
    Choice,
    Effort,
    Evaluator,
    Problem,
    Term,
    get_solver,
    load_problem,
    save_problem,
)
from edgeprune.budget.certificate import verify
from edgeprune.budget.problem import RESOURCES, by_resource
from edgeprune.errors import InfeasibleBudgetError

HERE = Path(__file__).resolve().parent
SOLVERS = ("uniform", "greedy", "knapsack", "lagrangian", "exact")
NETWORKS = (
    "resnet18",
    "resnet50",
    "resnet152",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "densenet121",
    "unet",
    "yolo",
)
PROVED = {"resnet50": (0.1, 5.0), "mobilenet_v2": (0.1, 5.0), "densenet121": (0.5, 60.0), "yolo": (0.5, 60.0)}
"""The gap in per cent that ``exact`` has to prove, and within how many seconds."""
OTHERS_S = 10.0
JOINT = ("lagrangian", "exact")
"""Solvers that are asked under all three limits, too."""
DEPTH = (("resnet18", "resnet152"), ("resnet50", "resnet152"))
BRIEF_S, REPEATS = 2.0, 5
"""A solver that takes less is asked so many times, and the median of its seconds counts."""
TURNS, TURNS_S = 25, 40.0
"""Two questions are compared over so many turns, or as many as are begun in these seconds."""
SLACK_S = 0.5
"""So much less than those of its bar are the seconds that a solver is given: it may miss them by one step of its
search."""

PROFILES, FOLDER = HERE / "profiles", HERE.parent / "build" / "solvers"

SMALL = Problem(
    (Choice("a", (1, 2), np.arange(2.0)), Choice("b", (1, 2), np.arange(2.0))),
    (Term("k", (Axis((0, 1)),), (np.array([2, 4]),), np.ones(2), np.ones(2)),),
)


def budget_of(problem: Problem, percent: int, *, joint: bool) -> Budget:
    evaluator = Evaluator(problem)
    ends = [evaluator.widths(levels) for levels in (evaluator.full_levels, evaluator.narrowest)]
    dense, narrow = by_resource(evaluator.costs(np.array(ends, dtype=np.int64)))
    limits = dense * percent / 100
    limits[-1] += narrow[-1] * (100 - percent) / 100
    return Budget(*map(float, limits)) if joint else Budget(float(limits[0]))


def solved(path: str, percent: int, solver: str, time_limit_s: float, joint: bool) -> dict[str, Any]:
    """One solver asked once, in this process."""
    problem, _ = load_problem(path)
    budget = budget_of(problem, percent, joint=joint)
    row: dict[str, Any] = {
        "groups": len(problem.choices),
        "budget": percent,
        "limits": list(RESOURCES if joint else RESOURCES[:1]),
        "solver": solver,
    }
    _warm()
    before = _forget_peak()
    start = time.perf_counter()
    try:
        found = get_solver(solver).solve(problem, budget, effort=Effort(time_limit_s))
    except InfeasibleBudgetError as e:
        # Of one ratio for all groups that is no fault of the budget.
        return row | {"seconds": time.perf_counter() - start, "stop": "infeasible", "error": e.message}
    peak = None if before is None else max(0, _resident("VmHWM") - before)
    taken = [found.seconds]
    while found.seconds < BRIEF_S and len(taken) < REPEATS:
        taken.append(get_solver(solver).solve(problem, budget, effort=Effort(time_limit_s)).seconds)
    row |= {
        "saliency": found.saliency,
        "gap_percent": 100 * (found.gap or 0.0),
        "seconds": median(taken),
        "seconds_range": [min(taken), max(taken)],
        "peak_bytes": peak,
        "stop": found.stop.value,
    }
    start = time.perf_counter()
    verify(problem, budget, found)
    return row | {"verify_seconds": time.perf_counter() - start}


def in_turns(
    paths: tuple[str, str], percents: Sequence[int], joint: tuple[bool, bool], time_limits_s: tuple[float, float]
) -> dict[str, Any]:
    """How many times as long ``lagrangian`` takes for the second problem as for the first, all budgets summed.

    Args:
        joint: whether all three limits hold, or that of ms alone.
    """
    problems = [load_problem(path)[0] for path in paths]
    solver = get_solver("lagrangian")
    _warm()

    def seconds(problem: Problem, budgets: Sequence[Budget], time_limit_s: float) -> float:
        return sum(solver.solve(problem, budget, effort=Effort(time_limit_s)).seconds for budget in budgets)

    asked = [
        (problem, [budget_of(problem, percent, joint=all_three) for percent in percents], time_limit_s)
        for problem, all_three, time_limit_s in zip(problems, joint, time_limits_s, strict=True)
    ]
    ratios: list[float] = []
    began = time.perf_counter()
    while not ratios or (len(ratios) < TURNS and time.perf_counter() - began < TURNS_S):
        first, second = (seconds(*question) for question in asked)
        ratios.append(second / first)
    groups = [len(problem.choices) for problem in problems]
    return {"ratio": median(ratios), "ratio_range": [min(ratios), max(ratios)], "turns": len(ratios), "groups": groups}


def _warm() -> None:
    """What a process imports at its first call is not the solver's."""
    get_solver("exact").solve(SMALL, Budget(1.0))


def _forget_peak() -> int | None:
    """Bytes resident now, from which on the peak is counted; None on systems that keep no such account."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _resident("VmRSS")
    except OSError:
        return None


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def alone(function: Callable[..., dict[str, Any]], *question: Any) -> dict[str, Any]:
    """The same in a process of its own, which has nothing else in memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, question)


def asked_alone(name: str, *question: Any) -> dict[str, Any]:
    row = {"network": name, **alone(solved, *question)}
    limits = "ms" if len(row["limits"]) == 1 else "ms, flash, RAM"
    line = f"{name:18} {row['budget']:3} % {limits:14} {row['solver']:10} "
    if "saliency" in row:
        megabytes = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:6.0f} MB"
        line += (
            f"kept {row['saliency']:.5f}  gap {row['gap_percent']:8.4f} %  {row['seconds']:6.2f} s{megabytes}  "
            f"{row['stop']} (checked in {row['verify_seconds']:.1f} s)"
        )
    else:
        line += f"infeasible  {row['seconds']:6.2f} s"
    print(line, file=sys.stderr, flush=True)
    return row


def compared(files: Mapping[str, Path], percents: Sequence[int], limits_s: Mapping[str, float]) -> list[dict[str, Any]]:
    """Times of ``lagrangian`` that bars compare."""
    pairs = [("depth", *names, False) for names in DEPTH if set(names) <= files.keys()]
    pairs += [("limits", name, name, True) for name in files]
    rows = []
    for kind, first, second, joint in pairs:
        question = (
            (str(files[first]), str(files[second])),
            percents,
            (False, joint),
            (limits_s[first], limits_s[second]),
        )
        row = {"compared": kind, "networks": [first, second], **alone(in_turns, *question)}
        low, high = row["ratio_range"]
        said = f"{first} to {second}" if kind == "depth" else f"{first}, three limits over one"
        print(f"{said}: {row['ratio']:.2f} times ({low:.2f} to {high:.2f})", file=sys.stderr, flush=True)
        rows.append(row)
    return rows


def bars_of(rows: Sequence[dict[str, Any]], ratios: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    def of(name: str, solver: str) -> list[dict[str, Any]]:
        return [r for r in rows if (r["network"], r["solver"], len(r["limits"])) == (name, solver, 1)]

    bars = []
    for name, (gap, limit_s) in PROVED.items():
        if mine := of(name, "exact"):
            worst, slowest = max(r.get("gap_percent", np.inf) for r in mine), max(r["seconds"] for r in mine)
            bars.append(bar(f"exact, {name}: gap in %", worst, gap, worst <= gap))
            bars.append(bar(f"exact, {name}: seconds", slowest, limit_s, slowest <= limit_s))
    if mine := of("resnet50", "lagrangian"):
        slowest, worst = max(r["seconds"] for r in mine), max(r.get("gap_percent", np.inf) for r in mine)
        bars.append(bar("lagrangian, resnet50: seconds", slowest, 1.0, slowest <= 1.0))
        bars.append(bar("lagrangian, resnet50: gap in %", worst, 1.0, worst <= 1.0))
    for row in ratios:
        (first, second), ratio = row["networks"], row["ratio"]
        if row["compared"] == "depth":
            shallow, deep = row["groups"]
            deeper = deep / shallow
            bars.append(bar(f"lagrangian, {first} to {second}: time, times", ratio, deeper, ratio <= deeper))
        else:
            bars.append(bar(f"lagrangian, {first}: three limits' time, times one's", ratio, 3.0, ratio <= 3.0))
    return bars


def problem_files(names: Sequence[str], profiles: Path, folder: Path, *, synthetic: bool) -> dict[str, Path]:
    """The problems of networks in files, which are made where they are missing."""
    if not synthetic:
        from profiled_problems import problem

        with reporting(True) as progress:
            return {n: problem(n, profiles, folder, progress) for n in names}
    from solver_networks import NETWORKS as MODELLED

    folder.mkdir(parents=True, exist_ok=True)
    paths = {n: folder / f"{n}-synthetic.json" for n in names if n in MODELLED}
    for name, path in paths.items():
        save_problem(path, MODELLED[name]())
    return paths


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--budget", nargs="+", type=int, default=[80, 55, 30], help="per cent of the dense network's")
    parser.add_argument("--solver", nargs="+", choices=SOLVERS, default=list(SOLVERS))
    parser.add_argument(
        "--time-limit",
        type=float,
        help=f"seconds; by default {SLACK_S:g} less than those of a network's bar, or than {OTHERS_S:g}",
    )
    parser.add_argument("--profiles", type=Path, default=PROFILES, help="folder of the profiles")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where problems are kept")
    parser.add_argument("--synthetic", action="store_true", help="problems of a cost model")
    parser.add_argument("--profile", action="store_true", help="measure, and write the profiles; solve nothing")
    parser.add_argument("--device", default="local:", help="where to measure")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.profile:
        from profiled_problems import measure

        for folder in (args.folder, args.profiles):
            folder.mkdir(parents=True, exist_ok=True)
        with reporting(True) as progress:
            for path in measure(args.network, args.device, args.folder / "profiles.sqlite3", args.profiles, progress):
                print(path)
        return 0
    files = problem_files(args.network, args.profiles, args.folder, synthetic=args.synthetic)
    limits_s = {name: args.time_limit or PROVED.get(name, (0, OTHERS_S))[1] - SLACK_S for name in files}
    asked = [(s, joint) for joint in (False, True) for s in args.solver if not joint or s in JOINT]
    rows = [
        asked_alone(name, str(path), percent, s, limits_s[name], joint)
        for name, path in files.items()
        for percent in args.budget
        for s, joint in asked
    ]
    ratios = compared(files, args.budget, limits_s) if "lagrangian" in args.solver else []
    return told("edgeprune.solvers/3", {"rows": rows, "compared": ratios}, bars_of(rows, ratios), args.json)


if __name__ == "__main__":
    sys.exit(main())
