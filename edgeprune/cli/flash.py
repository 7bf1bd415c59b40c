"""``edgeprune flash``: install a bundle on a device, prove it there, roll back if it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.options import DeviceUrl, LatencyOption
from edgeprune.cli.output import JsonOption, QuietOption, emit, record
from edgeprune.cli.progress import progress
from edgeprune.errors import UsageError

app = typer.Typer(rich_markup_mode=None)


@app.command()
def flash(
    bundle: Annotated[Path, typer.Argument(help="The folder that edgeprune compile wrote.")],
    device: DeviceUrl = "local:",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted upload.")] = False,
    latency: LatencyOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Install a bundle on a device, prove it there, roll back if it fails.

    Hashes, output and latency are checked on the device before the bundle becomes current.
    """
    from edgeprune.budget.promise import parse_latency
    from edgeprune.deploy.flash import flash as install
    from edgeprune.devices.registry import open_device

    limit = None if latency is None else parse_latency(latency)
    if limit is not None and limit.relative:
        raise UsageError("flash knows no dense network to be relative to", hint="give --latency in ms")
    board = open_device(device)
    with progress(quiet) as bar:
        done = install(
            bundle,
            board,
            resume=resume,
            latency_budget_ms=None if limit is None else limit.value,
            progress=bar,
        )
    body = done.to_json()
    timing = body.pop("bench")
    body["latency_ms"] = timing["median_ms"]
    body["evidence"] = timing["evidence"]
    emit(record("edgeprune.flash/1", {"device": board.url, **body}), as_json)
