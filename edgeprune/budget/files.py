"""Problems in files: JSON, lossless, so that a problem can be sent with a bug report and solved again.

``{"schema": "edgeprune.problem/1", "budget": {…}, "choices": […], "terms": […], "blocks": […], "ram": […], …}``.
Numbers are written with as many digits as bring the same float back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.budget.check import check_problem
from edgeprune.budget.problem import CHANNELS, RESOURCES, Axis, Budget, Choice, Problem, Row, Table, Term
from edgeprune.errors import BadInputError
from edgeprune.files import write_whole

SCHEMA = "edgeprune.problem/1"


def problem_to_json(problem: Problem, budget: Budget | None = None) -> dict[str, Any]:
    """A problem, and a budget if one is given, as JSON."""
    return {
        "schema": SCHEMA,
        "budget": {} if budget is None else budget.to_json(),
        "base_latency_ms": problem.base_latency_ms,
        "base_flash_bytes": problem.base_flash_bytes,
        "choices": [
            {
                "name": c.name,
                "levels": list(c.levels),
                "saliency": np.asarray(c.saliency).tolist(),
                **({} if c.unit == CHANNELS else {"unit": c.unit}),
            }
            for c in problem.choices
        ],
        "terms": [
            {
                "name": t.name,
                **_axes_to_json(t),
                "latency_ms": t.latency_ms.tolist(),
                "flash_bytes": t.flash_bytes.tolist(),
            }
            for t in problem.terms
        ],
        "blocks": [list(b) for b in problem.blocks],
        "ram": [
            {
                "name": r.name,
                "base": r.base,
                "tables": [{**_axes_to_json(t), "values": t.values.tolist()} for t in r.tables],
            }
            for r in problem.ram
        ],
    }


def problem_from_json(data: Any) -> tuple[Problem, Budget]:
    """A checked problem, and the budget beside it, which limits nothing if there was none.

    Raises:
        BadInputError: the data is not what :func:`problem_to_json` writes, or of a later version.
        PlanError, ProfileError: the problem in it does not check.
    """
    schema = data.get("schema") if isinstance(data, Mapping) else None
    if schema != SCHEMA:
        raise BadInputError(
            f"this is no problem of schema {SCHEMA}, but {schema!r}", hint="write it with save_problem of this version"
        )
    try:
        problem = Problem(
            tuple(
                Choice(
                    str(c["name"]),
                    tuple(map(_whole, c["levels"])),
                    _floats(c["saliency"]),
                    str(c.get("unit", CHANNELS)),
                )
                for c in data["choices"]
            ),
            tuple(
                Term(str(t["name"]), *_axes_from_json(t), _floats(t["latency_ms"]), _floats(t["flash_bytes"]))
                for t in data["terms"]
            ),
            float(data["base_latency_ms"]),
            float(data["base_flash_bytes"]),
            tuple(tuple(map(_whole, b)) for b in data["blocks"]),
            tuple(
                Row(
                    str(r["name"]),
                    float(r["base"]),
                    tuple(Table(*_axes_from_json(t), _floats(t["values"])) for t in r["tables"]),
                )
                for r in data["ram"]
            ),
        )
        limits = {str(name): float(value) for name, value in data["budget"].items()}
        if unknown := sorted(set(limits) - set(RESOURCES)):
            raise ValueError(f"the budget limits {unknown}")
        budget = Budget(**limits)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as e:
        what = f"no {e}" if isinstance(e, KeyError) else str(e)
        raise BadInputError(f"the problem cannot be read: {what}", hint="write it with save_problem again") from e
    check_problem(problem)
    return problem, budget


def save_problem(path: str | Path, problem: Problem, budget: Budget | None = None) -> None:
    """Write a problem, and a budget if one is given; raises what :func:`edgeprune.files.write_whole` does."""
    write_whole(Path(path), json.dumps(problem_to_json(problem, budget), allow_nan=False) + "\n")


def load_problem(path: str | Path) -> tuple[Problem, Budget]:
    """What :func:`save_problem` wrote.

    Raises:
        BadInputError: the file cannot be read, or as :func:`problem_from_json` says.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        hint = "give the problem.json of a run" if Path(path).is_dir() else "give a file that save_problem wrote"
        raise BadInputError(f"{path} cannot be read: {e}", hint=hint) from e
    return problem_from_json(data)


def _axes_to_json(spec: Term | Table) -> dict[str, Any]:
    return {
        "axes": [{"choices": list(a.choices), "base": a.base} for a in spec.axes],
        "grids": [g.tolist() for g in spec.grids],
    }


def _axes_from_json(data: Mapping[str, Any]) -> tuple[tuple[Axis, ...], tuple[Any, ...]]:
    axes = tuple(Axis(tuple(map(_whole, a["choices"])), _whole(a["base"])) for a in data["axes"])
    return axes, tuple(np.array([_whole(w) for w in g], dtype=np.int64) for g in data["grids"])


def _floats(values: Sequence[Any]) -> Any:
    return np.array(values, dtype=np.float64)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is no whole number")
    return value
