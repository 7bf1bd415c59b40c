"""Latencies of single kernels: where the milliseconds went, and how well the profile predicted them."""

from __future__ import annotations

import math

from matplotlib.axis import Axis
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from edgeprune.amounts import number
from edgeprune.report.names import kernel_names
from edgeprune.report.plots.canvas import COLOURS, HALF_IN, OFF, SMALL_PT, canvas_of, label, levels, svg_of, value
from edgeprune.report.schema import Report
from edgeprune.report.sentences import OFF as FACTOR

MOST_ROWS, MOST_TICKS = 60, 6


def milliseconds(report: Report) -> str | None:
    """The SVG of where the milliseconds went: latency of every kernel, dense and pruned."""
    canvas = draw_milliseconds(report)
    return None if canvas is None else svg_of(canvas)


def prediction(report: Report) -> str | None:
    """The SVG of predicted against observed latencies of the pruned kernels."""
    canvas = draw_prediction(report)
    return None if canvas is None else svg_of(canvas)


def draw_milliseconds(report: Report) -> Canvas | None:
    """Bars in the order of execution; beyond :data:`MOST_ROWS`, the quickest kernels are a sum in words."""
    named = zip(kernel_names(report.layers), report.layers, strict=True)
    rows = [
        (name, value(layer.dense_ms), value(layer.pruned_ms)) for name, layer in named if layer.dense_ms is not None
    ]
    if not rows:
        return None
    figures = [f for layer in report.layers for f in (layer.dense_ms, layer.pruned_ms)]
    unit = f"ms ({levels(figures)})"
    if len(rows) > MOST_ROWS:
        # ties go to the kernel that runs first
        slowest = set(sorted(range(len(rows)), key=lambda i: (-max(rows[i][1:]), i))[:MOST_ROWS])
        others = [row for i, row in enumerate(rows) if i not in slowest]
        rows = [row for i, row in enumerate(rows) if i in slowest]
        dense, pruned = number(sum(row[1] for row in others)), number(sum(row[2] for row in others))
        unit += f"; {len(others)} quicker kernels are not drawn: together {dense} ms dense, {pruned} ms pruned"
    canvas, axes = canvas_of(1.1 + 0.2 * len(rows))
    positions = range(len(rows))
    axes.barh(positions, [r[1] for r in rows], height=0.8, color=COLOURS["dense"], label="dense")
    axes.barh(positions, [r[2] for r in rows], height=0.4, color=COLOURS["pruned"], label="pruned")
    axes.set_yticks(list(positions), [label(r[0]) for r in rows], fontsize=SMALL_PT, parse_math=False)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(unit)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return canvas


def draw_prediction(report: Report) -> Canvas | None:
    """A point a kernel, larger the more of the network's latency it takes; on the diagonal the profile was right."""
    layers = [layer for layer in report.layers if layer.predicted_ms is not None and layer.pruned_ms is not None]
    if not layers:
        return None
    x = [value(layer.predicted_ms) for layer in layers]
    y = [value(layer.pruned_ms) for layer in layers]
    slowest = max(y) or 1.0
    canvas, axes = canvas_of(4.2, HALF_IN)
    low, high = min(x + y) / 1.3, max(x + y) * 1.3 or 1.0
    axes.plot([low, high], [low, high], color="#999999", linewidth=1, zorder=1)
    axes.fill_between(
        [low, high],
        [low / FACTOR, high / FACTOR],
        [low * FACTOR, high * FACTOR],
        color="#999999",
        alpha=0.15,
        zorder=0,
        linewidth=0,
        label=f"within {FACTOR:g}x",
    )
    for off, colour, words in (
        (False, COLOURS["pruned"], "well predicted"),
        (True, OFF, f"off by more than {FACTOR:g}x"),
    ):
        of_kind = [i for i in range(len(x)) if (max(x[i], y[i]) > FACTOR * min(x[i], y[i])) is off]
        areas = [12 + 160 * y[i] / slowest for i in of_kind]
        axes.scatter(
            [x[i] for i in of_kind],
            [y[i] for i in of_kind],
            color=colour,
            s=areas,
            alpha=0.6,
            linewidth=0.5,
            edgecolor="white",
            zorder=2,
        )
        axes.scatter([], [], color=colour, s=20, label=words)
    axes.set(xlim=(low, high), ylim=(low, high))
    if low > 0:
        axes.set(xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            _few_ticks(axis, low, high)
    axes.tick_params(labelsize=SMALL_PT + 1)
    axes.set_xlabel(f"ms, {levels([layer.predicted_ms for layer in layers])}")
    axes.set_ylabel(f"ms, {levels([layer.pruned_ms for layer in layers])}")
    axes.legend(
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(-0.1, 1),
        ncols=3,
        fontsize=SMALL_PT + 1,
        handletextpad=0.2,
        columnspacing=1,
    )
    return canvas


def _few_ticks(axis: Axis, low: float, high: float) -> None:
    """Ticks of a logarithmic axis that leave room for their labels, whatever it spans."""
    ticks = log_ticks(low, high)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
    axis.set_minor_locator(NullLocator())


def log_ticks(low: float, high: float) -> list[float]:
    """Two to :data:`MOST_TICKS` round numbers between ``low`` and ``high``, as dense as that allows."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps, every in (((1, 2, 5), 1), ((1, 3), 1), *(((1,), n) for n in (1, 2, 3, 5, 10))):
        ticks = [float(f"{step}e{d}") for d in decades if d % every == 0 for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if 2 <= len(ticks) <= MOST_TICKS:
            return ticks
    # less than a decade without two of them: as on a linear axis, which a logarithmic one nearly is here
    return [float(t) for t in MaxNLocator(4).tick_values(low, high) if low <= t <= high]
