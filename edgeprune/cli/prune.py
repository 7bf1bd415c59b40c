"""``edgeprune prune``: a plan from a stored profile, and the smaller network, without a board at hand."""

from __future__ import annotations

import typer

from edgeprune.cli.groups import Examples, Loading, OutOption, Profiling, Promised, Where, grouped, options
from edgeprune.cli.options import CriterionOption, ModelArgument, SolverOption
from edgeprune.cli.output import JsonOption, QuietOption, Result, emit

app = typer.Typer(rich_markup_mode=None)


@app.command()
@grouped
def prune(
    model: ModelArgument,
    out: OutOption,
    loading: Loading,
    where: Where,
    promised: Promised,
    examples: Examples,
    profiling: Profiling,
    solver: SolverOption = "knapsack",
    criterion: CriterionOption = "l2",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Choose widths inside a budget from a stored profile; write the smaller network.

    Nothing is measured and nothing is fine-tuned: plan and remaining weights go to --out.
    """
    from edgeprune.api.networks import prune as run

    given = options(loading, where, promised, examples, profiling)
    done = run(model, out=out, **given, solver=solver, criterion=criterion, progress=not quiet)
    emit(Result("edgeprune.prune/1", done.to_json(), done.tables()), as_json)
