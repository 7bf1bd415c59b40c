"""Latency tables of kernels, of a profile or of a report, and the widths that a plan keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from edgeprune.latency.tables import LatencyTable
from edgeprune.report.names import kernel_names
from edgeprune.report.plots.canvas import COLOURS, HALF_IN, LIMIT, SMALL_PT, WIDE_IN, canvas_of, label, plain, svg_of
from edgeprune.report.schema import Report

MOST_LINES, MOST_TICKS = 5, 12


def draw_table(table: LatencyTable, title: str, evidence: str) -> Canvas:
    """Latency against the output width; a line for each of a few input widths. Hollow points are estimated."""
    canvas, axes = canvas_of(4.2, HALF_IN)
    out = table.grids[-1]
    rows = table.latency_ms.reshape(-1, len(out))
    estimated = table.estimated.reshape(-1, len(out))
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(MOST_LINES, len(rows))).round().astype(int))
    for place, row in enumerate(chosen):
        shade = 1 - 0.75 * (len(chosen) - 1 - place) / len(chosen)
        name = f"{table.grids[0][row]} in" if len(table.axes) > 1 else ""
        axes.plot(out, rows[row], color=COLOURS["pruned"], alpha=shade, linewidth=1.2, label=name)
        for guessed, face in ((False, COLOURS["pruned"]), (True, "white")):
            at = estimated[row] == guessed
            axes.scatter(
                out[at], rows[row][at], s=14, alpha=shade, facecolor=face, edgecolor=COLOURS["pruned"], zorder=3
            )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("channels out")
    axes.set_ylabel(f"ms, {evidence}")
    axes.set_title(label(title, 60), fontsize=SMALL_PT + 2, loc="left", parse_math=False)
    if len(table.axes) > 1:
        axes.legend(frameon=False, title="channels in", fontsize=SMALL_PT)
    return canvas


def draw_heat_map(table: LatencyTable, title: str, evidence: str) -> Canvas:
    """Latency over input and output width, from light to dark; a dot where it was measured, and else it is estimated.

    The widths stand at equal distances, for they are what a plan chooses from.
    """
    canvas, axes = canvas_of(4.2, HALF_IN)
    inward, outward = table.grids
    picture = heat_map(axes, inward.tolist(), outward.tolist(), table.latency_ms, np.argwhere(~table.estimated))
    axes.set_title(label(title, 60), fontsize=SMALL_PT + 2, loc="left", parse_math=False)
    canvas.colorbar(picture, ax=axes, label=f"ms, {evidence}")
    return canvas


def tables(report: Report) -> str | None:
    """The SVG of how the latencies of the heaviest kernels depend on their widths."""
    canvas = draw_tables(report)
    return None if canvas is None else svg_of(canvas)


def draw_tables(report: Report) -> Canvas | None:
    """Heat maps of the kernels that weigh most; a ring around the widths that the plan chose, where they are shown."""
    if not report.tables:
        return None
    names = dict(zip((layer.node for layer in report.layers), kernel_names(report.layers), strict=True))
    after = {layer.node: layer.after for layer in report.layers}
    rows = -(-len(report.tables) // 2)
    canvas = Canvas(figsize=(WIDE_IN, 3.4 * rows), layout="constrained")
    places = canvas.subplots(rows, 2, squeeze=False).flatten().tolist()
    for table, axes in zip(report.tables, places, strict=False):
        inward, outward, chosen = list(table.in_), list(table.out), after[table.node]
        picture = heat_map(axes, inward, outward, np.array(table.latency_ms), np.array(table.timed).reshape(-1, 2))
        if chosen.in_ in inward and chosen.out in outward:
            place = [outward.index(chosen.out)], [inward.index(chosen.in_)]
            axes.scatter(*place, s=90, facecolor="none", edgecolor=LIMIT, linewidth=1.6)
        axes.set_title(label(names[table.node], 50), fontsize=SMALL_PT + 2, loc="left", parse_math=False)
        canvas.colorbar(picture, ax=axes, label=f"ms, {table.evidence}")
    for axes in places[len(report.tables) :]:
        axes.remove()
    return canvas


def heat_map(
    axes: Axes, inward: Sequence[int], outward: Sequence[int], latency_ms: NDArray[np.float64], timed: NDArray[np.int64]
) -> AxesImage:
    """Draw latencies, a row for each width of ``inward``, and a dot at each place (row, column) of ``timed``."""
    plain(axes)
    picture = axes.imshow(latency_ms, origin="lower", aspect="auto", cmap="Blues", vmin=0)
    axes.scatter(timed[:, 1], timed[:, 0], s=8, color=LIMIT)
    for grid, ticks in ((outward, axes.set_xticks), (inward, axes.set_yticks)):
        shown = np.unique(np.linspace(0, len(grid) - 1, min(MOST_TICKS, len(grid))).round().astype(int)).tolist()
        ticks(shown, [str(grid[i]) for i in shown], fontsize=SMALL_PT)
    axes.set_xlabel("channels out")
    axes.set_ylabel("channels in")
    return picture


def draw_kept(sizes: Mapping[str, int], kept: Mapping[str, int]) -> Canvas:
    """Bars of the channels of every width group, and of those that stay."""
    canvas, axes = canvas_of(1.1 + 0.2 * len(sizes))
    positions = range(len(sizes))
    axes.barh(positions, list(sizes.values()), height=0.8, color=COLOURS["dense"], label="before")
    axes.barh(positions, [kept[g] for g in sizes], height=0.4, color=COLOURS["pruned"], label="kept")
    axes.set_yticks(list(positions), [label(g) for g in sizes], fontsize=SMALL_PT, parse_math=False)
    axes.set_ylim(len(sizes) - 0.4, -0.6)
    axes.set_xlabel("channels")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return canvas
