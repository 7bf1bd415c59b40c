"""``edgeprune flash``: install a bundle on a device, prove it there, roll back if it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune.cli.options import PROMISED, DeviceUrl, option, taking
from edgeprune.cli.output import JsonOption, QuietOption, emit, record

app = typer.Typer(rich_markup_mode=None)


@app.command()
@taking(
    *PROMISED,
    option("resume", bool, False, "Go on with an interrupted upload.", "--resume"),
    option("beside", Path | None, None, "Bundle of the dense network, for a budget that is relative to it."),
    option(
        "patience_s", float, 60.0, "Most seconds of measuring before a latency is not decidable.", "--patience", min=0.1
    ),
)
def flash(
    bundle: Annotated[Path, typer.Argument(help="The folder that edgeprune compile wrote.")],
    device: DeviceUrl = "local:",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **given: Any,
) -> None:
    """Install a bundle on a device, prove it there, roll back if it fails.

    Hashes, output and latency are checked on the device before the bundle becomes current. A budget that is relative
    is judged in turns with the dense network if its bundle is at hand: that of --beside, or the one of the run.
    Exits with 10 if the latency is too near to the budget to decide.
    """
    from edgeprune.api.boards import flash as run
    from edgeprune.devices.registry import open_device

    with open_device(device) as board:
        done = run(bundle, device=board, **given, progress=not quiet)
        body = done.to_json()
        timing = body.pop("timing")
        body |= {"latency_ms": done.timing.median_ms, "evidence": timing["evidence"]}
        emit(record("edgeprune.flash/2", {"device": board.url, **body}), as_json)
