"""``edgeprune fit``: the whole chain."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.options import (
    BlocksOption,
    CriterionOption,
    DataOption,
    DeviceOption,
    FlashOption,
    LatencyOption,
    MismatchOption,
    ModelArgument,
    PointsOption,
    SeedOption,
    ShapeOption,
    SolverOption,
    StepOption,
    StoreOption,
    TargetOption,
    ThreadsOption,
    TuneOption,
    WeightsOption,
    parse_shape,
    store_path,
    target_and_device,
)
from edgeprune.cli.output import JsonOption, QuietOption, Result, emit
from edgeprune.cli.progress import progress

app = typer.Typer(rich_markup_mode=None)


@app.command()
def fit(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("--out", help="The run folder: bundle, plan, weights, report.")],
    target: TargetOption = "host",
    device: DeviceOption = None,
    latency: LatencyOption = None,
    flash: FlashOption = None,
    data: DataOption = None,
    weights: WeightsOption = None,
    input_shape: ShapeOption = None,
    solver: SolverOption = "knapsack",
    criterion: CriterionOption = "taylor",
    epochs: Annotated[int, typer.Option("--epochs", min=0, help="Epochs of fine-tuning.")] = 3,
    learning_rate: Annotated[float, typer.Option("--lr", help="Peak learning rate of fine-tuning.")] = 0.02,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Most passes of solve and measure.")] = 3,
    baseline: Annotated[
        bool, typer.Option("--baseline/--no-baseline", help="Also make the uniform-width network, for the report.")
    ] = True,
    threads: ThreadsOption = 1,
    points: PointsOption = 8,
    step: StepOption = None,
    blocks: BlocksOption = False,
    tune: TuneOption = 8,
    store: StoreOption = None,
    seed: SeedOption = 0,
    allow_mismatch: MismatchOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Profile, prune to a budget, fine-tune, compile, flash and prove: the whole chain.

    Exits with 4, and writes nothing, if MODEL cannot reach the budget.
    """
    from edgeprune.budget.promise import parse_bytes, parse_latency
    from edgeprune.fitting.chain import fit as run
    from edgeprune.fitting.job import FitOptions
    from edgeprune.fitting.run_folder import RunRecord
    from edgeprune.latency.store import ProfileStore
    from edgeprune.profiling.profile import ProfileOptions
    from edgeprune.report.from_fit import report_of
    from edgeprune.report.tables import report_tables
    from edgeprune.report.write import write_report
    from edgeprune.training.data import load_data

    latency_limit = None if latency is None else parse_latency(latency)
    flash_limit = None if flash is None else parse_bytes(flash)
    options = FitOptions(
        solver=solver,
        criterion=criterion,
        rounds=rounds,
        epochs=epochs,
        lr=learning_rate,
        seed=seed,
        baseline=baseline,
        allow_mismatch=allow_mismatch,
        profile=ProfileOptions(threads=threads, points=points, step=step, tune=tune, blocks=blocks),
    )
    record = RunRecord.of(model, weights, parse_shape(input_shape), seed)
    loaded = record.load()
    examples = None if data is None else load_data(data, seed)
    kind, board = target_and_device(target, device)
    with ProfileStore(store_path(store)) as opened, progress(quiet) as bar:
        result = run(
            loaded,
            kind,
            board,
            opened,
            out,
            latency=latency_limit,
            flash_limit=flash_limit,
            data=examples,
            options=options,
            record=record,
            progress=bar,
        )
    report = report_of(result, command=("edgeprune", *map(shlex.quote, sys.argv[1:])))
    json_path, html_path = write_report(report, out)
    body = {
        "met": result.met,
        "budget_ms": result.budget.latency_ms,
        "measured_ms": result.pruned.bench.median_ms,
        "report": report.to_json(),
        "paths": {**result.paths, "report_json": json_path, "report_html": html_path},
    }
    emit(Result("edgeprune.fit/1", body, report_tables(report)), as_json)
