"""What the files of ``accuracy.py`` say: means with intervals over seeds, differences in pairs, bars."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from bars import bar
from contest import ALIKE, BY_SALIENCY, OWN, TRAINED, Folder, cell_name, digest_of, plans_name
from equal_latency import WINDOW
from scipy.special import stdtrit

CONFIDENCE = 0.95
AT_LEAST, ABOVE = 55, 30
"""Budgets at which ``exact`` has to be at least as good as every other method, and better."""
EQUAL = 1e-9
"""Differences of means that are rounding."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds, with half the width of its 95 % interval by Student's t; None for a single seed."""

    mean: float
    half: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        if len(values) < 2:
            return cls(values[0], None)
        deviations = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2))
        return cls(fmean(values), deviations * stdev(values) / math.sqrt(len(values)))

    def __str__(self) -> str:
        return f"{100 * self.mean:6.2f}" + ("" if self.half is None else f" ± {100 * self.half:.2f}")

    def to_json(self) -> dict[str, float | None]:
        return {"mean": self.mean, "half": self.half}


def cells(folder: Folder, data: Sequence[str], seeds: Sequence[int], budgets: Sequence[int]) -> list[dict[str, Any]]:
    """One row for each network that was recovered."""
    rows = []
    for name in data:
        for seed in seeds:
            for budget in budgets:
                plans = (folder.read(plans_name(name, seed, budget)) or {"measured": {}})["measured"]
                for method in (m for m in TRAINED if m in plans):
                    found, plan, own = folder.read(cell_name(name, seed, budget, method)), plans[method], plans.get(OWN)
                    if found is not None and found.pop("recipe", None) == digest_of(plan["recipe"]):
                        place = {"data": name, "seed": seed, "budget": budget, "method": method}
                        same = own is not None and channels_in(plan) == channels_in(own)
                        facts = {"used": plan["used"], "widths": plan["widths"], "same_as_exact": same}
                        rows.append({**place, **found, **facts})
    return rows


def channels_in(candidate: Mapping[str, Any]) -> Any:
    """The channels that a plan keeps; methods without plans are told apart by all that their recipe says."""
    recipe = candidate["recipe"]
    return recipe["plan"]["keep"] if "plan" in recipe else recipe


def by_method(rows: Iterable[dict[str, Any]], data: str, budget: int) -> dict[str, dict[int, float]]:
    """Method -> seed -> accuracy."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if (row["data"], row["budget"]) == (data, budget):
            found.setdefault(row["method"], {})[row["seed"]] = row["accuracy"]
    return found


def comparisons(rows: list[dict[str, Any]], data: Sequence[str], budgets: Sequence[int]) -> list[dict[str, Any]]:
    """Each method's mean accuracy, and by how much ``exact`` is better on the same seeds."""
    found = []
    for name in data:
        for budget in budgets:
            of = by_method(rows, name, budget)
            for method in (m for m in TRAINED if m in of):
                both = sorted(of[method].keys() & of.get(OWN, {}).keys())
                better = [of[OWN][s] - of[method][s] for s in both]
                mine = [r for r in rows if (r["data"], r["budget"], r["method"]) == (name, budget, method)]
                used = [r["used"] for r in mine]
                found.append(
                    {
                        "data": name,
                        "budget": budget,
                        "method": method,
                        "seeds": len(of[method]),
                        "accuracy": Estimate.of(list(of[method].values())),
                        "exact_better_by": Estimate.of(better) if better else None,
                        "used": [min(used), max(used)],
                        "same_as_exact": sum(r["same_as_exact"] for r in mine),
                    }
                )
    return found


def saliencies(
    folder: Folder, data: Sequence[str], seeds: Sequence[int], budgets: Sequence[int]
) -> list[dict[str, Any]]:
    """Summed importance that the solver ``exact`` keeps over what each other method keeps, at equal predicted and at
    equal measured ms.
    """
    found = []
    for name in data:
        for budget in budgets:
            plans = [p for s in seeds if (p := folder.read(plans_name(name, s, budget))) is not None]
            for method in BY_SALIENCY[1:]:
                row: dict[str, Any] = {"data": name, "budget": budget, "method": method}
                predicted = [(p["predicted"][ALIKE], p["predicted"][method]) for p in plans]
                measured = [
                    (p["measured"][ALIKE]["saliency"], p["measured"][method]["saliency"])
                    for p in plans
                    if {ALIKE, method} <= p["measured"].keys()
                ]
                for kind, pairs in (("predicted", predicted), ("measured", measured)):
                    ratios = [own / other for own, other in pairs if own and other]
                    row[kind] = Estimate.of(ratios) if ratios else None
                found.append(row)
    return found


def bars_of(
    rows: list[dict[str, Any]],
    compared: list[dict[str, Any]],
    kept: list[dict[str, Any]],
    expected: int,
) -> list[dict[str, Any]]:
    bars = [bar("networks that are missing", expected - len(rows), 0, expected == len(rows))]
    for row in (r for r in compared if r["method"] not in (OWN, ALIKE) and r["exact_better_by"] is not None):
        mean, budget = row["exact_better_by"].mean, row["budget"]
        met = mean > EQUAL if budget <= ABOVE else mean >= -EQUAL
        said = "better than" if budget <= ABOVE else "at least as good as"
        bars.append(bar(f"{row['data']}, {budget} %: exact is {said} {row['method']}, points", 100 * mean, 0, met))
    own = {(r["data"], r["seed"], r["budget"]): r["used"] for r in rows if r["method"] == OWN}
    slowest = max(own.values(), default=math.inf)
    if own:
        bars.append(bar("most of its budget that exact uses", slowest, 1 + WINDOW, slowest <= 1 + WINDOW))
    others = [r for r in rows if r["method"] not in (OWN, ALIKE)]
    short = [r for r in others if r["used"] < own.get((r["data"], r["seed"], r["budget"]), r["used"]) - 2 * WINDOW]
    bars.append(bar("networks with less time than exact", len(short), 0, not short))
    for row in kept:
        for kind in ("predicted", "measured"):
            if row[kind] is not None:
                name = f"{row['data']}, {row['budget']} %: saliency of exact over {row['method']}, equal {kind} ms"
                bars.append(bar(name, row[kind].mean, 1.0, row[kind].mean >= 1 - EQUAL))
    return bars


def shown(folder: Folder, data: Sequence[str], seeds: Sequence[int], compared: list[dict[str, Any]]) -> None:
    """The comparison as tables, accuracies in per cent."""
    for name in data:
        dense = [d["accuracy"] for s in seeds if (d := folder.read(f"{name}/dense-{s}")) is not None]
        if dense:
            print(f"\n{name}: dense {Estimate.of(dense)} %")
        for row in (r for r in compared if r["data"] == name):
            low, high = row["used"]
            better = "" if row["method"] == OWN else f"   exact better by {row['exact_better_by']}"
            better += f" (the same network {row['same_as_exact']} times)" if better and row["same_as_exact"] else ""
            print(f"  {row['budget']} %  {row['method']:15} {row['accuracy']!s:14} used {low:.3f}-{high:.3f}{better}")
    print()
