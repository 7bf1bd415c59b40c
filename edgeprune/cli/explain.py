"""``edgeprune explain``: why the widths of a run are as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.output import JsonOption, QuietOption, Result, emit

app = typer.Typer(rich_markup_mode=None)


@app.command()
def explain(
    run: Annotated[Path, typer.Argument(help="The --out folder of edgeprune fit or prune.")],
    group: Annotated[str | None, typer.Option("--group", help="A width group: every width it was offered.")] = None,
    channel: Annotated[int | None, typer.Option("--channel", help="One channel of it, from 0.", min=0)] = None,
    time_limit: Annotated[
        float, typer.Option("--time-limit", help="Seconds for the best plans with each width, all together.", min=0.0)
    ] = 10.0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say which limits shaped the widths of a run, and what other widths would cost.

    Nothing is measured: this is about the tables, the budget and the certificate that the run kept. With --group, the
    best plan with each width of the group is looked for; --time-limit 0 leaves that out.
    """
    from edgeprune.api.explaining import explain as find

    found = find(run, group=group, channel=channel, time_limit_s=time_limit, progress=not quiet)
    emit(Result("edgeprune.explain/1", found.to_json(), found.tables()), as_json)
