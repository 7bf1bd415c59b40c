"""``edgeprune board-check``: the acceptance of a live board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune.api.progress import reporting
from edgeprune.cli.options import DeviceUrl, taking
from edgeprune.cli.output import JsonOption, QuietOption, columns, emit, listing
from edgeprune.errors import VerificationError
from edgeprune.files import require_writable, write_whole

app = typer.Typer(rich_markup_mode=None)

COLUMNS = columns("check status found figures evidence mend")


@app.command("board-check")
@taking("target", "store", "threads")
def board_check(
    device: DeviceUrl = "local:",
    model: Annotated[str, typer.Option("--model", help="A small network.")] = "zoo:resnet20",
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write outcome and profile, to pass on: NAME.json.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **given: Any,
) -> None:
    """Try everything on a board: identity, build, transfer, numerics, timing, flash, rollback.

    In a folder of its own; what is installed stays. Exits with 7 if a check failed.
    With --out NAME.json, the profile that was measured goes to NAME.profile.jsonl beside it.
    """
    from edgeprune.acceptance.board_check import board_check as run
    from edgeprune.api.arguments import open_target
    from edgeprune.api.opened import board_of
    from edgeprune.models.loading import load_model

    # A check takes minutes: what would be lost at its end is told before.
    if out is not None:
        require_writable(out)
    loaded = load_model(model, input_shape=(1, 3, 32, 32) if model == "zoo:resnet20" else None)
    kind = open_target(given.pop("target"))
    with board_of(device, kind) as board, reporting(not quiet) as bar:
        profile_out = None if out is None else out.with_suffix(".profile.jsonl")
        outcome = run(board, kind, loaded, **given, profile_out=profile_out, progress=bar)
    body = outcome.to_json()
    if out is not None:
        write_whole(out, json.dumps(body, indent=1, sort_keys=True) + "\n")
    rows = body.pop("checks")
    emit(listing(body.pop("schema"), "checks", rows, COLUMNS, **body), as_json)
    if not outcome.accepted:
        raise typer.Exit(VerificationError.exit_code)
