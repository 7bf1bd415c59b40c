"""Pictures without a report: a latency table of one kernel, and the widths that a plan keeps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure as Canvas

from edgeprune.latency.tables import LatencyTable
from edgeprune.report.plots.canvas import COLOURS, HALF_IN, LIMIT, SMALL_PT, canvas_of, label

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
    picture = axes.imshow(table.latency_ms, origin="lower", aspect="auto", cmap="Blues", vmin=0)
    rows, columns = np.nonzero(~table.estimated)
    axes.scatter(columns, rows, s=8, color=LIMIT)
    for grid, ticks in ((outward, axes.set_xticks), (inward, axes.set_yticks)):
        shown = np.unique(np.linspace(0, len(grid) - 1, min(MOST_TICKS, len(grid))).round().astype(int))
        ticks(list(shown), [str(grid[i]) for i in shown], fontsize=SMALL_PT)
    axes.set_xlabel("channels out")
    axes.set_ylabel("channels in")
    axes.set_title(label(title, 60), fontsize=SMALL_PT + 2, loc="left", parse_math=False)
    canvas.colorbar(picture, ax=axes, label=f"ms, {evidence}")
    return canvas


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
