"""``edgeprune profile``: latency tables of a network's kernels on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune.cli.options import BOARDS, LOADING, PROFILING, ModelArgument, option, taking
from edgeprune.cli.output import JsonOption, QuietOption, emit, record

app = typer.Typer(rich_markup_mode=None)


@app.command()
@taking(
    *LOADING,
    "target",
    BOARDS,
    "fleet",
    *PROFILING,
    "sampled",
    "build_on",
    option("budget", str | None, None, "Sample, and stop after this time: 3m, 90s."),
)
def profile(
    model: ModelArgument,
    export: Annotated[Path | None, typer.Option("--export", help="Also write the profile as JSON lines.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **given: Any,
) -> None:
    """Measure a network's kernels over their widths on a device, or on several of one kind.

    What was measured before is kept, so an interrupted profile goes on where it stopped.
    """
    from edgeprune.api.profiles import profile as run

    done = run(model, **given, progress=not quiet)
    if export is not None:
        done.export(export)
    emit(record("edgeprune.profile/1", {**done.to_json(), "export": export}), as_json)
