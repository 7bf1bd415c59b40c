"""``edgeprune doctor``: is everything here that edgeprune needs? See :mod:`edgeprune.acceptance.computer`."""

from __future__ import annotations

import typer

from edgeprune.cli.output import JsonOption, QuietOption, columns, emit, listing
from edgeprune.errors import MissingDependencyError

app = typer.Typer(rich_markup_mode=None)

COLUMNS = columns("check status found mend", mend="mend with")


@app.command()
def doctor(as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Check this computer: packages, tools, permissions; say what mends each.

    Leaves with 5 if a check failed; a warning is about something optional.
    """
    from edgeprune.acceptance.computer import all_checks
    from edgeprune.api.progress import reporting
    from edgeprune.home import home

    checks = []
    with reporting(not quiet) as report:
        report.stage("checking this computer")
        for check in all_checks(home()):
            checks.append(check)
            report.advance()
    ok = all(check.status != "fail" for check in checks)
    rows = [check.to_json() for check in checks]
    emit(listing("edgeprune.doctor/1", "checks", rows, COLUMNS, ok=ok), as_json)
    if not ok:
        raise typer.Exit(MissingDependencyError.exit_code)
