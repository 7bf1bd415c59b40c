"""The network as a picture: channels of every layer, before and after pruning, in the order of execution."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FixedFormatter, FixedLocator

from edgeprune.report.names import kernel_names
from edgeprune.report.plots.canvas import COLOURS, LIMIT, SMALL_PT, WIDE_IN, label, plain, svg_of
from edgeprune.report.schema import Layer, Report

LABEL_IN = 0.15
"""Room that a name takes when it stands upright."""


def widths(report: Report) -> str | None:
    """The SVG of the picture."""
    canvas = draw(report)
    return None if canvas is None else svg_of(canvas)


def draw(report: Report) -> Canvas | None:
    """Bars of all channels (grey) and the kept ones (blue), kernels that are gone hatched; below, the share kept."""
    layers = report.layers
    if not layers:
        return None
    canvas = Canvas(figsize=(WIDE_IN, 4.2), layout="constrained")
    picture, kept = canvas.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    for axes in (picture, kept):
        plain(axes)
    positions = np.arange(len(layers))
    gone = [layer.before.out > 0 and layer.after.out == 0 for layer in layers]
    _bars(picture, layers, positions, gone)
    shares = [100 * layer.after.out / layer.before.out if layer.before.out else 100.0 for layer in layers]
    kept.bar(positions, [100] * len(layers), width=1, color=COLOURS["dense"], alpha=0.35)
    kept.bar(positions, shares, width=1, color=COLOURS["pruned"])
    kept.set_ylabel("% kept")
    kept.set(ylim=(0, 100), yticks=(0, 50, 100))
    kept.set_xlim(-0.6, len(layers) - 0.4)
    _names(kept, layers)
    return canvas


def _bars(axes: Axes, layers: tuple[Layer, ...], positions: np.ndarray, gone: list[bool]) -> None:
    width = 0.85 if len(layers) <= 60 else 0.9
    before = [layer.before.out for layer in layers]
    # a layer of 16 channels beside one of 2048 would be a line: the square root keeps it in sight
    axes.bar(positions, np.sqrt(before), width=width, color=COLOURS["dense"], alpha=0.6, label="before")
    axes.bar(
        positions, np.sqrt([layer.after.out for layer in layers]), width=width, color=COLOURS["pruned"], label="kept"
    )
    if any(gone):
        hatched = np.flatnonzero(gone)
        axes.bar(
            hatched,
            np.sqrt([before[i] for i in hatched]),
            width=width,
            facecolor="white",
            edgecolor=LIMIT,
            hatch="////",
            linewidth=0.6,
            label="removed whole",
        )
    ticks = _round_widths(max(before))
    axes.yaxis.set_major_locator(FixedLocator([math.sqrt(t) for t in ticks]))
    axes.yaxis.set_major_formatter(FixedFormatter([str(t) for t in ticks]))
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("channels out")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)


def _round_widths(widest: int) -> list[int]:
    """A few powers of two up to the widest layer, far enough apart on a square-root scale."""
    top = max(1, 2 ** math.floor(math.log2(max(widest, 1))))
    return sorted({0, *(top // 4**n for n in range(3) if top // 4**n)})


def _names(axes: Axes, layers: tuple[Layer, ...]) -> None:
    """Names of as many kernels as there is room for, at equal distances."""
    every = max(1, math.ceil(len(layers) * LABEL_IN / (WIDE_IN - 1)))
    shown = range(0, len(layers), every)
    names = kernel_names(layers)
    axes.set_xticks(list(shown), [label(names[i], 28) for i in shown], rotation=90, fontsize=SMALL_PT, parse_math=False)
