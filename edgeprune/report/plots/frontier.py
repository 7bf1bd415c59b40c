"""A frontier as a picture: saliency against one resource below its bound, or over two resources by colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from edgeprune.budget.front import Front
from edgeprune.report.frontier import UNITS, Mark, retained
from edgeprune.report.plots.canvas import COLOURS, HALF_IN, LIMIT, OFF, SMALL_PT, canvas_of, label, value

_DIAMOND: Mapping[str, Any] = {"s": 60, "marker": "D", "linewidth": 1.5, "zorder": 5}
_FINE = 256
"""Limits at which the bound is drawn."""


def draw_frontier(front: Front, marks: Sequence[Mark], evidence: str) -> Canvas:
    """The picture.

    Against one resource the shaded band is what is open: plans can lie there, none above. Measured networks of runs
    stand on an axis of their own, for saliency is no accuracy.
    """
    canvas, axes = canvas_of(4.2, HALF_IN + 1.6)
    scales = [_scale(float(front.costs[:, i].max()), r) for i, r in enumerate(front.against)]
    axes.set_xlabel(_axis(front.against[0], scales[0][1], evidence))
    if len(front.against) == 1:
        _curve(axes, front, scales[0][0])
        _measured(axes, front.against[0], marks, scales[0][0])
    else:
        axes.set_ylabel(_axis(front.against[1], scales[1][1], evidence))
        _surface(canvas, axes, front, [s for s, _ in scales])
        _placed(axes, front.against, marks, [s for s, _ in scales])
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize=SMALL_PT + 1)
    return canvas


def _curve(axes: Axes, front: Front, scale: float) -> None:
    costs, shares = front.costs[:, 0], np.array([retained(front, s) for s in front.saliency])
    at = np.linspace(max(float(costs[0]), 1e-12), float(costs[-1]), _FINE)
    known = shares[np.searchsorted(costs, at, side="right").clip(1) - 1]
    bound = np.array([retained(front, b) for b in front.bound_at(at[:, None])])
    axes.fill_between(at / scale, 100 * known, 100 * bound, color=COLOURS["dense"], alpha=0.35, lw=0, label="open")
    axes.step(costs / scale, 100 * shares, where="post", color=COLOURS["pruned"], linewidth=1)
    axes.scatter(costs / scale, 100 * shares, s=14, color=COLOURS["pruned"], zorder=3, label="plans")
    _knees(axes, front, costs / scale, 100 * shares)
    axes.set_ylabel("% of saliency")


def _surface(canvas: Canvas, axes: Axes, front: Front, scales: Sequence[float]) -> None:
    x, y = (front.costs / scales).T
    shares = [100 * retained(front, s) for s in front.saliency]
    points = axes.scatter(x, y, c=shares, cmap="viridis", s=30, zorder=3, label="plans")
    canvas.colorbar(points, ax=axes, label="% of saliency")
    _knees(axes, front, x, y)


def _knees(axes: Axes, front: Front, x: np.ndarray, y: np.ndarray) -> None:
    bends = [i for i, p in enumerate(front.points) if p.knee]
    if bends:
        axes.scatter(x[bends], y[bends], s=90, facecolor="none", edgecolor=LIMIT, zorder=4, label="knee")


def _measured(axes: Axes, resource: str, marks: Sequence[Mark], scale: float) -> None:
    """Marks on a second axis, beside the curve."""
    shown = [m for m in marks if m.cost(resource) is not None and m.worth is not None]
    if not shown:
        return
    beside = axes.twinx()
    beside.spines[["top"]].set_visible(False)
    fraction = all(m.worth is not None and m.worth.unit == "fraction" for m in shown)
    x = [value(m.cost(resource)) / scale for m in shown]
    y = [(100 if fraction else 1) * (m.worth.value if m.worth else 0.0) for m in shown]
    beside.scatter(x, y, facecolor="none", edgecolor=OFF, **_DIAMOND)
    axes.scatter([], [], facecolor="none", edgecolor=OFF, label="measured", **_DIAMOND)
    for m, at, height in zip(shown, x, y, strict=True):
        text, offset = label(m.name, 20), (7, 7)
        beside.annotate(text, (at, height), offset, textcoords="offset points", fontsize=SMALL_PT, parse_math=False)
    beside.margins(y=0.3)
    beside.set_ylabel(label(f"{shown[0].worth_name}{', %' if fraction else ''}"), parse_math=False)


def _placed(axes: Axes, against: Sequence[str], marks: Sequence[Mark], scales: Sequence[float]) -> None:
    """Marks among the plans, each with its figure in words."""
    places: list[tuple[float, float]] = []
    for m in marks:
        costs = [m.cost(r) for r in against]
        if None in costs or m.worth is None:
            continue
        x, y = (value(c) / s for c, s in zip(costs, scales, strict=True))
        places.append((x, y))
        said = f"{100 * m.worth.value:.4g} %" if m.worth.unit == "fraction" else f"{m.worth.value:.4g}"
        text = f"{label(m.name, 20)} {said}"
        axes.annotate(text, (x, y), (7, 7), textcoords="offset points", fontsize=SMALL_PT, parse_math=False)
    if places:
        axes.scatter(*np.array(places).T, facecolor="none", edgecolor=OFF, label="measured", **_DIAMOND)


def _scale(most: float, resource: str) -> tuple[float, str]:
    """By what costs are divided for an axis, and the unit that they then have."""
    if resource == "latency_ms":
        return 1.0, "ms"
    return (1e6, "MB") if most >= 1e6 else (1e3, "kB")


def _axis(resource: str, unit: str, evidence: str) -> str:
    what = UNITS[resource].replace("bytes", unit)
    return f"{what}, predicted ({evidence})" if evidence else what
