"""``edgeprune fit``: the whole chain."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.groups import Examples, Loading, Profiling, Promised, Where, grouped, options
from edgeprune.cli.options import CriterionOption, PatienceOption, SolverOption
from edgeprune.cli.output import JsonOption, QuietOption, Result, emit
from edgeprune.errors import UsageError

app = typer.Typer(rich_markup_mode=None)


@app.command()
@grouped
def fit(
    loading: Loading,
    where: Where,
    promised: Promised,
    examples: Examples,
    profiling: Profiling,
    model: Annotated[
        str, typer.Argument(help="zoo:NAME, package.module:factory, FILE.py:factory, FILE.pt2 or FILE.onnx.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="The run folder: stages, plan, weights, bundle, report.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="Go on with the run in this folder, as it was begun; nothing else.")
    ] = None,
    solver: SolverOption = "knapsack",
    criterion: CriterionOption = "taylor",
    epochs: Annotated[int, typer.Option("--epochs", min=0, help="Epochs of fine-tuning.")] = 3,
    learning_rate: Annotated[float, typer.Option("--lr", help="Peak learning rate of fine-tuning.")] = 0.02,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Most passes of solve and measure.")] = 6,
    patience: PatienceOption = 60.0,
    baseline: Annotated[
        bool, typer.Option("--baseline/--no-baseline", help="Also make the uniform-width network, for the report.")
    ] = True,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Profile, prune to a budget, fine-tune, compile, flash and prove: the whole chain.

    Every finished stage is kept in --out; fit --resume RUN goes on from there after whatever interrupted it.
    Exits with 4, and leaves nothing, if MODEL cannot reach the budget.
    """
    from edgeprune.api.runs import Run
    from edgeprune.api.runs import fit as run

    command = ("edgeprune", *map(shlex.quote, sys.argv[1:]))
    if resume is not None:
        if out is not None:
            raise UsageError("--resume goes on in the folder of the run", hint="leave --out away")
        done = Run(resume).resume(model or None, progress=not quiet, command=command)
    elif out is None or not model:
        raise UsageError("a MODEL and an --out are needed", hint="or a run to go on with: edgeprune fit --resume RUN")
    else:
        done = run(
            model,
            out=out,
            **options(loading, where, promised, examples, profiling),
            solver=solver,
            criterion=criterion,
            epochs=epochs,
            lr=learning_rate,
            rounds=rounds,
            patience_s=patience,
            baseline=baseline,
            command=command,
            progress=not quiet,
        )
    emit(Result("edgeprune.fit/2", done.to_json(), done.tables()), as_json)
