"""``edgeprune bench``: latency of the installed network."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeprune.cli.options import DeviceUrl, taking
from edgeprune.cli.output import JsonOption, emit, record

app = typer.Typer(rich_markup_mode=None)


@app.command()
@taking()
def bench(
    device: DeviceUrl = "local:",
    warmup: Annotated[int, typer.Option("--warmup", min=0)] = 2,
    repeats: Annotated[
        int | None,
        typer.Option("--repeats", min=1, help="Inferences a launch; what fills 60 ms by default."),
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="As it was compiled for, by default.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Time the installed network.

    The current release, end to end, on the device. The latency is the median in the fastest state of its clock.
    """
    from edgeprune.api.boards import bench as run
    from edgeprune.devices.registry import open_device

    with open_device(device) as board:
        done = run(board, warmup=warmup, repeats=repeats, threads=threads)
        emit(record("edgeprune.bench/2", {"device": board.url, **done.summary()}), as_json)
