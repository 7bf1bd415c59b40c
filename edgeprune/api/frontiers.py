"""frontier: the whole curve of saliency against ms, flash or RAM, from one stored profile or from a problem file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.amounts import share
from edgeprune.api.arguments import Data, Densities, Inputs, Model, Shape, TaskArgument
from edgeprune.api.opened import Where
from edgeprune.api.planning import Question
from edgeprune.api.progress import reporting
from edgeprune.api.shown import Shown
from edgeprune.budget.effort import USUAL, Effort
from edgeprune.budget.files import load_problem
from edgeprune.budget.front import Front, Point
from edgeprune.budget.frontier import COUNT, sweep
from edgeprune.budget.problem import RESOURCES, Solution
from edgeprune.budget.registry import get_solver
from edgeprune.devices.protocol import Device
from edgeprune.errors import UsageError
from edgeprune.fitting.planner import Planner
from edgeprune.importance.curves import IMPORTANCE
from edgeprune.latency.densities import parse_densities
from edgeprune.progress import Progress
from edgeprune.report.frontier import Mark, frontier_tables, marks_of
from edgeprune.report.tables import Table
from edgeprune.targets import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AGAINST = dict(zip(("latency", "flash", "ram"), RESOURCES, strict=True))
"""What a frontier may be against, by the words of the command line."""


@dataclass(frozen=True, slots=True, repr=False)
class Frontier(Shown):
    """The curve of saliency against one resource, or two: plans, each with its gap, and networks that were measured.

    Attributes:
        name: of the network or the problem.
        front: the plans and all that is proven of them.
        evidence: of the profile; empty for a problem in a file.
        marks: measured networks of the runs that were named.
    """

    name: str
    front: Front
    evidence: str = ""
    marks: tuple[Mark, ...] = ()

    @property
    def points(self) -> tuple[Point, ...]:
        """Plans, ascending by the first cost; ``point.solution`` has widths, costs, saliency, bound and gap."""
        return self.front.points

    @property
    def knees(self) -> tuple[Point, ...]:
        """Where the curve bends."""
        return tuple(p for p in self.points if p.knee)

    @property
    def summary(self) -> str:
        front = self.front
        early = "" if front.stop is None else f", {front.stop} after {front.asked} of {front.wanted} limits"
        words = " and ".join(word for word, resource in AGAINST.items() if resource in front.against)
        return (
            f"{self.name}, {len(front.points)} plans against {words}, gaps up to {share(front.worst_gap)}, hypervolume "
            f"{front.hypervolume:.4f} of at most {front.hypervolume_bound:.4f}{early}"
        )

    def plot(self) -> Figure:
        """The curve below its bound; for two resources the plans over both."""
        from edgeprune.report.plots.frontier import draw_frontier

        return draw_frontier(self.front, self.marks, self.evidence)

    def tables(self) -> tuple[Table, ...]:
        return frontier_tables(self.front, self.marks, self.summary, self.evidence)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "evidence": self.evidence or None,
            **self.front.to_json(),
            "runs": [m.to_json() for m in self.marks],
        }


def frontier(
    model: Model,
    *,
    against: str | Sequence[str] = "latency",
    count: int = COUNT,
    solver: str = "lagrangian",
    time_limit_s: float | None = None,
    gap: float = USUAL.gap,
    runs: Sequence[str | Path] = (),
    target: str | Target = "host",
    device: str | Device | None = None,
    data: Data = None,
    task: TaskArgument = None,
    pixels: str | None = None,
    example_inputs: Inputs = None,
    weights: Where = None,
    input_shape: Shape = None,
    example: Where = None,
    seed: int = 0,
    threads: int = 1,
    points: int = 8,
    step: int | None = None,
    blocks: bool = False,
    densities: Densities = None,
    tune: int = 8,
    store: Where = None,
    allow_mismatch: bool = False,
    criterion: str = "l2",
    objective: str = IMPORTANCE,
    progress: bool | Progress | None = None,
) -> Frontier:
    """The whole curve of saliency against ``latency``, ``flash`` or ``ram``, or a pair, from a stored profile.

    Nothing is measured. A time limit, which is of the whole curve, and Ctrl-C give the curve so far. Arguments and
    results are described in docs/API.md.

    Raises:
        UsageError, ModelLoadError: what was asked for makes no sense.
        BadInputError: a run that has no report.
        ProfileError, ProfileMismatchError: the store does not cover the network on this device.
    """
    resources, effort = _resources(against, count, solver), Effort(time_limit_s, gap)
    opened = Question(
        model=model,
        target=target,
        device=device,
        data=data,
        task=task,
        pixels=pixels,
        example_inputs=example_inputs,
        weights=weights,
        input_shape=input_shape,
        example=example,
        seed=seed,
        threads=threads,
        points=points,
        step=step,
        blocks=blocks,
        densities=parse_densities(densities),
        tune=tune,
        store=store,
        allow_mismatch=allow_mismatch,
        criterion=criterion,
        objective=objective,
    ).open()
    limited = AGAINST["ram"] in resources
    with opened.planning(ram_limited=limited, solver=solver, progress=progress) as planning:
        problem = planning.planner.problem
        marks = marks_of([Path(run) for run in runs], problem, target=opened.target.name)
        front = sweep(
            problem,
            resources,
            count=count,
            solver=solver,
            effort=effort,
            progress=planning.progress,
        )
        if not limited:
            front = _with_ram(front, planning.planner)
    return Frontier(opened.loaded.name, front, planning.evidence, marks)


def frontier_of(
    problem: str | Path,
    *,
    against: str | Sequence[str] = "latency",
    count: int = COUNT,
    solver: str = "lagrangian",
    time_limit_s: float | None = None,
    gap: float = USUAL.gap,
    runs: Sequence[str | Path] = (),
    progress: bool | Progress | None = None,
) -> Frontier:
    """As :func:`frontier`, of a problem in a file that :func:`edgeprune.budget.save_problem` wrote.

    Raises:
        BadInputError: the file is none, or a run has no report.
        UsageError, PlanError, ProfileError: as :func:`edgeprune.budget.frontier.sweep` says.
    """
    resources, effort = _resources(against, count, solver), Effort(time_limit_s, gap)
    found, _ = load_problem(problem)
    marks = marks_of([Path(run) for run in runs], found)
    with reporting(progress) as bar:
        front = sweep(found, resources, count=count, solver=solver, effort=effort, progress=bar)
    return Frontier(Path(problem).stem, front, marks=marks)


def _resources(against: str | Sequence[str], count: int, solver: str) -> tuple[str, ...]:
    """The resources by the names that solvers use; refuses early what makes no sense."""
    words = (against,) if isinstance(against, str) else tuple(against)
    if strange := [w for w in words if w not in AGAINST]:
        raise UsageError(f"a frontier is not against {strange[0]!r}", hint=f"choose of {', '.join(AGAINST)}")
    if len(words) not in (1, 2) or len(set(words)) < len(words):
        raise UsageError(f"a frontier is against one resource or two, not {', '.join(words) or 'none'}")
    if count < 2:
        raise UsageError(f"{count} limits make no curve", hint="try at least 2")
    get_solver(solver)
    return tuple(AGAINST[w] for w in words)


def _with_ram(front: Front, planner: Planner) -> Front:
    """The same with the RAM of every plan's program, which a solver that has no limit of it is not told."""

    def told(plan: Solution) -> Solution:
        return replace(plan, ram_bytes=planner.ram_bytes(plan))

    points = tuple(replace(p, solution=told(p.solution)) for p in front.points)
    return replace(front, points=points, widest=told(front.widest))
