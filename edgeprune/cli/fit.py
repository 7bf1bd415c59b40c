"""``edgeprune fit``: the whole chain."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune.cli.options import BOARDS, LEARNING, LOADING, PROFILING, PROMISED, ModelArgument, option, taking
from edgeprune.cli.output import JsonOption, QuietOption, Result, emit
from edgeprune.errors import UsageError
from edgeprune.training.sparse.schedule import SCHEDULES

app = typer.Typer(rich_markup_mode=None)


@app.command()
@taking(
    *LOADING,
    "target",
    BOARDS,
    "fleet",
    *PROMISED,
    *LEARNING,
    *PROFILING,
    "sampled",
    "build_on",
    "image_input",
    "weight_storage",
    "solver",
    "criterion",
    "objective",
    "rule",
    "sparsity",
    option("passes", int, 1, "Steps in which the budget is approached: each scores, prunes and recovers.", min=1),
    option("schedule", str, "cubic", f"How large these steps are: {', '.join(SCHEDULES)}."),
    "recover",
    option("epochs", int, 3, "Epochs of fine-tuning.", min=0),
    option("batch_size", int, 64, "Samples of one step of fine-tuning.", min=1),
    option("lr", float, 0.02, "Peak learning rate of fine-tuning."),
    option("early_stop", int | None, None, "Epochs without a better figure after which training ends.", min=1),
    option("validation", float, 0.1, "Share of the training half held out for --early-stop."),
    option("precision", str, "float32", "Of training: float32, or bf16 where the processor multiplies it."),
    option("margin", float | None, None, "Part of the latency kept free; as the device's noise asks for."),
    # Those that may change when a run goes on: what is not given stays as it was.
    option(
        "time_limit_s", float | None, None, "Seconds until a solver's best plan is taken; 10.", "--time-limit", min=0.0
    ),
    option("gap", float | None, None, "Relative gap between plan and bound at which exact stops; 0.0001.", min=0.0),
    option("rounds", int | None, None, "Most passes of solve and measure; 8.", min=1),
    option("fill", float | None, None, "Part of a limit that a plan should use; 0.97."),
    option("patience_s", float | None, None, "Most seconds that a verdict is measured for; 60.", "--patience", min=0.1),
    option("tighter", int | None, None, "Smaller networks tried if it is over its budget; 3.", min=0),
    option("baseline", bool | None, None, "Also make the uniform-width network; yes.", "--baseline/--no-baseline"),
)
def fit(
    model: ModelArgument = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="The run folder: stages, plan, weights, bundle, report.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="Go on with the run in this folder, as it was begun; nothing else.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **given: Any,
) -> None:
    """Profile, prune to a budget, fine-tune, compile, flash and prove: the whole chain.

    Every finished stage is kept in --out; fit --resume RUN goes on from there after whatever interrupted it.
    Exits with 4, and leaves nothing, if it is proven that MODEL cannot reach the budget.
    """
    from edgeprune.api import runs
    from edgeprune.fitting.request import FREE

    free = {name: value for name in FREE if (value := given.pop(name)) is not None}
    told: dict[str, Any] = {"progress": not quiet, "command": ("edgeprune", *map(shlex.quote, sys.argv[1:]))}
    if resume is not None:
        if out is not None:
            raise UsageError("--resume goes on in the folder of the run", hint="leave --out away")
        done = runs.Run(resume).resume(model or None, **free, **told)
    elif out is None or not model:
        raise UsageError("a MODEL and an --out are needed", hint="or a run to go on with: edgeprune fit --resume RUN")
    else:
        done = runs.fit(model, out=out, **given, **free, **told)
    emit(Result("edgeprune.fit/2", done.to_json(), done.tables()), as_json)
