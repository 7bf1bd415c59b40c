"""``edgeprune export``: a network, or the folder of a run, as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.api.progress import reporting
from edgeprune.cli.options import ShapeOption, WeightsOption
from edgeprune.cli.output import JsonOption, QuietOption, emit, record

app = typer.Typer(rich_markup_mode=None)


@app.command(name="export")
def export(
    model: Annotated[str, typer.Argument(help="A model as in edgeprune profile, or the folder of a run.")],
    out: Annotated[Path, typer.Option("--out", help="The ONNX file to write.")],
    opset: Annotated[int, typer.Option("--opset", help="Of the ONNX standard, 11 to 20.")] = 17,
    factory: Annotated[
        str | None, typer.Option("--factory", help="The code a run was made from, if it was: FILE.py:factory.")
    ] = None,
    weights: WeightsOption = None,
    input_shape: ShapeOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a network, or the pruned one of a run, as an ONNX file.

    Shapes are fixed. The file is run and compared with torch before it appears.
    """
    from edgeprune.fitting.run_folder import RUN_FILE, load_run
    from edgeprune.models.loading import load_model, parse_shape
    from edgeprune.models.onnx_export import export_onnx

    if (Path(model) / RUN_FILE).is_file():
        loaded, network = load_run(Path(model), factory)
        module, inputs = network.module, network.example_inputs
    else:
        loaded = load_model(model, weights=weights, input_shape=parse_shape(input_shape))
        module, inputs = loaded.module, loaded.example_inputs
    with reporting(not quiet) as bar:
        bar.stage("exporting", 1)
        difference = export_onnx(module, inputs, out, opset=opset)
        bar.advance()
    fields = {
        "onnx": out,
        "opset": opset,
        "bytes": out.stat().st_size,
        "parameters": sum(p.numel() for p in module.parameters()),
        "difference": difference,
        "evidence": "measured",
    }
    emit(record("edgeprune.export/1", fields), as_json)
