"""``edgeprune profiles``: the stored profiles; each can be shown, compared with another, and passed on as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.options import StoreOption
from edgeprune.cli.output import JsonOption, Result, columns, emit, listing, record, wants_json
from edgeprune.errors import UsageError
from edgeprune.home import store_path

app = typer.Typer(rich_markup_mode=None)

ProfileArgument = Annotated[
    str, typer.Argument(help="A file, or a fingerprint as edgeprune profiles lists it, or its beginning.")
]
COLUMNS = columns("fingerprint target cpu threads clock kernels failed networks evidence file")


@app.callback(invoke_without_command=True)
def profiles(ctx: typer.Context, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the profiles at hand; show, compare and pass on: profiles show, diff, export, import, merge.

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


@app.command()
def show(
    ctx: typer.Context,
    profile: ProfileArgument,
    family: Annotated[str | None, typer.Option("--family", help="A kernel to draw, as the list names it.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Its latency against its width: FILE.svg or .png.")
    ] = None,
    heat_map: Annotated[Path | None, typer.Option("--heat-map", help="Its latency over in and out widths.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a profile holds, kernel by kernel; draw one of them."""
    from edgeprune.api.stored import load_profile
    from edgeprune.files import require_writable
    from edgeprune.report.plots.canvas import require_picture, save_picture
    from edgeprune.report.tables import facts_table

    pictures = [path for path in (plot, heat_map) if path is not None]
    if bool(pictures) != (family is not None):
        raise UsageError("a picture is of one kernel", hint="give --family KEY and --plot FILE.svg")
    for path in pictures:
        require_picture(path)
        require_writable(path)
    found = load_profile(profile, store=store)
    if family is not None:
        if plot is not None:
            save_picture(found.plot(family), plot)
        if heat_map is not None:
            save_picture(found.heat_map(family), heat_map)
    written = {"pictures": pictures} if pictures else {}
    tables = (facts_table({path.suffix[1:]: path for path in pictures}, "drawn"),) if pictures else found.tables()
    emit(Result("edgeprune.profiles_show/1", {**found.to_json(), **written}, tables), wants_json(ctx, as_json))


@app.command()
def diff(
    ctx: typer.Context,
    first: ProfileArgument,
    second: ProfileArgument,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two profiles: fingerprints, kernels that both have, and whole networks."""
    from edgeprune.api.stored import load_profile

    found = load_profile(first, store=store).difference(load_profile(second, store=store))
    emit(Result("edgeprune.profiles_diff/1", found.to_json(), found.tables()), wants_json(ctx, as_json))


@app.command()
def merge(
    ctx: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="Files of one fingerprint; the first that has a kernel counts.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write, NAME.profile.jsonl.")],
    as_json: JsonOption = False,
) -> None:
    """Make one file of several that were measured on boards of one kind."""
    from edgeprune.latency.catalogue import merge_profiles

    found, twice = merge_profiles(files, out)
    emit(record("edgeprune.profiles_merge/1", {**found.to_json(), "twice": twice}), wants_json(ctx, as_json))
