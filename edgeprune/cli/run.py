"""``edgeprune run``: the installed network on data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli.options import DeviceUrl
from edgeprune.cli.output import JsonOption, emit, record
from edgeprune.errors import BadInputError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

app = typer.Typer(rich_markup_mode=None)


@app.command()
def run(
    inputs: Annotated[list[Path], typer.Option("--input", help="A .npy file of stacked samples, one for each input.")],
    outputs: Annotated[list[Path], typer.Option("--output", help="A .npy file to write, one for each output.")],
    device: DeviceUrl = "local:",
    as_json: JsonOption = False,
) -> None:
    """Run the installed network on data."""
    import io

    import numpy as np

    from edgeprune.deploy.installed import installed_ports, run_installed
    from edgeprune.devices.registry import open_device

    board = open_device(device)
    ports_in, ports_out = installed_ports(board)
    if len(inputs) != len(ports_in) or len(outputs) != len(ports_out):
        raise UsageError(
            f"the network has {len(ports_in)} inputs and {len(ports_out)} outputs",
            hint="give --input and --output once for each",
        )
    for path in outputs:
        if not path.parent.is_dir():
            raise UsageError(f"there is no folder {path.parent} for {path.name}", hint="make it first")
    arrays = [_read(path) for path in inputs]
    for path, array, port in zip(inputs, arrays, ports_in, strict=True):
        if array.ndim != len(port.shape) or array.shape[1:] != port.shape[1:] or len(array) % port.shape[0]:
            raise BadInputError(f"{path} has shape {array.shape}; the input is {port.shape}, stacked along N")
    batch = {len(a) // p.shape[0] for a, p in zip(arrays, ports_in, strict=True)}
    if len(batch) != 1 or not (samples := batch.pop()):
        raise BadInputError("the inputs hold different numbers of samples, or none")
    raw = run_installed(board, [a.tobytes() for a in arrays], samples)
    for path, data, port in zip(outputs, raw, ports_out, strict=True):
        buffer = io.BytesIO()
        np.save(buffer, np.frombuffer(data, np.float32).reshape(samples * port.shape[0], *port.shape[1:]))
        path.write_bytes(buffer.getvalue())
    emit(
        record("edgeprune.run/1", {"device": board.url, "samples": samples, "outputs": [str(p) for p in outputs]}),
        as_json,
    )


def _read(path: Path) -> NDArray[np.float32]:
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:
        raise BadInputError(f"{path} is not a .npy file: {e}", hint="write it with numpy.save") from e
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise BadInputError(f"{path} does not hold one array of real numbers", hint="write it with numpy.save")
    return np.ascontiguousarray(array, np.float32)
