"""Distributions of latencies against the limit: the installed network from near, all networks from afar."""

from __future__ import annotations

from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from edgeprune.amounts import number
from edgeprune.report.distribution import FAR
from edgeprune.report.plots.canvas import COLOURS, LIMIT, SMALL_PT, WIDE_IN, plain, svg_of
from edgeprune.report.schema import Distribution, Report
from edgeprune.report.sentences import latency_limit

NEAR = 1.5
"""A limit is drawn beside the histogram while it is no further away than by this factor."""


def latencies(report: Report) -> str | None:
    """The SVG of the distributions."""
    canvas = draw(report)
    return None if canvas is None else svg_of(canvas)


def draw(report: Report) -> Canvas | None:
    """A histogram of the pruned network, and below it a line a network from its quickest to its slowest inference."""
    known: dict[str, Distribution] = {v.name: v.distribution for v in report.variants if v.distribution is not None}
    if not known:
        return None
    main = "pruned" if "pruned" in known else next(iter(known))
    limit = latency_limit(report)
    canvas = Canvas(figsize=(WIDE_IN, 3.0 + 0.35 * len(known)), layout="constrained")
    near, far = canvas.subplots(2, 1, height_ratios=(2.2, 0.5 + 0.35 * len(known)))
    for axes in (near, far):
        plain(axes)
        axes.tick_params(labelsize=SMALL_PT + 1)
    _histogram(near, main, known[main], limit)
    _lines(far, known, limit)
    return canvas


def _bins(d: Distribution) -> tuple[list[float], list[float]]:
    """Edges, one more than there are bins, and how densely latencies lie in each."""
    edges = list(d.edges)
    if edges[0] == edges[1]:
        # latencies that are all the same have no density: a narrow bar around them stands for it
        half = 0.001 * edges[0] or 0.001
        edges = [edges[0] - half, edges[0] + half]
    return edges, [n / (high - low) for (_, n), (low, high) in zip(d.histogram, pairwise(edges), strict=True)]


def _histogram(axes: Axes, name: str, d: Distribution, limit: float | None) -> None:
    edges, heights = _bins(d)
    shows_limit = limit is not None and d.median_ms / NEAR <= limit <= d.p99_ms * NEAR
    reach = min(d.p99_ms, FAR * d.median_ms)
    left, right = edges[0], max(reach, d.median_ms, limit if limit is not None and shows_limit else 0.0)
    if limit is not None and shows_limit:
        left = min(left, limit)
    # no nearer than a few per cent: differences that small should look small
    room = max(0.06 * (right - left), 0.02 * right - (right - left) / 2) or 1.0
    axes.stairs(heights, edges, fill=True, color=COLOURS[name], alpha=0.55)
    top = max(heights) or 1.0
    marks = (("median", d.median_ms, "-"), ("p90", d.p90_ms, "--"), ("p99", d.p99_ms, ":"))
    for words, ms, style in marks:
        axes.axvline(ms, color="#1c2024", linestyle=style, linewidth=1, label=f"{words} {number(ms)} ms")
    if limit is not None:
        if shows_limit:
            axes.axvline(limit, color=LIMIT, linewidth=2, label=f"limit {number(limit)} ms")
        else:
            where = "far right" if limit > right else "far left"
            axes.plot([], [], color=LIMIT, linewidth=2, label=f"limit {number(limit)} ms ({where} of this)")
    axes.set(xlim=(left - room, right + room), ylim=(0, top * 1.05), yticks=())
    if d.worst_ms > right + room:
        axes.plot([], [], " ", label=f"slowest {number(d.worst_ms)} ms →")
    axes.set_xlabel("ms", fontsize=SMALL_PT + 1)
    axes.set_ylabel(f"{name}\nhow often", fontsize=SMALL_PT + 1)
    axes.legend(
        frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=5, fontsize=SMALL_PT + 1, columnspacing=1.2
    )


def _lines(axes: Axes, known: dict[str, Distribution], limit: float | None) -> None:
    rows = list(known.items())
    for row, (name, d) in enumerate(rows):
        axes.plot([d.edges[0], d.worst_ms], [row, row], color=COLOURS[name], linewidth=1, solid_capstyle="butt")
        axes.plot(
            [d.edges[0], d.p99_ms], [row, row], color=COLOURS[name], linewidth=6, solid_capstyle="butt", alpha=0.6
        )
        axes.plot([d.median_ms], [row], "|", color="#1c2024", markersize=11)
    if limit is not None:
        axes.axvline(limit, color=LIMIT, linewidth=2)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set(ylim=(len(rows) - 0.4, -0.6))
    axes.set_xlim(left=0)
    axes.set_xlabel(f"ms ({', '.join(sorted({d.evidence for d in known.values()}))})", fontsize=SMALL_PT + 1)
