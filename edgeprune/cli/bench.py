"""``edgeprune bench``: latency of the installed network."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeprune.cli.options import DeviceUrl
from edgeprune.cli.output import JsonOption, emit, record

app = typer.Typer(rich_markup_mode=None)


@app.command()
def bench(
    device: DeviceUrl = "local:",
    warmup: Annotated[int, typer.Option("--warmup", min=0)] = 5,
    repeats: Annotated[int, typer.Option("--repeats", min=1)] = 50,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="As it was compiled for, by default.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Time the installed network.

    The current release, end to end, on the device.
    """
    from edgeprune.deploy.installed import bench_installed
    from edgeprune.devices.registry import open_device
    from edgeprune.profiling.measure import spread

    board = open_device(device)
    result = bench_installed(board, warmup, repeats, threads)
    samples = [s / 1e6 for s in result.samples_ns]
    fields = {
        "device": board.url,
        "latency_ms": result.median_ms,
        "spread_ms": spread(samples),
        "min_ms": min(samples),
        "samples": len(samples),
        "evidence": result.evidence,
        "clock": result.clock,
    }
    emit(record("edgeprune.bench/1", fields), as_json)
