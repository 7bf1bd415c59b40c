"""``edgeprune run``: the installed network, or one in a bundle, on data."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from edgeprune.board.anomalies import GUARD, MODES, require_mode
from edgeprune.cli.options import DeviceUrl, taking
from edgeprune.cli.output import JsonOption, Result, columns, emit, listing, record
from edgeprune.files import require_writable

app = typer.Typer(rich_markup_mode=None)


@app.command()
@taking()
def run(
    inputs: Annotated[
        list[Path],
        typer.Option("--input", help="Stacked samples, one file for each input: .npy, .npz, .bin (raw), or a picture."),
    ],
    outputs: Annotated[
        list[Path], typer.Option("--output", help="A file to write, one for each output: .npy, .npz or .bin.")
    ],
    bundle: Annotated[Path | None, typer.Argument(help="A bundle to try; else what is installed.")] = None,
    device: DeviceUrl = "local:",
    resize: Annotated[bool, typer.Option("--resize", help="Bring pictures to the size of the frame.")] = False,
    anomalies: Annotated[
        str,
        typer.Option("--anomalies", help=f"Samples of NaN, or beyond the data: {', '.join(MODES)} (docs/BOARD.md)."),
    ] = GUARD,
    as_json: JsonOption = False,
) -> None:
    """Run the installed network, or that of a bundle, on data.

    Arrays keep the types of the network. A picture is read where the program takes camera frames.
    """
    from edgeprune.api.boards import outputs_of
    from edgeprune.api.data_files import read_inputs, write_outputs
    from edgeprune.deploy.installed import installed
    from edgeprune.deploy.trials import on_trial
    from edgeprune.devices.registry import open_device

    require_mode(anomalies)
    for path in outputs:
        require_writable(path)
    with ExitStack() as stack:
        board = stack.enter_context(open_device(device))
        placed = installed(board) if bundle is None else stack.enter_context(on_trial(board)).keep(bundle)
        ports = placed.manifest.inputs
        arrays = read_inputs(inputs, ports, resize=resize)
        results = outputs_of(placed, arrays, anomalies=anomalies)
        write_outputs(outputs, placed.manifest.outputs, results)
        samples, names = len(arrays[0]) // ports[0].shape[0], [str(p) for p in outputs]
        body = {"device": board.url, "samples": samples, "outputs": names}
        found = [a.to_json() for a in results.anomalies]
        said = listing("edgeprune.run/1", "anomalies", found, columns("sample input value position not_finite outside"))
        tables = (*record("", body).tables, *(said.tables if found else ()))
        emit(Result(said.schema, {**body, "anomalies": found}, tables), as_json)
