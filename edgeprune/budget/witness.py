"""What proves a bound: multipliers, levels that they rule out, and a split into parts where one proof is not enough.

A proof speaks of a *box*, the plans whose levels are all among those still offered. By weak duality (Everett 1963;
Geoffrion 1974) no plan of the box that keeps the budget retains more than

    D(multipliers) = max over the box of  weight * saliency - sum over rows of multiplier * (cost / limit - 1)

for any multipliers that are not negative. With ``weight`` 0 the maximum says whether the box holds such a plan at all:
below 0 it does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Levels = tuple[tuple[int, tuple[int, ...]], ...]
"""Choices, and indices of levels of each."""


@dataclass(frozen=True, slots=True)
class Witness:
    """The proof of a bound over one box.

    Attributes:
        multipliers: (row, value) of the rows that have one, in the order of costs (latency, flash, steps of RAM).
        weight: of saliency; 0 proves that no plan of the box keeps the budget.
        removed: levels of which D says that no plan with any of them is better than the bound. Empty for a leaf, where
            D says so of all plans of the box.
        branch: the choice by whose levels the rest is split; None where there is one part.
        parts: levels of that choice in each part.
        children: the proof of each part.
    """

    multipliers: tuple[tuple[int, float], ...]
    weight: float = 1.0
    removed: Levels = ()
    branch: int | None = None
    parts: tuple[tuple[int, ...], ...] = ()
    children: tuple[Witness, ...] = field(default=())

    def nodes(self) -> Iterator[Witness]:
        """This one and all parts, outer ones first."""
        stack = [self]
        while stack:
            yield (node := stack.pop())
            stack += reversed(node.children)

    def to_json(self) -> list[dict[str, Any]]:
        """All nodes in the order of :meth:`nodes`, each with the number of its children."""
        return [
            {
                "multipliers": [list(m) for m in w.multipliers],
                "weight": w.weight,
                "removed": [[choice, list(levels)] for choice, levels in w.removed],
                "branch": w.branch,
                "parts": [list(p) for p in w.parts],
                "children": len(w.children),
            }
            for w in self.nodes()
        ]

    @classmethod
    def from_json(cls, data: list[Mapping[str, Any]]) -> Witness:
        """Raises KeyError, TypeError, ValueError or IndexError for what :meth:`to_json` did not write."""
        done: list[Witness] = []
        for w in reversed(data):
            count = int(w["children"])
            if count > len(done):
                raise ValueError("a part of the witness is missing")
            children = tuple(reversed(done[len(done) - count :]))
            del done[len(done) - count :]
            done.append(
                cls(
                    tuple((int(r), float(v)) for r, v in w["multipliers"]),
                    float(w["weight"]),
                    tuple((int(c), tuple(int(k) for k in ks)) for c, ks in w["removed"]),
                    None if w["branch"] is None else int(w["branch"]),
                    tuple(tuple(int(k) for k in part) for part in w["parts"]),
                    children,
                )
            )
        if len(done) != 1:
            raise ValueError("the witness has more than one root")
        return done[0]
