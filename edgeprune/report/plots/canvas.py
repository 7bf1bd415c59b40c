"""The canvas that plots share: colours, sizes, axes without ornament, and SVG that is the same every time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from edgeprune.errors import UsageError
from edgeprune.files import whole_file, write_whole
from edgeprune.report.schema import Figure
from edgeprune.report.tables import printable

# Okabe and Ito: told apart also by readers who do not see red and green as different
COLOURS = {"dense": "#999999", "pruned": "#0072B2", "uniform": "#E69F00"}
LIMIT, OFF = "#D55E00", "#CC79A7"
WIDE_IN, HALF_IN = 11.0, 5.2
SMALL_PT = 7.0
PICTURES = (".svg", ".png", ".pdf")
"""Endings of files that plots are drawn to."""


def canvas_of(height: float, width: float = WIDE_IN) -> tuple[Canvas, Axes]:
    """A canvas of one pair of axes; sizes in inches."""
    canvas = Canvas(figsize=(width, height), layout="constrained")
    axes = canvas.subplots()
    plain(axes)
    return canvas, axes


def plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def svg_of(canvas: Canvas) -> str:
    """The SVG of a canvas."""
    out = io.StringIO()
    # a fixed salt and no date: the same report gives the same bytes
    with matplotlib.rc_context({"svg.hashsalt": "edgeprune", "svg.fonttype": "path"}):
        canvas.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def require_picture(path: Path) -> None:
    """Raises UsageError for the name of a file that no plot can be drawn to."""
    if path.suffix not in PICTURES:
        raise UsageError(f"{path} is no picture that can be drawn", hint=f"name it {', '.join(PICTURES)}")


def save_picture(canvas: Canvas, path: Path) -> None:
    """Write a canvas in the format that the file's name says; it appears whole or not at all."""
    if path.suffix == ".svg":
        write_whole(path, svg_of(canvas))
        return
    with whole_file(path) as partial:
        canvas.savefig(partial)


def value(figure: Figure | None) -> float:
    return figure.value if figure is not None else 0.0


def levels(figures: Sequence[Figure | None]) -> str:
    """The evidence levels of several figures, for the name of an axis."""
    return ", ".join(sorted({f.label for f in figures if f is not None}))


def label(name: str, longest: int = 40) -> str:
    """A name that fits an axis: the middle is left out, for modules differ at both ends."""
    name = " ".join(printable(name).split())
    if len(name) <= longest:
        return name
    tail = (longest - 1) * 2 // 3
    return f"{name[: longest - 1 - tail]}…{name[-tail:]}"
