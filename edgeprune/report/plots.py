"""Plots of a report as SVG text; None where the report holds nothing to draw.

Drawn through matplotlib's objects, never through pyplot: no global state, no display. Text is
turned into paths, so a page needs no fonts, and names are never read as formulas or markup.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullFormatter

from edgeprune.report.schema import Figure, Report
from edgeprune.report.tables import printable

# Okabe and Ito: told apart also by readers who do not see red and green as different
COLOURS = {"dense": "#999999", "pruned": "#0072B2", "uniform": "#E69F00"}
WIDTH_IN = 8.0


def widths(report: Report) -> str | None:
    """Out-channels of every layer, before and after."""
    if not report.layers:
        return None
    return _paired_bars(
        [layer.module or layer.node for layer in report.layers],
        [float(layer.before.out) for layer in report.layers],
        [float(layer.after.out) for layer in report.layers],
        "channels out",
    )


def milliseconds(report: Report) -> str | None:
    """Where the milliseconds went: latency of every layer, dense and pruned."""
    layers = [layer for layer in report.layers if layer.dense_ms is not None]
    if not layers:
        return None
    return _paired_bars(
        [layer.module or layer.node for layer in layers],
        [_value(layer.dense_ms) for layer in layers],
        [_value(layer.pruned_ms) for layer in layers],
        f"ms ({_levels([layer.dense_ms for layer in layers] + [layer.pruned_ms for layer in layers])})",
    )


def prediction(report: Report) -> str | None:
    """Predicted against observed latency of every pruned layer; on the diagonal the profile was right."""
    layers = [layer for layer in report.layers if layer.predicted_ms is not None and layer.pruned_ms is not None]
    if not layers:
        return None
    x = [_value(layer.predicted_ms) for layer in layers]
    y = [_value(layer.pruned_ms) for layer in layers]
    canvas, axes = _canvas(4.2, width=5.0)
    low, high = min(x + y) * 0.8, max(x + y) * 1.25
    axes.plot([low, high], [low, high], color="#999999", linewidth=1)
    axes.scatter(x, y, color=COLOURS["pruned"], s=18)
    if low > 0:
        axes.set(xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"ms, {_levels([layer.predicted_ms for layer in layers])}")
    axes.set_ylabel(f"ms, {_levels([layer.pruned_ms for layer in layers])}")
    return _svg(canvas)


def tradeoff(report: Report) -> str | None:
    """Accuracy against latency of the networks, with the budget as a line."""
    points = [(v.name, v.latency_ms, v.accuracy) for v in report.variants if v.latency_ms and v.accuracy]
    if not points:
        return None
    canvas, axes = _canvas(3.4, width=5.0)
    for name, latency, accuracy in points:
        axes.scatter(latency.value, accuracy.value, color=COLOURS[name], s=60, label=name)
    if report.budget.latency_ms is not None:
        axes.axvline(report.budget.latency_ms, color="#D55E00", linestyle="--", linewidth=1, label="budget")
    axes.margins(0.2)
    axes.set_xlabel(f"ms, {_levels([p[1] for p in points])}")
    axes.set_ylabel(printable(report.accuracy_name), parse_math=False)
    axes.legend(frameon=False)
    return _svg(canvas)


def _paired_bars(names: Sequence[str], dense: Sequence[float], pruned: Sequence[float], unit: str) -> str:
    canvas, axes = _canvas(1.1 + 0.24 * len(names))
    rows = range(len(names))
    axes.barh(rows, dense, height=0.8, color=COLOURS["dense"], label="dense")
    axes.barh(rows, pruned, height=0.4, color=COLOURS["pruned"], label="pruned")
    axes.set_yticks(list(rows), [printable(n) for n in names], fontsize=7, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(unit)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return _svg(canvas)


def _canvas(height: float, width: float = WIDTH_IN) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(width, height), layout="constrained")
    axes = canvas.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return canvas, axes


def _svg(canvas: Canvas) -> str:
    out = io.StringIO()
    # a fixed salt and no date: the same report gives the same bytes
    with matplotlib.rc_context({"svg.hashsalt": "edgeprune", "svg.fonttype": "path"}):
        canvas.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _value(figure: Figure | None) -> float:
    return figure.value if figure is not None else 0.0


def _levels(figures: Sequence[Figure | None]) -> str:
    return ", ".join(sorted({f.label for f in figures if f is not None}))
