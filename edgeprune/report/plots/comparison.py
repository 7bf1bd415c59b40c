"""Accuracy against latency of the networks, with the limit as a line."""

from __future__ import annotations

from matplotlib.figure import Figure as Canvas

from edgeprune.report.plots.canvas import COLOURS, HALF_IN, LIMIT, canvas_of, label, levels, svg_of
from edgeprune.report.schema import Report
from edgeprune.report.sentences import latency_limit


def tradeoff(report: Report) -> str | None:
    """The SVG of the trade-off."""
    canvas = draw(report)
    return None if canvas is None else svg_of(canvas)


def draw(report: Report) -> Canvas | None:
    points = [(v.name, v.latency_ms, v.worth) for v in report.variants if v.latency_ms and v.worth]
    if not points:
        return None
    canvas, axes = canvas_of(4.2, HALF_IN)
    for name, latency, accuracy in points:
        axes.scatter(latency.value, accuracy.value, color=COLOURS[name], s=60, label=name)
    if (limit := latency_limit(report)) is not None:
        axes.axvline(limit, color=LIMIT, linestyle="--", linewidth=1, label="limit")
    axes.margins(0.2)
    axes.set_xlabel(f"ms, {levels([p[1] for p in points])}")
    axes.set_ylabel(label(report.accuracy_name), parse_math=False)
    # above the axes: inside, it would lie on points
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, handletextpad=0.2, columnspacing=1)
    return canvas
