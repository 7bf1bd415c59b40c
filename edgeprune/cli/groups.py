"""Option groups: a noun's options as one dataclass, so that a command names the noun and not each option again.

``@grouped`` puts the fields of every parameter that is such a class into the command line, and hands the command the
filled classes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from edgeprune.cli.options import (
    BlocksOption,
    DataOption,
    DeviceOption,
    FlashOption,
    LatencyOption,
    MismatchOption,
    PointsOption,
    SeedOption,
    ShapeOption,
    StatisticOption,
    StepOption,
    StoreOption,
    TargetOption,
    ThreadsOption,
    TuneOption,
    WeightsOption,
)


@dataclass(frozen=True, slots=True)
class Loading:
    """How a model is loaded, and what it is trained on."""

    weights: WeightsOption = None
    input_shape: ShapeOption = None
    seed: SeedOption = 0


@dataclass(frozen=True, slots=True)
class Where:
    """The target and the device."""

    target: TargetOption = "host"
    device: DeviceOption = None


@dataclass(frozen=True, slots=True)
class Profiling:
    """What is profiled, and where that is kept."""

    threads: ThreadsOption = 1
    points: PointsOption = 8
    step: StepOption = None
    blocks: BlocksOption = False
    tune: TuneOption = 8
    store: StoreOption = None
    allow_mismatch: MismatchOption = False


@dataclass(frozen=True, slots=True)
class Promised:
    """The budget."""

    latency: LatencyOption = None
    flash: FlashOption = None
    statistic: StatisticOption = "median"


@dataclass(frozen=True, slots=True)
class Examples:
    """The data set."""

    data: DataOption = None


def options(*groups: Any) -> dict[str, Any]:
    """The options of filled groups, as arguments of the functions of :mod:`edgeprune.api`."""
    return {f.name: getattr(group, f.name) for group in groups for f in fields(group)}


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters that are option groups are spelt out for the parser."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {}
    spelt: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if not (isinstance(kind, type) and is_dataclass(kind)):
            spelt.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[name] = kind
        types = get_type_hints(kind, include_extras=True)
        for option in fields(kind):
            default = inspect.Parameter.empty if option.default is MISSING else option.default
            spelt.append(
                inspect.Parameter(
                    option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=types[option.name]
                )
            )

    @functools.wraps(command)
    def run(**given: Any) -> None:
        filled = {n: kind(**{f.name: given.pop(f.name) for f in fields(kind)}) for n, kind in groups.items()}
        command(**given, **filled)

    # What typer reads in place of the function's own.
    run.__signature__ = inspect.Signature(spelt)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in spelt}
    del run.__wrapped__
    return run


OutOption = Annotated[Path, typer.Option("--out", help="The run folder: stages, plan, weights, bundle, report.")]
