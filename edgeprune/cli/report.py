"""``edgeprune report``: the report of a run, as tables, JSON or the page drawn anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.output import JsonOption, Result, emit

app = typer.Typer(rich_markup_mode=None)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="The --out folder of edgeprune fit, or a report.json.")],
    as_json: JsonOption = False,
) -> None:
    """Show the report of a run, and draw its page anew."""
    from edgeprune.report.schema import SCHEMA, read_report
    from edgeprune.report.tables import facts_table
    from edgeprune.report.whole import report_tables
    from edgeprune.report.write import write_report

    path = run / "report.json" if run.is_dir() else run
    found = read_report(path)
    _, page = write_report(found, path.parent)
    body = found.to_json()
    body.pop("schema")
    emit(Result(SCHEMA, body, (*report_tables(found), facts_table({"report_html": page}))), as_json)
