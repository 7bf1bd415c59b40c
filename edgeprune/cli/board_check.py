"""``edgeprune board-check``: the acceptance of a live board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edgeprune.api.progress import reporting
from edgeprune.cli.options import DeviceUrl, StoreOption, TargetOption, ThreadsOption
from edgeprune.cli.output import Column, JsonOption, QuietOption, emit, listing
from edgeprune.errors import UsageError, VerificationError
from edgeprune.files import write_whole

app = typer.Typer(rich_markup_mode=None)

COLUMNS = (Column("check"), Column("status"), Column("found"), Column("figures"), Column("evidence"), Column("mend"))


@app.command("board-check")
def board_check(
    device: DeviceUrl = "local:",
    target: TargetOption = "host",
    model: Annotated[str, typer.Option("--model", help="A small network.")] = "zoo:resnet20",
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write outcome and profile, to pass on: NAME.json.")
    ] = None,
    store: StoreOption = None,
    threads: ThreadsOption = 1,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Try everything on a board: identity, build, transfer, numerics, timing, flash, rollback.

    In a folder of its own; what is installed stays. Exits with 7 if a check failed.
    With --out NAME.json, the profile that was measured goes to NAME.profile.jsonl beside it.
    """
    from edgeprune.acceptance.board_check import board_check as run
    from edgeprune.api.arguments import board_of, open_target
    from edgeprune.models.loading import load_model

    # A check takes minutes: what would be lost at its end is told before.
    if out is not None and out.is_dir():
        raise UsageError(f"{out} is a folder", hint=f"name a file in it: --out {out / 'board.json'}")
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent} for {out.name}", hint="make it first")
    loaded = load_model(model, input_shape=(1, 3, 32, 32) if model == "zoo:resnet20" else None)
    kind = open_target(target)
    with board_of(device, kind) as board, reporting(not quiet) as bar:
        profile_out = None if out is None else out.with_suffix(".profile.jsonl")
        outcome = run(board, kind, loaded, store=store, profile_out=profile_out, threads=threads, progress=bar)
    body = outcome.to_json()
    if out is not None:
        write_whole(out, json.dumps(body, indent=1, sort_keys=True) + "\n")
    rows = body.pop("checks")
    emit(listing(body.pop("schema"), "checks", rows, COLUMNS, **body), as_json)
    if not outcome.accepted:
        raise typer.Exit(VerificationError.exit_code)
