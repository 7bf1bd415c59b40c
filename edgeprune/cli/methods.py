"""``edgeprune methods``: what channels can be scored and chosen by, what can become 0, what recovers."""

from __future__ import annotations

from typing import Any

import typer

from edgeprune.cli.output import Column, JsonOption, columns, emit, listing

app = typer.Typer(rich_markup_mode=None)


def _said(options: dict[str, Any]) -> str:
    return ", ".join(name if usual is None else f"{name}={usual}" for name, usual in options.items())


COLUMNS = (
    *columns("kind name about"),
    Column("options", "options", _said),
    Column("data", "data", lambda needed: "needed" if needed else ""),
    *columns("source"),
)


@app.command()
def methods(as_json: JsonOption = False) -> None:
    """List criteria, rules, sparsities and recoveries, with their options and where they come from.

    Options follow a name: --criterion activation:statistic=apoz, --rule ratio:remove=0.3, --sparsity l1:target=0.9.
    """
    from edgeprune.api.methods import list_methods

    rows = [row.to_json() for row in list_methods()]
    emit(listing("edgeprune.methods/1", "methods", rows, COLUMNS), as_json)
