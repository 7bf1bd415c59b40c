"""``edgeprune fit``: the whole chain."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune.cli.groups import Examples, Loading, Profiling, Promised, Where, grouped, options
from edgeprune.cli.options import CriterionOption, SolverOption
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
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="Most passes of solve and measure; 6.")] = None,
    margin: Annotated[
        float | None, typer.Option("--margin", help="Part of the latency kept free; as the device's noise asks for.")
    ] = None,
    fill: Annotated[float | None, typer.Option("--fill", help="Part of a limit that a plan should use; 0.96.")] = None,
    patience: Annotated[
        float | None, typer.Option("--patience", min=0.1, help="Most seconds that a verdict is measured for; 60.")
    ] = None,
    tighter: Annotated[
        int | None, typer.Option("--tighter", min=0, help="Smaller networks tried if it is over its budget; 2.")
    ] = None,
    baseline: Annotated[
        bool | None, typer.Option("--baseline/--no-baseline", help="Also make the uniform-width network; yes.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Profile, prune to a budget, fine-tune, compile, flash and prove: the whole chain.

    Every finished stage is kept in --out; fit --resume RUN goes on from there after whatever interrupted it.
    Exits with 4, and leaves nothing, if MODEL cannot reach the budget.
    """
    from edgeprune.api.runs import Run
    from edgeprune.api.runs import fit as run

    free = {"rounds": rounds, "fill": fill, "patience_s": patience, "tighter": tighter, "baseline": baseline}
    given: dict[str, Any] = {name: value for name, value in free.items() if value is not None}
    command = ("edgeprune", *map(shlex.quote, sys.argv[1:]))
    if resume is not None:
        if out is not None:
            raise UsageError("--resume goes on in the folder of the run", hint="leave --out away")
        done = Run(resume).resume(model or None, **given, progress=not quiet, command=command)
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
            margin=margin,
            **given,
            command=command,
            progress=not quiet,
        )
    emit(Result("edgeprune.fit/2", done.to_json(), done.tables()), as_json)
