"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

ModelArgument = Annotated[
    str, typer.Argument(help="zoo:NAME, package.module:factory, FILE.py:factory, FILE.pt2 or FILE.onnx.")
]
WeightsOption = Annotated[
    str | None, typer.Option("--weights", help="A safetensors file; pickled checkpoints are refused.")
]
ShapeOption = Annotated[str | None, typer.Option("--input-shape", help="For example 1x3x224x224.")]
TargetOption = Annotated[
    str, typer.Option("--target", help="A kind of board (edgeprune targets); host, host_gpu: this computer.")
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="URL of the board, local: for this computer; the target's by default."),
]
DeviceUrl = Annotated[str, typer.Option("--device", help="URL of the board; local: is this computer.")]
StoreOption = Annotated[
    Path | None, typer.Option("--store", help="Profile store; $EDGEPRUNE_HOME/profiles.sqlite3 by default.")
]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, help="Threads the network runs on.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of everything that is random.")]
PointsOption = Annotated[int, typer.Option("--points", min=1, help="Most widths each group is offered.")]
StepOption = Annotated[
    int | None,
    typer.Option("--step", min=1, help="Smallest step between widths; half a vector register (GPU: 4) by default."),
]
TuneOption = Annotated[int, typer.Option("--tune", min=1, help="Schedules tried for each kernel; 1 is quick.")]
BlocksOption = Annotated[
    bool,
    typer.Option("--blocks/--no-blocks", help="Whole residual blocks and branches may go, too (docs/BLOCKS.md)."),
]
MismatchOption = Annotated[
    bool, typer.Option("--allow-mismatch", help="Use a profile of another device or version, as it is.")
]
LatencyOption = Annotated[
    str | None, typer.Option("--latency", help="Latency budget: 12ms, 800us, or 50% of the dense network's.")
]
FlashOption = Annotated[
    str | None, typer.Option("--flash", help="Budget of the program's size: 2MB, 512KiB, or 50% of the dense one's.")
]
StatisticOption = Annotated[
    str,
    typer.Option("--statistic", help="What --latency speaks of: median; for hard deadlines p90, p99 or max."),
]
PatienceOption = Annotated[
    float, typer.Option("--patience", min=0.1, help="Most seconds of measuring before a latency is not decidable.")
]
DataOption = Annotated[
    str | None, typer.Option("--data", help="FILE.npz, FILE.py:factory or package.module:factory (docs/DATA.md).")
]
SolverOption = Annotated[str, typer.Option("--solver", help="knapsack, greedy, uniform or brute_force.")]
CriterionOption = Annotated[str, typer.Option("--criterion", help="l1, l2, taylor or random.")]


def accept_new_host_key() -> Any:
    """The parsed option of that name, for ``main`` to add wherever there is a ``--device``."""
    app = typer.Typer()

    @app.command()
    def command(
        accept_new_host_key: Annotated[
            bool,
            typer.Option("--accept-new-host-key", help="Trust an SSH board that is not known yet (docs/SSH.md)."),
        ] = False,
    ) -> None: ...

    (option,) = (p for p in typer.main.get_command(app).params if "--accept-new-host-key" in p.opts)
    return option
