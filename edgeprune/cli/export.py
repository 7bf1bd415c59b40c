"""``edgeprune export``: a network, or the folder of a run, as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune.cli.options import FactoryOption, taking
from edgeprune.cli.output import JsonOption, QuietOption, emit, record

app = typer.Typer(rich_markup_mode=None)


@app.command(name="export")
@taking("weights", "input_shape", "example")
def export(
    model: Annotated[str, typer.Argument(help="A model as in edgeprune profile, or the folder of a run.")],
    out: Annotated[Path, typer.Option("--out", help="The ONNX file to write.")],
    opset: Annotated[int, typer.Option("--opset", help="Of the ONNX standard, 11 to 20.")] = 17,
    dynamic_batch: Annotated[
        bool, typer.Option("--dynamic-batch", help="Leave the first dimension of inputs and outputs open.")
    ] = False,
    factory: FactoryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **given: Any,
) -> None:
    """Write a network, or the pruned one of a run, as an ONNX file.

    Shapes are fixed, but for the batch with --dynamic-batch. The file is run and compared with torch before it appears.
    """
    from edgeprune.api.programs import export as run

    done = run(model, out, opset=opset, dynamic_batch=dynamic_batch, factory=factory, **given, progress=not quiet)
    emit(record("edgeprune.export/1", done.to_json()), as_json)
