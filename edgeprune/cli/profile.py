"""``edgeprune profile``: latency tables of a network's kernels on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.groups import Loading, Profiling, Where, grouped
from edgeprune.cli.options import ModelArgument
from edgeprune.cli.output import JsonOption, QuietOption, emit, record
from edgeprune.cli.progress import progress

app = typer.Typer(rich_markup_mode=None)


@app.command()
@grouped
def profile(
    model: ModelArgument,
    loading: Loading,
    where: Where,
    profiling: Profiling,
    export: Annotated[Path | None, typer.Option("--export", help="Also write the profile as JSON lines.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure a network's kernels over their widths on a device.

    What was measured before is kept, so an interrupted profile goes on where it stopped.
    """
    from edgeprune.compiler.compile import read_network
    from edgeprune.profiling.profile import profile as run

    loaded = loading.record(model).load()
    network = read_network(loaded.module, loaded.example_inputs)
    kind, board = where.open()
    with profiling.open() as opened, progress(quiet) as bar:
        info = board.describe()
        result = run(
            network.kernels,
            network.channels,
            kind,
            board,
            opened,
            profiling.options(),
            info=info,
            allow_mismatch=profiling.allow_mismatch,
            progress=bar,
        )
        if export is not None:
            opened.export_jsonl(result.profile, export)
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
