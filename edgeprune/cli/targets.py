"""``edgeprune targets``: the kinds of board, one line each; ``targets show NAME`` for all of one."""

from __future__ import annotations

import typer

from edgeprune.cli.output import Column, JsonOption, emit, listing, record
from edgeprune.report.tables import cell

app = typer.Typer(rich_markup_mode=None)

COLUMNS = (
    Column("name"),
    Column("title", "board"),
    Column("kind"),
    Column("arch"),
    Column("cores"),
    Column("clock_mhz", "MHz"),
    Column("ram_bytes", "RAM", lambda n: cell(n) if n is None else f"{n / 2**30:.3g} GiB"),
    Column("vector_bits", "vector bits"),
    Column("default_device", "default device"),
)


@app.callback(invoke_without_command=True)
def targets(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the kinds of board edgeprune knows, or show one."""
    if ctx.invoked_subcommand is not None:
        return
    from edgeprune.targets import list_targets

    rows = [target.to_json() for target in list_targets()]
    emit(listing("edgeprune.targets/1", "targets", rows, COLUMNS), as_json)


@app.command()
def show(ctx: typer.Context, name: str, as_json: JsonOption = False) -> None:
    """Show everything about one target; NAME may be "host", the best generic one for this computer."""
    from edgeprune.targets import load_target, target_file

    target = load_target(name)
    body = {**target.to_json(), "libc": target.libc, "digest": target.digest, "file": target_file(target.name)}
    emit(record("edgeprune.target/1", body, target.title), as_json or bool(ctx.parent and ctx.parent.params["as_json"]))
