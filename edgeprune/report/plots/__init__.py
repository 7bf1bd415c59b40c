"""Plots of a report as SVG text; None where the report holds nothing to draw.

Drawn through matplotlib's objects, never through pyplot: no global state, no display. Text is
turned into paths, so a page needs no fonts, and names are never read as formulas or markup.
"""

from collections.abc import Callable, Mapping

from matplotlib.figure import Figure as Canvas

from edgeprune.report.plots import comparison, distributions, kernels, picture, profiles
from edgeprune.report.plots.comparison import tradeoff
from edgeprune.report.plots.distributions import latencies
from edgeprune.report.plots.kernels import milliseconds, prediction
from edgeprune.report.plots.picture import widths
from edgeprune.report.plots.profiles import tables
from edgeprune.report.schema import Report

__all__ = ["FIGURES", "latencies", "milliseconds", "prediction", "tables", "tradeoff", "widths"]

FIGURES: Mapping[str, Callable[[Report], Canvas | None]] = {
    "milliseconds": kernels.draw_milliseconds,
    "widths": picture.draw,
    "tradeoff": comparison.draw,
    "latencies": distributions.draw,
    "prediction": kernels.draw_prediction,
    "tables": profiles.draw_tables,
}
"""The same plots as matplotlib figures, by name."""
