"""``edgeprune targets``: the kinds of board, one line each; ``targets show NAME`` for all of one.

``targets --build-check`` builds a small network for every one of them.
"""

from __future__ import annotations

from typing import Annotated

import typer

from edgeprune.cli.output import Column, JsonOption, QuietOption, columns, emit, listing, record, wants_json
from edgeprune.errors import UsageError
from edgeprune.report.tables import cell

app = typer.Typer(rich_markup_mode=None)

COLUMNS = (
    *columns("name title kind arch cores clock_mhz", title="board", clock_mhz="MHz"),
    Column("ram_bytes", "RAM", lambda n: cell(n) if n is None else f"{n / 2**30:.3g} GiB"),
    *columns("vector_bits default_device"),
)

BUILT = columns("target kind status bytes architecture libc evidence why", libc="needs libc")


@app.callback(invoke_without_command=True)
def targets(
    ctx: typer.Context,
    build_check: Annotated[
        bool, typer.Option("--build-check", help="Build a small network for every target; say what came of it.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List the kinds of board edgeprune knows, or show one.

    With --build-check it leaves with the exit code of the first cpu target that fails.
    """
    if ctx.invoked_subcommand is not None:
        if build_check:
            raise UsageError("--build-check is about all targets", hint="leave out the rest: targets --build-check")
        return
    from edgeprune.targets import list_targets

    if build_check:
        _build_check(as_json, quiet)
        return

    rows = [target.to_json() for target in list_targets()]
    emit(listing("edgeprune.targets/1", "targets", rows, COLUMNS), as_json)


def _build_check(as_json: bool, quiet: bool) -> None:
    from edgeprune.api.progress import reporting
    from edgeprune.compiler.build_check import build_check
    from edgeprune.targets import list_targets

    with reporting(not quiet) as report:
        results = list(build_check(list_targets(), report))
    failed = [result for result in results if result.status == "failed" and result.kind == "cpu"]
    rows = [result.to_json() for result in results]
    emit(listing("edgeprune.build_check/1", "targets", rows, BUILT, ok=not failed), as_json)
    if failed:
        raise typer.Exit(failed[0].exit_code)


@app.command()
def show(ctx: typer.Context, name: str, as_json: JsonOption = False) -> None:
    """Show everything about one target; NAME may be "host" or "host_gpu", those of this computer."""
    from edgeprune.targets import load_target, target_file

    target = load_target(name)
    body = {**target.to_json(), "libc": target.libc, "digest": target.digest, "file": target_file(target.name)}
    emit(record("edgeprune.target/1", body, target.title), wants_json(ctx, as_json))
