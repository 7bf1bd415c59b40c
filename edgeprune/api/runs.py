"""fit and load_run: the whole chain from a trained network to an installed one, and the folder that keeps it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.api.arguments import (
    Data,
    Densities,
    Frames,
    Inputs,
    Model,
    Shape,
    TaskArgument,
    open_data,
    open_model,
    open_target,
    open_task,
    promised,
    ruled_alone,
)
from edgeprune.api.call import sign, signed
from edgeprune.api.fitted import Fit, tables_of
from edgeprune.api.opened import Boards, Where, boards_of
from edgeprune.api.programs import Bundle
from edgeprune.api.progress import reporting
from edgeprune.api.shown import Network, folder_of, plot_of
from edgeprune.budget.effort import USUAL
from edgeprune.budget.verdict import PATIENCE_S
from edgeprune.compiler.elsewhere import building_on
from edgeprune.compiler.manifest import MANIFEST, read_manifest
from edgeprune.compiler.storage import AUTO
from edgeprune.errors import BadInputError, UsageError
from edgeprune.fitting.fit import fit as run_fit
from edgeprune.fitting.options import FitOptions
from edgeprune.fitting.recoveries import WHOLE
from edgeprune.fitting.request import DONE, FREE
from edgeprune.fitting.run_folder import absolute
from edgeprune.fitting.run_folder import load_run as load_folder
from edgeprune.fitting.stages import FOLDER, LOG, Stages
from edgeprune.graph.network import read_network
from edgeprune.home import store_path
from edgeprune.importance.curves import IMPORTANCE
from edgeprune.latency.densities import parse_densities
from edgeprune.latency.store import ProfileStore
from edgeprune.models.image_input import ImageInput
from edgeprune.models.loading import LoadedModel
from edgeprune.profiling.profile import ProfileOptions
from edgeprune.progress import Progress
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.widths import load_plan, load_pruned
from edgeprune.report.from_fit import report_of
from edgeprune.report.schema import Report, read_report
from edgeprune.report.tables import Table, facts_table
from edgeprune.report.write import write_report
from edgeprune.targets import Target
from edgeprune.training.early_stop import VALIDATION
from edgeprune.training.precision import FLOAT32

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def fit(
    model: Model,
    *,
    target: str | Target = "host",
    device: Boards = None,
    fleet: bool = False,
    latency: str | float | None = None,
    flash: str | float | None = None,
    ram: str | float | None = None,
    statistic: str = "median",
    data: Data = None,
    task: TaskArgument = None,
    pixels: str | None = None,
    out: Where = None,
    resume: bool = False,
    example_inputs: Inputs = None,
    weights: Where = None,
    input_shape: Shape = None,
    example: Where = None,
    seed: int = 0,
    threads: int = 1,
    points: int = 8,
    step: int | None = None,
    blocks: bool = False,
    densities: Densities = None,
    tune: int = 8,
    sampled: bool | None = None,
    store: Where = None,
    build_on: str | Executor | None = None,
    allow_mismatch: bool = False,
    solver: str = "exact",
    time_limit_s: float | None = USUAL.time_limit_s,
    gap: float = USUAL.gap,
    criterion: str = "taylor",
    objective: str = IMPORTANCE,
    rule: str | None = None,
    sparsity: str | None = None,
    passes: int = 1,
    schedule: str = "cubic",
    recover: str = WHOLE,
    epochs: int = 3,
    batch_size: int = 64,
    lr: float = 0.02,
    early_stop: int | None = None,
    validation: float = VALIDATION,
    precision: str = FLOAT32,
    rounds: int = 8,
    margin: float | None = None,
    fill: float = 0.97,
    patience_s: float = PATIENCE_S,
    tighter: int = 3,
    baseline: bool = True,
    image_input: Frames = None,
    weight_storage: str = AUTO,
    command: Sequence[str] = (),
    progress: bool | Progress | None = None,
) -> Fit:
    """A trained network fitted to a budget of latency, size or RAM: profiled, pruned, trained, compiled, proved.

    Every finished stage is kept in ``out``; the same call with ``resume=True`` goes on from there after whatever
    interrupted it. Several devices of one kind share the profile; the network is fitted to the first of them, or with
    ``fleet`` to the slowest, and installed and judged on each. Arguments and results are described in docs/API.md.

    Raises:
        UsageError, ModelLoadError, BadInputError, TargetError: what was asked for makes no sense; nothing was written.
        InfeasibleBudgetError: the budget is below what can be reached; nothing of the run stays.
        VerificationError, RolledBackError, UndecidedError: no network that was measured keeps the budget.
        BusyError, DeviceError: the device failed; finished stages stay.
    """
    # Every argument by its name, before there are other names.
    call = dict(locals())
    promise, lesson = promised(latency, flash, statistic, ram, rule), open_task(task)
    named = absolute(task) if isinstance(task, str) else None if lesson is None else lesson.name
    options = FitOptions(
        solver=solver,
        criterion=criterion,
        objective=objective,
        rule=rule or "",
        sparsity=sparsity or "",
        passes=passes,
        schedule=schedule,
        recover=recover,
        rounds=rounds,
        margin=0.0 if margin is None and ruled_alone(rule, latency, flash, ram) else margin,
        fill=fill,
        patience_s=patience_s,
        tighter=tighter,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        early_stop=early_stop,
        validation=validation,
        precision=precision,
        seed=seed,
        task=named or "",
        pixels=pixels or "",
        baseline=baseline,
        time_limit_s=time_limit_s,
        gap=gap,
        allow_mismatch=allow_mismatch,
        weight_storage=weight_storage,
        profile=ProfileOptions(
            threads=threads,
            points=points,
            step=step,
            tune=tune,
            blocks=blocks,
            densities=parse_densities(densities),
            sampled=sampled,
            fleet=fleet,
        ),
    )
    options.check(has_data=data is not None)
    loaded, record = open_model(model, example_inputs, weights, input_shape, example, seed)
    image = ImageInput.parse(image_input)
    if image is not None:
        loaded = replace(loaded, interface=replace(loaded.interface, image=image))
        record = record and replace(record, image_input=str(image))
    kind = open_target(target)
    examples = open_data(data, seed, task=lesson, inputs=loaded.example_inputs, pixels=pixels)
    folder, kept = folder_of(out, loaded.name, target), store_path(store)

    def began() -> None:
        """Write down how the run was called, where text can say it: ``fit --resume`` then needs no more."""
        boards = device if isinstance(device, tuple | list) else [device]
        texts = all(isinstance(given, str | None) for given in (target, task, *boards))
        if record is None or not texts or not isinstance(data, str | Path | None):
            return
        said = {k: v for k, v in call.items() if k not in _OF_THIS_TIME}
        # Absolute, so that the run can be gone on with from any folder.
        said |= {"model": record.model, "weights": record.weights, "input_shape": record.input_shape}
        said |= {"example": record.example, "image_input": record.image_input, "task": named}
        sign(folder, {**said, "data": absolute(None if data is None else str(data)), "store": str(kept.resolve())})

    with (
        boards_of(device, kind) as boards,
        ProfileStore(kept) as opened,
        reporting(progress) as bar,
        building_on(build_on),
    ):
        result = run_fit(
            loaded,
            kind,
            boards[0],
            opened,
            folder,
            promise,
            others=boards[1:],
            data=examples,
            task=lesson,
            options=options,
            record=record,
            resume=resume,
            began=began,
            progress=bar,
        )
    report = report_of(result, command)
    json_path, html_path = write_report(report, folder)
    return Fit(result, report, {**result.paths, "report_json": json_path, "report_html": html_path})


_OF_THIS_TIME = ("out", "resume", "example_inputs", "command", "progress", "build_on")
"""Arguments that do not say what the run is."""


class Run(Network):
    """The folder of a run, finished or not: what is there is read when it is asked for."""

    def __init__(self, folder: Path, model: str | LoadedModel | None = None) -> None:
        self.folder, self._model = folder, model

    @cached_property
    def report(self) -> Report:
        """The report of the run; raises BadInputError if the run has none yet."""
        return read_report(self.folder / "report.json")

    @cached_property
    def plan(self) -> Plan:
        """The plan of the run; raises ModelLoadError if the run has none yet."""
        return load_plan(self.folder)

    @cached_property
    def loaded(self) -> LoadedModel:
        """The pruned network.

        Raises:
            UsageError: it was made by code, which is run only if it is named to :func:`load_run`.
            BadInputError, ModelLoadError: it is not there, or does not fit.
        """
        if isinstance(self._model, LoadedModel):
            given = self._model
            original = read_network(given.module, given.example_inputs)
            module = load_pruned(given.module, original.channels, self.folder)
        else:
            given, network = load_folder(self.folder, self._model)
            module = network.module
        return replace(given, module=module)

    @property
    def bundle(self) -> Bundle | None:
        """The compiled network; None if the run has none (yet)."""
        path = self.folder / "bundle"
        return Bundle(path, read_manifest(path)) if (path / MANIFEST).is_file() else None

    @property
    def stages(self) -> dict[str, float | None]:
        """Stages that are finished, in the order in which they ended, with the seconds that each took."""
        known: dict[str, float | None] = {}
        log, stages = self.folder / LOG, Stages(self.folder)
        for line in log.read_text().splitlines() if log.is_file() else ():
            said = json.loads(line)
            if said["event"] == "ended" and stages.finished(said["stage"]):
                known[said["stage"]] = said.get("seconds")
        return known

    @property
    def finished(self) -> bool:
        """Whether a fit came to its end here."""
        return Stages(self.folder).finished(DONE)

    def resume(
        self,
        model: str | None = None,
        *,
        progress: bool | Progress | None = None,
        command: Sequence[str] = (),
        **options: Any,
    ) -> Fit:
        """Resume the run with the arguments that it was begun with; ``model``, if given, has to be the run's model.

        Args:
            options: those that may change: those of ``edgeprune.fitting.request.FREE``, ``rounds`` for example.

        Raises:
            UsageError: there is nothing to go on with; it was called with objects and not by text, so that ``fit``
                has to be called with ``resume=True``; or it was not begun by this user on this computer.
            What :func:`fit` raises.
        """
        call, own = signed(self.folder)
        known = set(signature(fit).parameters) - set(_OF_THIS_TIME)
        if not {"model", "data"} <= set(call) <= known:
            raise UsageError(
                f"the run in {self.folder} was begun by another version of edgeprune",
                hint="call fit with resume=True and the arguments that it was begun with",
            )
        if model and model != call["model"]:
            raise UsageError(f"the run in {self.folder} is of {call['model']}, not of {model}", hint="leave MODEL away")
        if not own:
            # It holds programs that would be run on the device, and may name code that would be run here.
            raise UsageError(
                f"{self.folder} was not begun by you on this computer",
                hint="if you trust it, begin a run of your own with the same options",
            )
        if unknown := set(options) - set(FREE):
            raise UsageError(f"{', '.join(sorted(unknown))} cannot change", hint=f"these can: {', '.join(FREE)}")
        return fit(**{**call, **options}, out=self.folder, resume=True, progress=progress, command=command)

    @property
    def summary(self) -> str:
        return f"{self.folder}, {'finished' if self.finished else f'{len(self.stages)} stages finished'}"

    def plot(self, what: str = "milliseconds") -> Figure:
        """A plot of the report; see :func:`plot_of`."""
        return plot_of(self.report, what)

    def tables(self) -> tuple[Table, ...]:
        if (self.folder / "report.json").is_file():
            return tables_of(self.report, self.folder)
        return (facts_table(self.to_json(), self.summary),)

    def to_json(self) -> dict[str, Any]:
        return {"folder": self.folder, "finished": self.finished, "stages": self.stages}


def load_run(folder: Where, *, model: Model | None = None, example_inputs: Inputs = None) -> Run:
    """The run in a folder: report, plan, pruned module, bundle and stages of what ``fit`` or ``prune`` wrote.

    Args:
        model: for the module of a run that was made from code: the factory (``FILE.py:factory``) or the module that
            it was made from. Code is run because it is named here, never because a file in a folder does.

    Raises:
        BadInputError: the folder is not one of a run.
    """
    path = Path(folder or ".")
    if not any((path / name).exists() for name in ("run.json", "widths.json", "report.json", FOLDER)):
        raise BadInputError(f"{path} is not the folder of a run", hint="give the out of edgeprune.fit or prune")
    if model is None or isinstance(model, str):
        return Run(path, model)
    return Run(path, open_model(model, example_inputs)[0])
