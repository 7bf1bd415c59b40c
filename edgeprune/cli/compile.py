"""``edgeprune compile``: a network, or the folder of a run, into a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune.cli.options import LEARNING, FactoryOption, option, taking
from edgeprune.cli.output import JsonOption, QuietOption, emit, record

app = typer.Typer(rich_markup_mode=None)

FROM = option("device", str | None, None, "Whose profile to take schedules from.")
IN_BLOCKS = option(
    "block_sparse",
    str,
    "profiled",
    "Store only blocks of weights that are not zero: never, always, profiled (where it was timed to be quicker).",
)


@app.command(name="compile")
@taking(
    *("target", "weights", "input_shape", "example", "threads", "store"),
    *(FROM, "allow_mismatch", "image_input", "weight_storage", IN_BLOCKS),
    *LEARNING,
)
def compile_(
    model: Annotated[str, typer.Argument(help="A model as in edgeprune profile, or the folder of a run.")],
    out: Annotated[Path, typer.Option("--out", help="The bundle folder to write.")],
    factory: FactoryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **given: Any,
) -> None:
    """Compile a network, or the folder of a run, into a bundle.

    Schedules come from the profile of the device, where there is one. The data, if there are any, say which values
    inputs have; the program tells samples outside.
    """
    from edgeprune.api.programs import compile as run

    done = run(model, out=out, factory=factory, **given, progress=not quiet)
    emit(record("edgeprune.compile/1", done.to_json()), as_json)
