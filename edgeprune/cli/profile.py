"""``edgeprune profile``: latency tables of a network's kernels on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.options import (
    BlocksOption,
    DeviceOption,
    ModelArgument,
    PointsOption,
    ShapeOption,
    StepOption,
    StoreOption,
    TargetOption,
    ThreadsOption,
    TuneOption,
    WeightsOption,
    parse_shape,
    store_path,
    target_and_device,
)
from edgeprune.cli.output import JsonOption, QuietOption, emit, record
from edgeprune.cli.progress import progress

app = typer.Typer(rich_markup_mode=None)


@app.command()
def profile(
    model: ModelArgument,
    target: TargetOption = "host",
    device: DeviceOption = None,
    weights: WeightsOption = None,
    input_shape: ShapeOption = None,
    threads: ThreadsOption = 1,
    points: PointsOption = 8,
    step: StepOption = None,
    blocks: BlocksOption = False,
    tune: TuneOption = 8,
    store: StoreOption = None,
    export: Annotated[Path | None, typer.Option("--export", help="Also write the profile as JSON lines.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure a network's kernels over their widths on a device.

    What was measured before is kept, so an interrupted profile goes on where it stopped.
    """
    from edgeprune.compiler.compile import read_network
    from edgeprune.latency.store import ProfileStore
    from edgeprune.models.loading import load_model
    from edgeprune.profiling.profile import ProfileOptions
    from edgeprune.profiling.profile import profile as run

    loaded = load_model(model, weights=weights, input_shape=parse_shape(input_shape))
    network = read_network(loaded.module, loaded.example_inputs)
    options = ProfileOptions(threads=threads, points=points, step=step, tune=tune, blocks=blocks)
    kind, board = target_and_device(target, device)
    with ProfileStore(store_path(store)) as opened, progress(quiet) as bar:
        result = run(network.kernels, network.channels, kind, board, opened, options, progress=bar)
        if export is not None:
            opened.export_jsonl(result.profile, export)
        info = board.describe()
        fields = {
            "model": loaded.name,
            "target": kind.name,
            "device": board.url,
            "board": info.gpu.name if kind.cuda and info.gpu else info.cpu,
            "evidence": info.evidence,
            "kernels_measured": result.measured,
            "kernels_reused": result.reused,
            "kernels_drifted": result.drifted,
            "kernels_failed": [{"kernel": str(r.spec), "error": r.error} for r in result.failed],
            "store": opened.path,
            "export": export,
            "fingerprint": result.profile.fingerprint.digest,
        }
    emit(record("edgeprune.profile/1", fields), as_json)
