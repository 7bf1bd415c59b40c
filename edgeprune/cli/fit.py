"""``edgeprune fit``: the whole chain."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer

from edgeprune.cli.groups import Examples, Loading, Profiling, Promised, Where, grouped
from edgeprune.cli.options import CriterionOption, SolverOption, store_path
from edgeprune.cli.output import JsonOption, QuietOption, Result, emit
from edgeprune.cli.progress import progress
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
    from edgeprune.fitting.fit import fit as run
    from edgeprune.fitting.options import FitOptions
    from edgeprune.fitting.request import sign
    from edgeprune.fitting.run_folder import absolute

    call: dict[str, Any] = {
        "model": model,
        **asdict(loading),
        **asdict(where),
        **asdict(promised),
        **asdict(examples),
        **asdict(profiling),
        "options": {
            "solver": solver,
            "criterion": criterion,
            "epochs": epochs,
            "lr": learning_rate,
            **({} if margin is None else {"margin": margin}),
        },
    }
    free = {"rounds": rounds, "fill": fill, "patience_s": patience, "tighter": tighter, "baseline": baseline}
    given = {name: value for name, value in free.items() if value is not None}
    if resume is not None:
        call, out = _as_begun(resume, model, out), resume
        loading, where, promised = _group(Loading, call), _group(Where, call), _group(Promised, call)
        examples, profiling = _group(Examples, call), _group(Profiling, call)
    if out is None or not call["model"]:
        raise UsageError("a MODEL and an --out are needed", hint="or a run to go on with: edgeprune fit --resume RUN")
    promise = promised.promise()
    call["options"] |= given
    options = FitOptions(
        **call["options"],
        seed=loading.seed,
        allow_mismatch=profiling.allow_mismatch,
        profile=profiling.options(),
    )
    record = loading.record(call["model"])
    # Absolute, so that the run can be gone on with from any folder.
    call |= {"model": record.model, "weights": record.weights, "data": absolute(examples.data)}
    call["store"] = str(store_path(profiling.store).resolve())
    loaded = record.load()
    data = examples.load(loading.seed)
    kind, board = where.open()
    with profiling.open() as opened, progress(quiet) as bar:
        result = run(
            loaded,
            kind,
            board,
            opened,
            out,
            promise,
            data=data,
            options=options,
            record=record,
            resume=resume is not None,
            began=lambda: sign(out, call),
            progress=bar,
        )
    emit(_shown(result, out), as_json)


G = TypeVar("G")


def _group(kind: type[G], call: Mapping[str, Any]) -> G:
    return kind(**{f.name: call[f.name] for f in fields(cast(Any, kind))})


def _as_begun(run: Path, model: str, out: Path | None) -> dict[str, Any]:
    """How the run was called."""
    from edgeprune.fitting.request import signed

    if out is not None:
        raise UsageError("--resume goes on in the folder of the run", hint="leave --out away")
    call, own = signed(run)
    if model and model != call["model"]:
        raise UsageError(f"the run in {run} is of {call['model']}, not of {model}", hint="leave MODEL away")
    if not own:
        # It holds programs that would be run on the device, and may name code that would be run here.
        raise UsageError(
            f"{run} was not begun by you on this computer",
            hint="if you trust it, begin a run of your own with the same options",
        )
    return call


def _shown(result: Any, out: Path) -> Result:
    from edgeprune.report.from_fit import report_of
    from edgeprune.report.tables import report_tables
    from edgeprune.report.write import write_report

    report = report_of(result, command=("edgeprune", *map(shlex.quote, sys.argv[1:])))
    json_path, html_path = write_report(report, out)
    body = {
        "met": result.met,
        "budget_ms": result.budget.latency_ms,
        "measured_ms": result.pruned.latency_ms,
        "verdicts": [v.to_json() for v in result.verdicts],
        "report": report.to_json(),
        "paths": {**result.paths, "report_json": json_path, "report_html": html_path},
    }
    return Result("edgeprune.fit/2", body, report_tables(report))
