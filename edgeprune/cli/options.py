"""Options that commands share, so that they read the same everywhere; each is named after the argument that it fills.

``@taking("weights", "seed")`` puts two of them into a command's line, and the command hands their values on to a
function of :mod:`edgeprune.api` as ``**given``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune.devices.trust import accepting_new_host_keys
from edgeprune.fitting.recoveries import RECOVERIES, WHOLE
from edgeprune.importance.registry import CRITERIA, RULES
from edgeprune.training.sparse.registry import SPARSITIES
from edgeprune.training.tasks.registry import TASKS

ModelArgument = Annotated[
    str, typer.Argument(help="zoo:NAME, package.module:factory, FILE.py:factory, FILE.pt2 or FILE.onnx.")
]
DeviceUrl = Annotated[str, typer.Option("--device", help="URL of the board; local: is this computer.")]
StoreOption = Annotated[
    Path | None, typer.Option("--store", help="Profile store; $EDGEPRUNE_HOME/profiles.sqlite3 by default.")
]
FactoryOption = Annotated[
    str | None, typer.Option("--factory", help="The code a run was made from, if it was: FILE.py:factory.")
]


def option(name: str, kind: Any, default: Any, about: str, *flags: str, **limits: Any) -> inspect.Parameter:
    """An option that fills the argument ``name``; ``--name`` with dashes if no flags are given."""
    flags = flags or (f"--{name.replace('_', '-')}",)
    annotation = Annotated[kind, typer.Option(*flags, help=about, **limits)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


_SHARED = (
    option("weights", str | None, None, "A safetensors file; pickled checkpoints are refused."),
    option("input_shape", str | None, None, "1x3x224x224, or by name: images=1x3x320x320,length=1."),
    option("example", Path | None, None, "FILE.npz of example inputs, by name or in order."),
    option("seed", int, 0, "Seed of everything that is random."),
    option("target", str, "host", "A kind of board (edgeprune targets); host, host_gpu: this computer."),
    option("device", str | None, None, "URL of the board, local: for this computer; the target's by default."),
    option("fleet", bool, False, "Of several boards the slowest counts: what is promised holds on each.", "--fleet"),
    option("latency", str | None, None, "Latency budget: 12ms, 800us, or 50% of the dense network's."),
    option("flash", str | None, None, "Budget of the program's size: 2MB, 512KiB, or 50% of the dense one's."),
    option("ram", str | None, None, "Budget of the RAM that it allocates: 512KiB, or 50% of the dense program's."),
    option("statistic", str, "median", "What --latency speaks of: median; for hard deadlines p90, p99 or max."),
    option("data", str | None, None, "A folder of images, FILE.npz, data.yaml or FILE.py:factory (docs/DATA.md)."),
    option("task", str | None, None, f"{', '.join(TASKS)}, or FILE.py:factory (docs/TASKS.md)."),
    option("pixels", str | None, None, "How images of a folder are read: imagenet,crop or unit,letterbox, say."),
    option("threads", int, 1, "Threads the network runs on.", min=1),
    option("points", int, 8, "Most widths each group is offered.", min=1),
    option(
        "step", int | None, None, "Smallest step between widths; half a vector register (GPU: 4) by default.", min=1
    ),
    option(
        "blocks", bool, False, "Residual blocks and branches may go whole (docs/BLOCKS.md).", "--blocks/--no-blocks"
    ),
    option("densities", str | None, None, "Blocks of weights that may stay of a layer, in per cent: 25,50."),
    option("tune", int, 8, "Schedules tried for each kernel; 1 is quick.", min=1),
    option("sampled", bool | None, None, "Only what plans hang on, or all widths.", "--sampled/--exhaustive"),
    option("build_on", str | None, None, "Build kernels on a Dask cluster: tcp://SCHEDULER:8786. Here by default."),
    inspect.Parameter("store", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=StoreOption),
    option("allow_mismatch", bool, False, "Use a profile of another device or version, as it is.", "--allow-mismatch"),
    option("solver", str, "exact", "exact, lagrangian, knapsack, greedy, uniform or brute_force (docs/SOLVERS.md)."),
    option(
        "time_limit_s",
        float,
        10.0,
        "Seconds until the solver's best plan so far is taken.",
        "--time-limit",
        min=0.0,
    ),
    option("gap", float, 1e-4, "Relative gap between plan and bound at which exact stops.", min=0.0),
    option(
        "image_input",
        str | None,
        None,
        "Take camera frames, uint8: rgb, bgr:imagenet, bgr:mean=M:std=S (docs/TYPES.md).",
    ),
    option("weight_storage", str, "auto", "Weights in the program: auto, dense, or compressed (docs/STORAGE.md)."),
    option("criterion", str, "taylor", f"What channels are worth: {', '.join(CRITERIA)}."),
    option("rule", str | None, None, f"What goes by scores alone: {', '.join(RULES)}; a budget may take more."),
    option("sparsity", str | None, None, f"What becomes 0, joined by +: {', '.join(SPARSITIES)} (docs/METHODS.md)."),
    option("recover", str, WHOLE, f"What wins accuracy back, joined by +: {', '.join(RECOVERIES)}; or none."),
    option("objective", str, "importance", "What a plan retains: importance (summed), or loss (measured on --data)."),
)
_TRUST = option("accept_new_host_key", bool, False, "Trust an SSH board that is not known yet (docs/SSH.md).")
SHARED = {shared.name: shared for shared in _SHARED}
BOARDS = option(
    "device",
    list[str] | None,
    None,
    "URL of the board, local: for this computer; the target's by default. Several of one kind share the work.",
)

LEARNING = ("data", "task", "pixels")
LOADING = ("weights", "input_shape", "example", "seed")
WHERE = ("target", "device")
PROMISED = ("latency", "flash", "ram", "statistic")
PROFILING = ("threads", "points", "step", "blocks", "densities", "tune", "store", "allow_mismatch")

_LAST = ("as_json", "quiet")

Command = Callable[..., None]


def taking(*wanted: str | inspect.Parameter, **defaults: Any) -> Callable[[Command], Command]:
    """A command whose ``**given`` are these options: shared ones by name, its own as :func:`option` makes them.

    A command with a ``--device`` also gets ``--accept-new-host-key``, which holds while it runs.

    Args:
        defaults: those that differ from the shared ones.
    """
    given = [SHARED[w] if isinstance(w, str) else w for w in wanted]
    given = [g.replace(default=defaults.get(g.name, g.default)) for g in given]

    def spelt(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True).parameters.values()
        named = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own if p.kind is not p.VAR_KEYWORD]
        first, last = ([p for p in named if (p.name in _LAST) is late] for late in (False, True))
        trust = [_TRUST] if any(p.name == "device" for p in (*first, *given)) else []
        # What typer reads in place of the function's own.
        signature = inspect.Signature([*first, *given, *trust, *last])

        @functools.wraps(command)
        def run(**values: Any) -> None:
            with accepting_new_host_keys(values.pop(_TRUST.name, False)):
                command(**values)

        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {name: p.annotation for name, p in signature.parameters.items()}
        return run

    return spelt
