"""What the files of ``accuracy.py`` say: means with intervals over seeds, differences in pairs, bars."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from bars import bar
from contest import ALIKE, BY_SALIENCY, OWN, TRAINED, Folder, cell_name, plans_name
from equal_latency import at_target, spoken, telling
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
    """One row for each method, seed and budget: the network in the window, or both around the target, recovered.

    ``accuracy`` is that at the target; None where a method has no networks near it, on both sides.
    """
    rows = []
    for name in data:
        for seed in seeds:
            for budget in budgets:
                plans = (folder.read(plans_name(name, seed, budget)) or {"measured": {}})["measured"]
                for method in (m for m in TRAINED if m in plans):
                    place = {"data": name, "seed": seed, "budget": budget, "method": method}
                    every = [p["used"] for p in plans[method]]
                    near = [plans[method][i] for i in telling(every)]
                    used = [p["used"] for p in near] or every
                    found = [folder.read(cell_name(name, seed, p["recipe"])) for p in near]
                    if None in found:
                        continue  # not recovered yet
                    accuracy = spoken(used, [f["accuracy"] for f in found]) if near else None
                    same = list(map(channels_in, near)) == list(map(channels_in, plans.get(OWN, ())))
                    networks = [
                        {**f, "used": p["used"], "widths": p["widths"]} for f, p in zip(found, near, strict=True)
                    ]
                    rows.append(
                        {**place, "accuracy": accuracy, "used": used, "networks": networks, "same_as_exact": same}
                    )
    return rows


def channels_in(candidate: Mapping[str, Any]) -> Any:
    """The channels that a plan keeps; methods without plans are told apart by all that their recipe says."""
    recipe = candidate["recipe"]
    return recipe["plan"]["keep"] if "plan" in recipe else recipe


def by_method(rows: Iterable[dict[str, Any]], data: str, budget: int) -> dict[str, dict[int, float]]:
    """Method -> seed -> accuracy."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if (row["data"], row["budget"]) == (data, budget) and row["accuracy"] is not None:
            found.setdefault(row["method"], {})[row["seed"]] = row["accuracy"]
    return found


def comparisons(rows: list[dict[str, Any]], data: Sequence[str], budgets: Sequence[int]) -> list[dict[str, Any]]:
    """Each method's mean accuracy, and by how much ``exact`` is better on the same seeds."""
    found = []
    for name in data:
        for budget in budgets:
            of = by_method(rows, name, budget)
            for method in TRAINED:
                mine = [r for r in rows if (r["data"], r["budget"], r["method"]) == (name, budget, method)]
                if not mine:
                    continue
                accuracies = of.get(method, {})
                both = sorted(accuracies.keys() & of.get(OWN, {}).keys())
                better = [of[OWN][s] - accuracies[s] for s in both]
                used = [u for r in mine for u in r["used"]]
                found.append(
                    {
                        "data": name,
                        "budget": budget,
                        "method": method,
                        "seeds": len(accuracies),
                        "accuracy": Estimate.of(list(accuracies.values())) if accuracies else None,
                        "exact_better_by": Estimate.of(better) if better else None,
                        "used": [min(used), max(used)] if used else None,
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
                    (at_equal_ms(p["measured"][ALIKE]), at_equal_ms(p["measured"][method]))
                    for p in plans
                    if {ALIKE, method} <= p["measured"].keys()
                ]
                for kind, pairs in (("predicted", predicted), ("measured", measured)):
                    ratios = [own / other for own, other in pairs if own and other]
                    row[kind] = Estimate.of(ratios) if ratios else None
                found.append(row)
    return found


def at_equal_ms(plans: Sequence[Mapping[str, Any]]) -> float | None:
    """Saliency at the target."""
    return at_target([p["used"] for p in plans], [p["saliency"] for p in plans])


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
    # Multiples of 8 leave a network of this size few latencies to choose from; free widths have to be there.
    missing = [r for r in rows if r["accuracy"] is None and not r["method"].endswith("-8")]
    bars.append(bar("methods of free widths without a network near the target", len(missing), 0, not missing))
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
            used = "" if row["used"] is None else "used {:.3f}-{:.3f}".format(*row["used"])
            if row["accuracy"] is None:
                print(f"  {row['budget']} %  {row['method']:15} has no network near; {used}")
                continue
            better = "" if row["method"] == OWN else f"   exact better by {row['exact_better_by']}"
            better += f" (the same network {row['same_as_exact']} times)" if better and row["same_as_exact"] else ""
            print(f"  {row['budget']} %  {row['method']:15} {row['accuracy']!s:14} {used}{better}")
    print()
