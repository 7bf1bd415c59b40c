"""``edgeprune prune``: a plan from a stored profile, and the smaller network, without a board at hand."""

from __future__ import annotations

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
    WeightsOption,
    parse_shape,
    store_path,
    target_and_device,
)
from edgeprune.cli.output import Column, JsonOption, QuietOption, emit, listing
from edgeprune.cli.progress import progress

app = typer.Typer(rich_markup_mode=None)


@app.command()
def prune(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("--out", help="The run folder: plan and weights.")],
    target: TargetOption = "host",
    device: DeviceOption = None,
    latency: LatencyOption = None,
    flash: FlashOption = None,
    data: DataOption = None,
    weights: WeightsOption = None,
    input_shape: ShapeOption = None,
    solver: SolverOption = "knapsack",
    criterion: CriterionOption = "l2",
    threads: ThreadsOption = 1,
    points: PointsOption = 8,
    step: StepOption = None,
    blocks: BlocksOption = False,
    store: StoreOption = None,
    seed: SeedOption = 0,
    allow_mismatch: MismatchOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Choose widths inside a budget from a stored profile; write the smaller network.

    Nothing is measured and nothing is fine-tuned: plan and remaining weights go to --out.
    """
    from edgeprune.budget.promise import parse_bytes, parse_latency
    from edgeprune.fitting.plan_only import PlanRequest, plan_only
    from edgeprune.fitting.run_folder import RunRecord
    from edgeprune.latency.store import ProfileStore
    from edgeprune.profiling.profile import ProfileOptions
    from edgeprune.training.data import load_data

    request = PlanRequest(
        latency=None if latency is None else parse_latency(latency),
        flash=None if flash is None else parse_bytes(flash),
        solver=solver,
        criterion=criterion,
        seed=seed,
        allow_mismatch=allow_mismatch,
        profile=ProfileOptions(threads=threads, points=points, step=step, blocks=blocks),
    )
    record = RunRecord.of(model, weights, parse_shape(input_shape), seed)
    examples = None if data is None else load_data(data, seed)
    kind, board = target_and_device(target, device)
    with ProfileStore(store_path(store)) as opened, progress(quiet) as bar:
        made = plan_only(record, kind, board, opened, out, request, data=examples, progress=bar)
    rows = [{"group": g, "size": n, "kept": made.plan.width(g)} for g, n in made.plan.sizes.items()]
    columns = [Column("group"), Column("size"), Column("kept")]
    said = {"removed_blocks": made.removed_blocks, "predicted": dict(made.plan.predicted), "paths": dict(made.paths)}
    emit(listing("edgeprune.prune/1", "groups", rows, columns, **said), as_json)
