"""``edgeprune emulator``: the boards inside QEMU; ``emulator prepare`` makes their kernel and file system."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeprune.cli.output import JsonOption, QuietOption, columns, emit, listing, record

app = typer.Typer(rich_markup_mode=None)

TARGET = "emulated_a53"
"""Any of the emulated boards: their programs are linked alike."""
COLUMNS = columns("url description openable", description="board")


@app.callback(invoke_without_command=True)
def emulator(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the boards that run inside QEMU, or prepare them: emulator prepare."""
    if ctx.invoked_subcommand is not None:
        return
    from edgeprune.devices.emulator.device import boards_here

    rows = [{"url": url, "description": title, "openable": here} for url, title, here in boards_here()]
    emit(listing("edgeprune.emulators/1", "boards", rows, COLUMNS), as_json)


@app.command()
def prepare(
    again: Annotated[bool, typer.Option("--again", help="Make them anew, with the packages of today.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make kernel and file system of the emulated boards from Debian's packages.

    About 65 MB are downloaded through the system's own apt sources, into a folder of edgeprune's. The C library of the
    programs for these boards is built as well, which takes a minute or two the first time.
    """
    from edgeprune.api.progress import reporting
    from edgeprune.compiler.link import build_libraries
    from edgeprune.devices.emulator.device import emulated_boards
    from edgeprune.devices.emulator.images import prepare as make
    from edgeprune.targets import load_target

    with reporting(not quiet) as bar:
        images = make(again=again, progress=bar)
        bar.stage("C library")
        build_libraries(load_target(TARGET))
    emit(record("edgeprune.emulator/1", {**images.to_json(), "boards": emulated_boards()}), as_json)
