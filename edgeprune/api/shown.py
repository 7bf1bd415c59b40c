"""Results that print: tables in a terminal, HTML in a notebook, one line where an object is named."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from torch import nn

from edgeprune.models.loading import LoadedModel
from edgeprune.report.tables import Table, facts_table
from edgeprune.report.text import html_of, text_of
from edgeprune.targets import Target


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
