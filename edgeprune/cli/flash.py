"""``edgeprune flash``: install a bundle on a device, prove it there, roll back if it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.groups import Promised, grouped
from edgeprune.cli.options import DeviceUrl, PatienceOption
from edgeprune.cli.output import JsonOption, QuietOption, emit, record
from edgeprune.cli.progress import progress

app = typer.Typer(rich_markup_mode=None)


@app.command()
@grouped
def flash(
    bundle: Annotated[Path, typer.Argument(help="The folder that edgeprune compile wrote.")],
    promised: Promised,
    device: DeviceUrl = "local:",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted upload.")] = False,
    beside: Annotated[
        Path | None,
        typer.Option("--beside", help="Bundle of the dense network, for a budget that is relative to it."),
    ] = None,
    patience: PatienceOption = 60.0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Install a bundle on a device, prove it there, roll back if it fails.

    Hashes, output and latency are checked on the device before the bundle becomes current. A budget that is relative
    is judged in turns with the dense network if its bundle is at hand: that of --beside, or the one of the run.
    Exits with 10 if the latency is too near to the budget to decide.
    """
    from edgeprune.deploy.beside import flash_beside
    from edgeprune.devices.registry import open_device

    board = open_device(device)
    given = promised.latency or promised.flash or promised.statistic != "median"
    promise = promised.promise() if given else None
    with progress(quiet) as bar:
        done = flash_beside(
            bundle, board, promise=promise, beside=beside, patience_s=patience, resume=resume, progress=bar
        )
    body = done.to_json()
    timing = body.pop("timing")
    body |= {"latency_ms": done.timing.median_ms, "evidence": timing["evidence"]}
    emit(record("edgeprune.flash/2", {"device": board.url, **body}), as_json)
