"""``edgeprune prune``: a plan from a stored profile, and the smaller network, without a board at hand."""

from __future__ import annotations

import typer

from edgeprune.cli.groups import Examples, Loading, OutOption, Profiling, Promised, Where, grouped
from edgeprune.cli.options import CriterionOption, ModelArgument, SolverOption
from edgeprune.cli.output import Column, JsonOption, QuietOption, emit, listing
from edgeprune.cli.progress import progress

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
    from edgeprune.fitting.plan_only import PlanRequest, plan_only

    request = PlanRequest(
        promised.promise(), solver, criterion, loading.seed, profiling.allow_mismatch, profiling.options()
    )
    data = examples.load(loading.seed)
    kind, board = where.open()
    with profiling.open() as opened, progress(quiet) as bar:
        made = plan_only(loading.record(model), kind, board, opened, out, request, data=data, progress=bar)
    rows = [{"group": g, "size": n, "kept": made.plan.width(g)} for g, n in made.plan.sizes.items()]
    columns = [Column("group"), Column("size"), Column("kept")]
    said = {
        "removed_blocks": made.removed_blocks,
        "not_offered": {g: {str(w): why for w, why in found.items()} for g, found in made.dropped.items()},
        "predicted": dict(made.plan.predicted),
        "paths": dict(made.paths),
    }
    emit(listing("edgeprune.prune/1", "groups", rows, columns, **said), as_json)
