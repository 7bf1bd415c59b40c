"""``edgeprune compile``: a network, or the folder of a run, into a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.options import (
    MismatchOption,
    ShapeOption,
    StoreOption,
    TargetOption,
    ThreadsOption,
    WeightsOption,
)
from edgeprune.cli.output import JsonOption, QuietOption, emit, record

app = typer.Typer(rich_markup_mode=None)


@app.command(name="compile")
def compile_(
    model: Annotated[str, typer.Argument(help="A model as in edgeprune profile, or the folder of a run.")],
    out: Annotated[Path, typer.Option("--out", help="The bundle folder to write.")],
    target: TargetOption = "host",
    factory: Annotated[
        str | None, typer.Option("--factory", help="The code a run was made from, if it was: FILE.py:factory.")
    ] = None,
    weights: WeightsOption = None,
    input_shape: ShapeOption = None,
    threads: ThreadsOption = 1,
    store: StoreOption = None,
    device: Annotated[str | None, typer.Option("--device", help="Whose profile to take schedules from.")] = None,
    allow_mismatch: MismatchOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compile a network, or the folder of a run, into a bundle.

    Schedules come from the profile of the device, where there is one.
    """
    from edgeprune.api.networks import compile as run

    done = run(
        model,
        target=target,
        device=device,
        out=out,
        factory=factory,
        weights=weights,
        input_shape=input_shape,
        threads=threads,
        store=store,
        allow_mismatch=allow_mismatch,
        progress=not quiet,
    )
    emit(record("edgeprune.compile/1", done.to_json()), as_json)
