"""A fitted network: what :func:`edgeprune.fit` gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.amounts import written
from edgeprune.api.shown import Network, plot_of
from edgeprune.budget.verdict import Verdict
from edgeprune.fitting.result import FitResult
from edgeprune.models.loading import LoadedModel
from edgeprune.pruning.plan import Plan
from edgeprune.report.schema import Report
from edgeprune.report.tables import Table, facts_table
from edgeprune.report.whole import report_tables
from edgeprune.training.tasks.task import Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, repr=False)
class Fit(Network):
    """A fitted network: installed, proved, and reported.

    Attributes:
        report: every figure with how it was obtained (docs/REPORT.md).
        paths: what was written, by name: weights, widths, bundle, report_json, report_html, …
        result: all else that the fit found out: rounds, timings, training histories.
    """

    result: FitResult
    report: Report
    paths: Mapping[str, Path]

    @property
    def met(self) -> bool:
        """Whether the installed network keeps every limit that was asked for."""
        return self.result.met

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One for each limit, on the installed program."""
        return self.result.verdicts

    @property
    def plan(self) -> Plan:
        return self.result.plan

    @property
    def latency_ms(self) -> float:
        """Of the installed network, at the device's nominal clock."""
        return self.result.pruned.latency_ms

    @property
    def accuracy(self) -> float | None:
        """Share of right labels from the program on the device; None without data, or where the metric is another."""
        return self.result.pruned.accuracy

    @property
    def metric(self) -> Score | None:
        """The figure of the task's metric from the program on the device; None without data."""
        return self.result.pruned.metric

    @property
    def bundle(self) -> Path:
        return self.paths["bundle"]

    @property
    def loaded(self) -> LoadedModel:
        network, said = self.result.pruned.network, self.result
        return LoadedModel(
            network.module, network.example_inputs, said.model_name, said.model_source, network.interface
        )

    @property
    def summary(self) -> str:
        said, dense = self.result, self.result.dense.latency_ms
        figures = f"{written(dense, 'ms')} dense, {written(self.latency_ms, 'ms')} pruned, {said.evidence}"
        return f"{said.model_name} on {said.target.name}, {figures}, {'met' if self.met else 'not met'}"

    def plot(self, what: str = "milliseconds") -> Figure:
        """A plot of the report; see :func:`plot_of`."""
        return plot_of(self.report, what)

    def tables(self) -> tuple[Table, ...]:
        return tables_of(self.report, self.bundle.parent)

    def to_json(self) -> dict[str, Any]:
        return {
            "met": self.met,
            "budget_ms": self.result.budget.latency_ms,
            "measured_ms": self.latency_ms,
            "verdicts": [v.to_json() for v in self.verdicts],
            "report": self.report.to_json(),
            "paths": dict(self.paths),
        }


def tables_of(report: Report, folder: Path) -> tuple[Table, ...]:
    """The report of the run in a folder, and where there is more to see."""
    return *report_tables(report), facts_table({"report_html": folder / "report.html", "bundle": folder / "bundle"})
