"""``edgeprune rollback``: make the previous release current again."""

from __future__ import annotations

import typer

from edgeprune.cli.options import DeviceUrl, taking
from edgeprune.cli.output import JsonOption, emit, record

app = typer.Typer(rich_markup_mode=None)


@app.command()
@taking()
def rollback(device: DeviceUrl = "local:", as_json: JsonOption = False) -> None:
    """Make the previous release of a device current again.

    Its files and its golden output are checked on the device first.
    """
    from edgeprune.deploy.rollback import rollback as go_back
    from edgeprune.devices.registry import open_device

    with open_device(device) as board:
        emit(record("edgeprune.rollback/1", {"device": board.url, **go_back(board).to_json()}), as_json)
