"""The methods there are: criteria, rules, sparsities and recoveries, with their options and sources."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.fitting.recoveries import RECOVERIES
from edgeprune.importance.registry import CRITERIA, RULES
from edgeprune.jsonable import Jsonable
from edgeprune.training.sparse.registry import SPARSITIES


@dataclass(frozen=True, slots=True)
class MethodRow(Jsonable):
    """One method.

    Attributes:
        kind: ``criterion``, ``rule``, ``sparsity`` or ``recovery``.
        options: by name, with their usual values; None where a value has to be given.
        data: whether it needs data.
    """

    kind: str
    name: str
    about: str
    options: dict[str, str | int | float | None]
    data: bool
    source: str


def list_methods() -> list[MethodRow]:
    """All of them, in the order of their lists."""
    rows = []
    for methods in (CRITERIA, RULES, SPARSITIES, RECOVERIES):
        for name, method in methods.items():
            options = {o: None if p.default is p.empty else p.default for o, p in methods.options(name).items()}
            made = method.load()
            data = methods is RECOVERIES or bool(getattr(made, "needs_data", False) or getattr(made, "trains", False))
            rows.append(MethodRow(methods.kind, name, method.about, options, data, method.source))
    return rows
