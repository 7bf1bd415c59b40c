"""``edgeprune devices``: what can be reached from this computer without being told an address."""

from __future__ import annotations

import typer

from edgeprune.cli.output import JsonOption, columns, emit, listing

app = typer.Typer(rich_markup_mode=None)

COLUMNS = columns("url description openable details", description="device")


@app.command()
def devices(as_json: JsonOption = False) -> None:
    """List the boards and emulators that can be reached from here."""
    from edgeprune.devices.registry import list_devices

    rows = [device.to_json() for device in list_devices()]
    emit(listing("edgeprune.devices/1", "devices", rows, COLUMNS), as_json)
