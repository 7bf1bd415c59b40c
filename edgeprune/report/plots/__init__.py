"""Plots of a report as SVG text; None where the report holds nothing to draw.

Drawn through matplotlib's objects, never through pyplot: no global state, no display. Text is
turned into paths, so a page needs no fonts, and names are never read as formulas or markup.
"""

from edgeprune.report.plots.comparison import tradeoff
from edgeprune.report.plots.distributions import latencies
from edgeprune.report.plots.kernels import milliseconds, prediction
from edgeprune.report.plots.picture import widths

__all__ = ["latencies", "milliseconds", "prediction", "tradeoff", "widths"]
