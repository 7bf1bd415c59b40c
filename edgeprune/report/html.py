"""The report as one self-contained HTML page: no script, no font, no address outside the file."""

from __future__ import annotations

import base64

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from edgeprune import amounts
from edgeprune.report import explained, plots, sentences, tables
from edgeprune.report.names import kernel_names
from edgeprune.report.schema import Report


def render_html(report: Report) -> str:
    """The page. Every string of the report is escaped; plots are inlined as images."""
    # "template.html.j2" would not be recognised as HTML by name
    environment = Environment(
        loader=PackageLoader("edgeprune", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(cell=tables.cell, amount=tables.amount, size=amounts.size)
    images = {
        "tradeoff": plots.tradeoff(report),
        "latencies": plots.latencies(report),
        "milliseconds": plots.milliseconds(report),
        "widths": plots.widths(report),
        "prediction": plots.prediction(report),
        "tables": plots.tables(report),
    }
    return environment.get_template("template.html.j2").render(
        report=report,
        amounts=amounts,
        tables=tables,
        sentences=sentences,
        explained=explained,
        names=kernel_names(report.layers),
        images={name: _data_url(svg) for name, svg in images.items() if svg is not None},
    )


def _data_url(svg: str) -> Markup:
    return Markup("data:image/svg+xml;base64,") + base64.b64encode(svg.encode()).decode()
