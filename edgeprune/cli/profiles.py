"""``edgeprune profiles``: the stored profiles; ``profiles export`` and ``profiles import`` pass one on as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.options import StoreOption
from edgeprune.cli.output import JsonOption, columns, emit, listing, record, wants_json
from edgeprune.errors import UsageError
from edgeprune.home import store_path

app = typer.Typer(rich_markup_mode=None)

COLUMNS = columns("fingerprint target cpu threads clock kernels failed networks evidence file")


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
    emit(record("edgeprune.profiles_export/1", {**row, "store": path}), wants_json(ctx, as_json))


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
    from edgeprune.latency.catalogue import import_profile

    path = store_path(store)
    found, done = import_profile(path, file)
    fields = {**found.to_json(), "added": done.added, "kept": done.kept, "store": path}
    emit(record("edgeprune.profiles_import/1", fields), wants_json(ctx, as_json))
