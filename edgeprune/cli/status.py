"""``edgeprune status``: what is installed on a device."""

from __future__ import annotations

import typer

from edgeprune.cli.options import DeviceUrl, taking
from edgeprune.cli.output import JsonOption, emit, record

app = typer.Typer(rich_markup_mode=None)


@app.command()
@taking()
def status(device: DeviceUrl = "local:", as_json: JsonOption = False) -> None:
    """Show what is installed on a device.

    The current and previous release, and any deployment that was interrupted. Changes nothing.
    """
    from edgeprune.deploy.status import status as ask
    from edgeprune.devices.registry import open_device

    with open_device(device) as board:
        emit(record("edgeprune.status/1", {"device": board.url, **ask(board).to_json()}), as_json)
