"""``edgeprune run``: the installed network on data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli.options import DeviceUrl, taking
from edgeprune.cli.output import JsonOption, emit, record
from edgeprune.errors import BadInputError, UsageError
from edgeprune.files import require_writable, write_whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

app = typer.Typer(rich_markup_mode=None)


@app.command()
@taking()
def run(
    inputs: Annotated[list[Path], typer.Option("--input", help="A .npy file of stacked samples, one for each input.")],
    outputs: Annotated[list[Path], typer.Option("--output", help="A .npy file to write, one for each output.")],
    device: DeviceUrl = "local:",
    as_json: JsonOption = False,
) -> None:
    """Run the installed network on data."""
    import io

    import numpy as np

    from edgeprune.api.boards import outputs_of
    from edgeprune.deploy.installed import installed
    from edgeprune.devices.registry import open_device

    with open_device(device) as board:
        placed = installed(board)
        manifest = placed.manifest
        if len(inputs) != len(manifest.inputs) or len(outputs) != len(manifest.outputs):
            raise UsageError(
                f"the network has {len(manifest.inputs)} inputs and {len(manifest.outputs)} outputs",
                hint="give --input and --output once for each",
            )
        for path in outputs:
            require_writable(path)
        arrays = [_read(path) for path in inputs]
        for path, array in zip(outputs, outputs_of(placed, arrays), strict=True):
            buffer = io.BytesIO()
            np.save(buffer, array)
            write_whole(path, buffer.getvalue())
        samples, names = len(arrays[0]) // manifest.inputs[0].shape[0], [str(p) for p in outputs]
        emit(record("edgeprune.run/1", {"device": board.url, "samples": samples, "outputs": names}), as_json)


def _read(path: Path) -> NDArray[np.float32]:
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:
        raise BadInputError(f"{path} is not a .npy file: {e}", hint="write it with numpy.save") from e
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise BadInputError(f"{path} does not hold one array of real numbers", hint="write it with numpy.save")
    return array.astype(np.float32)
