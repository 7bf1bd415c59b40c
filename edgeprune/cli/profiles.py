"""``edgeprune profiles``: the stored profiles; ``profiles export`` and ``profiles import`` pass one on as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.options import StoreOption
from edgeprune.cli.output import Column, JsonOption, emit, listing, record
from edgeprune.errors import UsageError
from edgeprune.home import store_path

app = typer.Typer(rich_markup_mode=None)

COLUMNS = (
    Column("fingerprint"),
    Column("target"),
    Column("cpu"),
    Column("threads"),
    Column("clock"),
    Column("kernels"),
    Column("failed"),
    Column("evidence"),
    Column("file"),
)


@app.callback(invoke_without_command=True)
def profiles(ctx: typer.Context, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the profiles at hand; pass one on: profiles export, profiles import.

    Those of the store, and the files that edgeprune ships.
    """
    if ctx.invoked_subcommand is not None:
        if store is not None:
            verb = ctx.invoked_subcommand
            raise UsageError(f"--store stands before {verb!r}", hint=f"write: edgeprune profiles {verb} … --store FILE")
        return
    from edgeprune.latency.catalogue import shipped_profiles, stored_profiles

    path = store_path(store)
    rows = [found.to_json() for found in (*stored_profiles(path), *shipped_profiles())]
    emit(listing("edgeprune.profiles/1", "profiles", rows, COLUMNS, store=path), as_json)


@app.command()
def export(
    ctx: typer.Context,
    fingerprint: Annotated[str, typer.Argument(help="As edgeprune profiles lists it, or its beginning.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write, NAME.profile.jsonl.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a stored profile as a file of JSON lines, to pass on."""
    from edgeprune.latency.catalogue import export_profile

    path = store_path(store)
    row = export_profile(path, fingerprint, out).to_json()
    emit(record("edgeprune.profiles_export/1", {**row, "store": path}), _wants_json(ctx, as_json))


@app.command(name="import")
def import_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A file that edgeprune exported, NAME.profile.jsonl.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a profile that someone passed on to the store: all of the file, or nothing.

    A kernel that the store has a latency of already keeps its own.
    """
    from edgeprune.latency.catalogue import Summary
    from edgeprune.latency.jsonl import read_jsonl
    from edgeprune.latency.store import ProfileStore

    # A file that is refused makes no store.
    fingerprint, records = read_jsonl(file)
    path = store_path(store)
    with ProfileStore(path) as opened:
        done = opened.merge(fingerprint, records)
        row = Summary.of(done.profile.fingerprint, done.profile.records(), file).to_json()
    fields = {**row, "added": done.added, "kept": done.kept, "store": path}
    emit(record("edgeprune.profiles_import/1", fields), _wants_json(ctx, as_json))


def _wants_json(ctx: typer.Context, as_json: bool) -> bool:
    """``--json`` counts before the name of the subcommand, too."""
    return as_json or bool(ctx.parent and ctx.parent.params["as_json"])
