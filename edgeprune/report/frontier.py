"""A frontier in words: a line a plan, and the measured networks of runs that are marked on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.amounts import number, percent, share, size
from edgeprune.budget.front import Front
from edgeprune.budget.problem import Problem
from edgeprune.errors import BadInputError, UsageError
from edgeprune.latency.densities import WHOLE
from edgeprune.report.schema import Figure, Metric, Variant, read_report
from edgeprune.report.tables import ABSENT, Table, figure

UNITS = {"latency_ms": "ms", "flash_bytes": "bytes of flash", "ram_bytes": "bytes of RAM"}


@dataclass(frozen=True, slots=True)
class Mark:
    """A network of a run: what was measured of it. A figure is None where it was not taken."""

    run: str
    name: str
    latency_ms: Figure | None
    flash_bytes: Figure | None
    ram_bytes: Figure | None
    worth: Figure | Metric | None
    worth_name: str

    def cost(self, resource: str) -> Figure | None:
        """The figure of one resource, by its name."""
        found: Figure | None = getattr(self, resource)
        return found

    def to_json(self) -> dict[str, Any]:
        figures = {name: getattr(self, name) for name in (*UNITS, "worth")}
        return {
            "run": self.run,
            "network": self.name,
            "metric": self.worth_name,
            **{name: None if f is None else f.model_dump(mode="json") for name, f in figures.items()},
        }


def marks_of(runs: Sequence[Path], problem: Problem, *, target: str | None = None) -> tuple[Mark, ...]:
    """The pruned networks of runs, and the dense one of the first.

    Args:
        runs: folders of ``edgeprune fit``, or files ``report.json``.
        problem: of the network that the runs have to be of: they have its width groups, whatever they call it.
        target: what they have to be for, if that is known.

    Raises:
        BadInputError: a run has no report, or no pruned network in it.
        UsageError: a run is of another network or target.
    """
    found: list[Mark] = []
    for run in runs:
        report = read_report(run / "report.json" if run.is_dir() else run)
        sizes = {g.name: g.size for g in report.groups} | dict.fromkeys(report.plan.densities, WHOLE)
        # The problem of a run with a rule ends at the widths that this leaves.
        ruled = "rule" in report.plan.method
        if other := [
            c.name
            for c in problem.choices
            if sizes.get(c.name) != c.levels[-1] and not (ruled and sizes.get(c.name, 0) > c.levels[-1])
        ]:
            raise UsageError(
                f"{run} is a run of another network, {report.model.name}: width group {other[0]!r} is not the same",
                hint="leave the run out",
                groups=other,
            )
        if target not in (None, report.target.name):
            raise UsageError(f"{run} is a run for {report.target.name}, not for {target}", hint="leave the run out")
        pruned, dense = report.variant("pruned"), report.variant("dense")
        if pruned is None:
            raise BadInputError(f"{run} holds no pruned network", hint="give the folder of a finished fit")
        if dense is not None and not found:
            found.append(_mark(str(run), dense, report.accuracy_name))
        found.append(_mark(str(run), pruned, report.accuracy_name))
    return tuple(found)


def _mark(run: str, variant: Variant, metric: str) -> Mark:
    v = variant
    return Mark(run, v.name, v.latency_ms, v.flash_bytes, v.peak_ram_bytes, v.worth, metric)


def retained(front: Front, saliency: float) -> float:
    """A share of what the widest plan retains; 0 where that is nothing."""
    return saliency / front.widest.saliency if front.widest.saliency > 0 else 0.0


def frontier_tables(front: Front, marks: Sequence[Mark], title: str, evidence: str) -> tuple[Table, ...]:
    """What the curve comes to, its plans, and the networks that were measured."""
    rows = tuple(
        (
            f"{number(p.solution.latency_ms)} ms",
            size(p.solution.flash_bytes),
            ABSENT if p.solution.ram_bytes is None else size(p.solution.ram_bytes),
            percent(retained(front, p.solution.saliency)),
            ABSENT if p.solution.gap is None else share(p.solution.gap),
            "knee" if p.knee else "",
        )
        for p in front.points
    )
    said = f"costs predicted ({evidence})" if evidence else "costs by the tables"
    plans = Table(f"{title}; {said}", ("latency", "flash", "RAM", "saliency", "gap", ""), rows)
    if not marks:
        return (plans,)
    measured = tuple(
        (m.run, m.name, *(figure(f) for f in (m.latency_ms, m.flash_bytes, m.ram_bytes, m.worth))) for m in marks
    )
    columns = ("run", "network", "latency", "flash", "peak RAM", marks[0].worth_name)
    return (plans, Table("Networks of runs", columns, measured))
