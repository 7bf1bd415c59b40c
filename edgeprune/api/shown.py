"""Results that print: tables in a terminal, HTML in a notebook, one line where an object is named."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from edgeprune.errors import UsageError
from edgeprune.models.loading import LoadedModel
from edgeprune.report.schema import Report
from edgeprune.report.tables import Table, facts_table
from edgeprune.report.text import html_of, text_of
from edgeprune.targets import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Shown(ABC):
    """A result that prints itself."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """One line."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The facts, as the command prints them under ``--json``; paths are left as they are."""

    def tables(self) -> tuple[Table, ...]:
        return (facts_table(self.to_json()),)

    def __str__(self) -> str:
        return text_of(self.tables())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.summary}>"

    def _repr_html_(self) -> str:
        return html_of(self.tables())


class Network(Shown):
    """A result that holds a network: what takes a model takes it, too."""

    @property
    @abstractmethod
    def loaded(self) -> LoadedModel:
        """The network with its example inputs, name and source."""

    @property
    def module(self) -> nn.Module:
        """The torch module, in ``eval`` mode."""
        return self.loaded.module


def folder_of(out: Path | str | None, name: str, target: str | Target, what: str = "") -> Path:
    """The output folder of a result: the one that was named, or one under ``runs/`` named after model and target."""
    board = target if isinstance(target, str) else target.name
    return Path(out) if out is not None else Path("runs", f"{name}-{board}{what}")


def plot_of(report: Report, what: str) -> Figure:
    """A plot of a report: milliseconds (by kernel), widths, tradeoff, latencies, prediction or tables.

    Raises:
        UsageError: there is no such plot, or the report holds nothing to draw in it.
    """
    from edgeprune.report.plots import FIGURES

    if what not in FIGURES:
        raise UsageError(f"there is no plot {what!r}", hint=f"choose one of {', '.join(FIGURES)}")
    figure = FIGURES[what](report)
    if figure is None:
        raise UsageError(f"the report holds nothing for the plot {what!r}", hint="a tradeoff needs data, for example")
    return figure
