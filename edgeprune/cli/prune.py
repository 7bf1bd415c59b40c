"""``edgeprune prune``: a plan from a stored profile, and the smaller network, without a board at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune.cli.options import LEARNING, LOADING, PROFILING, PROMISED, WHERE, ModelArgument, taking
from edgeprune.cli.output import JsonOption, QuietOption, Result, emit

app = typer.Typer(rich_markup_mode=None)


@app.command()
@taking(
    *LOADING,
    *WHERE,
    *PROMISED,
    *LEARNING,
    *PROFILING,
    "solver",
    "time_limit_s",
    "gap",
    "criterion",
    "objective",
    "rule",
    "sparsity",
    "recover",
    criterion="l2",
    recover="none",
)
def prune(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("--out", help="The run folder to write: plan, weights.")],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **given: Any,
) -> None:
    """Choose widths inside a budget from a stored profile; write the smaller network.

    Nothing is measured and nothing is fine-tuned: plan and remaining weights go to --out. With --data and
    --recover reconstruct these weights are re-solved, which needs no labels.
    """
    from edgeprune.api.pruning import prune as run

    done = run(model, out=out, **given, progress=not quiet)
    emit(Result("edgeprune.prune/1", done.to_json(), done.tables()), as_json)
