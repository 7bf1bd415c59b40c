"""The methods there are: criteria, rules and recoveries, with their options and sources."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.fitting.recoveries import RECOVERIES
from edgeprune.importance.registry import CRITERIA, RULES
from edgeprune.jsonable import Jsonable


@dataclass(frozen=True, slots=True)
class MethodRow(Jsonable):
    """One method.

    Attributes:
        kind: ``criterion``, ``rule`` or ``recovery``.
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
    for methods in (CRITERIA, RULES, RECOVERIES):
        for name, method in methods.items():
            options = {o: None if p.default is p.empty else p.default for o, p in methods.options(name).items()}
            data = methods is RECOVERIES or bool(getattr(method.load(), "needs_data", False))
            rows.append(MethodRow(methods.kind, name, method.about, options, data, method.source))
    return rows
