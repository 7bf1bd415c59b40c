"""``edgeprune frontier``: the whole curve of saliency against ms, flash or RAM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune.cli.options import LEARNING, LOADING, PROFILING, SHARED, WHERE, taking
from edgeprune.cli.output import JsonOption, QuietOption, Result, emit
from edgeprune.errors import UsageError

app = typer.Typer(rich_markup_mode=None)

SCHEMA = "edgeprune.frontier/1"
_OF_A_MODEL = (*LOADING, *WHERE, *LEARNING, *PROFILING, "criterion", "objective")
_CRITERION = "l2"


@app.command()
@taking("gap", *_OF_A_MODEL, criterion=_CRITERION)
def frontier(
    model: Annotated[str, typer.Argument(help="A model, as for edgeprune prune; or PROBLEM.json, as for solve.")],
    against: Annotated[
        list[str] | None, typer.Option("--against", help="latency (default), flash or ram; give two for a pair.")
    ] = None,
    count: Annotated[int, typer.Option("--count", help="Limits that are tried.", min=2)] = 24,
    solver: Annotated[
        str, typer.Option("--solver", help="lagrangian, exact, knapsack, greedy, uniform or brute_force.")
    ] = "lagrangian",
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", help="Seconds until the curve so far is taken.", min=0.0)
    ] = None,
    run: Annotated[
        list[Path] | None, typer.Option("--run", help="A folder of edgeprune fit, marked with what it measured.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="A file for the result, as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="A picture to draw: FILE.svg, .png or .pdf.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **given: Any,
) -> None:
    """Show what any budget would retain: plans from the smallest to the widest, each with its gap.

    From a stored profile, or a problem in a file; nothing is measured. Every certificate is checked. Ctrl-C takes the
    curve so far.
    """
    from edgeprune.api.frontiers import frontier as of_model
    from edgeprune.api.frontiers import frontier_of
    from edgeprune.files import require_writable, write_whole
    from edgeprune.report.plots.canvas import require_picture, save_picture

    for path in filter(None, (out, plot)):
        require_writable(path)
    if plot is not None:
        require_picture(plot)
    asked: dict[str, Any] = {
        "against": against or "latency",
        "count": count,
        "solver": solver,
        "time_limit_s": time_limit,
        "gap": given.pop("gap"),
        "runs": run or (),
        "progress": not quiet,
    }
    if model.endswith(".json"):
        _refuse_options(given)
        done = frontier_of(model, **asked)
    else:
        done = of_model(model, **asked, **given)
    body = done.to_json()
    if out is not None:
        write_whole(out, json.dumps({"schema": SCHEMA, **body}, indent=2, allow_nan=False) + "\n")
    if plot is not None:
        save_picture(done.plot(), plot)
    emit(Result(SCHEMA, body, done.tables()), as_json)


def _refuse_options(given: dict[str, Any]) -> None:
    """Raises UsageError for options that speak of a model where a problem has none."""
    usual = {name: SHARED[name].default for name in _OF_A_MODEL} | {"criterion": _CRITERION}
    if strange := [name for name, value in given.items() if value != usual[name]]:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in strange)
        raise UsageError(f"a problem in a file knows nothing of {flags}", hint="leave them away, or name a model")
