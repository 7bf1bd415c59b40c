"""``edgeprune bench``: latency of the installed network."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from edgeprune.cli.options import DeviceUrl
from edgeprune.cli.output import JsonOption, emit, record

app = typer.Typer(rich_markup_mode=None)


@app.command()
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
    from edgeprune.deploy.installed import bench_installed
    from edgeprune.devices.registry import open_device
    from edgeprune.latency.records import spread

    board = open_device(device)
    result = bench_installed(board, warmup, repeats, threads)
    samples = result.samples_ms
    fields = {
        "device": board.url,
        "latency_ms": result.median_ms,
        "spread_ms": spread(samples),
        "min_ms": min(samples),
        "p90_ms": result.statistic("p90"),
        "p99_ms": result.statistic("p99"),
        "max_ms": max(samples),
        "samples": len(samples),
        "launches": len(result.launches),
        "clock_states": [asdict(s) for s in result.states],
        "evidence": result.evidence,
        "clock": result.clock,
    }
    emit(record("edgeprune.bench/2", fields), as_json)
