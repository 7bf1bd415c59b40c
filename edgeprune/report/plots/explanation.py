"""What the next level of a group would gain, beside what it would take at the shadow prices of the limits."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from edgeprune.budget.explanation import Change, Group, next_to_keep
from edgeprune.report.explained import called
from edgeprune.report.plots.canvas import COLOURS, HALF_IN, LIMIT, OFF, SMALL_PT, canvas_of, label

MOST_ROWS = 40
PRICED = {"latency_ms": LIMIT, "flash_bytes": COLOURS["uniform"], "ram_bytes": OFF}


def draw_next(groups: Sequence[Group]) -> Canvas | None:
    """Two bars for each group: what its next level gains, and what it takes; the nearest to be kept on top."""
    found = next_to_keep(groups)[:MOST_ROWS]
    if not found:
        return None
    canvas, axes = canvas_of(1.3 + 0.28 * len(found))
    changes = [change for _, change in found]
    places = [float(i) for i in range(len(found))]
    axes.barh(
        [p - 0.19 for p in places],
        [100 * c.saliency for c in changes],
        height=0.36,
        color=COLOURS["pruned"],
        label="gains",
    )
    _stack(axes, [p + 0.19 for p in places], changes)
    names = [f"{label(g.name, 34)}  {g.width} → {c.widths[g.name]}" for g, c in found]
    axes.set_yticks(places, names, fontsize=SMALL_PT, parse_math=False)
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.axvline(0, color="#999999", linewidth=0.8)
    axes.set_xlabel("% of the saliency")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
    return canvas


def draw_levels(group: Group) -> Canvas:
    """Over the widths of one group: saliency, and what each width takes at the prices, relative to the chosen one."""
    canvas, axes = canvas_of(4.2, HALF_IN)
    widths = [x.width for x in group.levels]
    gains = [100 * (x.change.saliency if x.change else 0.0) for x in group.levels]
    prices = [100 * (sum(x.change.priced.values()) if x.change else 0.0) for x in group.levels]
    axes.plot(widths, gains, "o-", color=COLOURS["pruned"], markersize=4, label="gains")
    axes.plot(widths, prices, "s-", color=LIMIT, markersize=4, label="takes, at the shadow prices")
    breaking = [i for i, x in enumerate(group.levels) if x.change and x.change.breaks]
    axes.plot(
        [widths[i] for i in breaking],
        [gains[i] for i in breaking],
        "o",
        color="white",
        markeredgecolor=COLOURS["pruned"],
        markersize=4,
        label="breaks a limit alone",
    )
    axes.axvline(group.width, color="#999999", linewidth=1, linestyle="--", label="chosen")
    axes.set_xlabel("width")
    axes.set_ylabel("% of the saliency")
    axes.set_title(label(group.name, 60), fontsize=SMALL_PT + 2, loc="left", parse_math=False)
    axes.legend(frameon=False, fontsize=SMALL_PT)
    return canvas


def _stack(axes: Axes, places: Sequence[float], changes: Sequence[Change]) -> None:
    """What changes take, resource by resource: what costs to the right, what is freed to the left."""
    right, left = [0.0] * len(changes), [0.0] * len(changes)
    for resource, colour in PRICED.items():
        prices = [100 * c.priced.get(resource, 0.0) for c in changes]
        if not any(prices):
            continue
        starts = [r if p >= 0 else x for p, r, x in zip(prices, right, left, strict=True)]
        axes.barh(places, prices, left=starts, height=0.36, color=colour, label=f"takes {called(resource)}")
        right = [r + max(p, 0.0) for p, r in zip(prices, right, strict=True)]
        left = [x + min(p, 0.0) for p, x in zip(prices, left, strict=True)]
