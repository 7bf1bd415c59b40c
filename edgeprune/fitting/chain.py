"""fit: a trained network and a budget in, an installed network that keeps the budget out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from edgeprune.budget.limits import Limit
from edgeprune.budget.problem import Budget
from edgeprune.budget.registry import get_solver
from edgeprune.compiler.compile import Network, compile_network, read_network
from edgeprune.compiler.manifest import MANIFEST, Manifest
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.deploy.checks import BenchResult
from edgeprune.deploy.flash import flash
from edgeprune.deploy.installed import bench_installed, run_installed
from edgeprune.devices.protocol import Device, DeviceInfo
from edgeprune.errors import BadInputError, InfeasibleBudgetError, UsageError, VerificationError
from edgeprune.fitting.choose import Chosen, calibration, choose, score, shrunk
from edgeprune.fitting.result import FitResult, RoundResult, VariantResult
from edgeprune.fitting.run_folder import RunRecord, check_out, save_run
from edgeprune.fitting.trial import trial
from edgeprune.importance.criterion import Scores
from edgeprune.importance.registry import criterion as find_criterion
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.store import ProfileStore
from edgeprune.models.loading import LoadedModel
from edgeprune.profiling.profile import ProfileOptions, ProfileResult, profile
from edgeprune.progress import SILENT, Progress
from edgeprune.pruning.plan import Plan
from edgeprune.targets import Target
from edgeprune.training.data import DataSet
from edgeprune.training.evaluate import accuracy_from_logits
from edgeprune.training.finetune import train
from edgeprune.training.recalibrate import recalibrate


@dataclass(frozen=True, slots=True)
class FitOptions:
    """Attributes:
    rounds: most passes of solve, compile, measure.
    margin: part of the latency budget kept free, against the noise of the final check.
    fill: part of a limit that a plan should use; below it in all of them another round is spent.
    epochs, lr, batch_size, distil_weight, temperature: fine-tuning (training/finetune.py).
    baseline: also make the uniform-width network of the same latency, for the report.
    """

    solver: str = "knapsack"
    criterion: str = "taylor"
    rounds: int = 3
    margin: float = 0.04
    fill: float = 0.90
    epochs: int = 3
    lr: float = 0.02
    batch_size: int = 64
    distil_weight: float = 0.5
    temperature: float = 4.0
    seed: int = 0
    baseline: bool = True
    allow_mismatch: bool = False
    profile: ProfileOptions = field(default_factory=ProfileOptions)


@dataclass(frozen=True, slots=True)
class _Job:
    """What every step needs."""

    model: LoadedModel
    network: Network
    target: Target
    device: Device
    info: DeviceInfo
    data: DataSet | None
    options: FitOptions
    progress: Progress
    scratch: Path
    provenance: Mapping[str, Any]


def fit(
    model: LoadedModel,
    target: Target,
    device: Device,
    store: ProfileStore,
    out: Path,
    *,
    latency: Limit | None = None,
    flash_limit: Limit | None = None,
    data: DataSet | None = None,
    options: FitOptions | None = None,
    record: RunRecord | None = None,
    progress: Progress = SILENT,
) -> FitResult:
    """Profile, prune, recover, compile, install and prove a network on a device.

    The plan is measured before any training is spent on it: latency does not depend on the values
    of the weights. Without ``data`` nothing is fine-tuned and no accuracy is reported.

    Args:
        latency: limit in ms, or a fraction of the dense network's latency measured in this run.
        flash_limit: limit of the program in bytes, or a fraction of the dense one's.
        out: the run folder: bundle, plan, weights. Nothing is written before the budget is known to
            be kept; plan and weights come first, so that a device that fails costs no training.
        record: how the model was loaded, so that ``edgeprune compile RUN`` can do it again.

    Raises:
        UsageError, BadInputError: no limit, options that do not go together, data that does not fit
            the model; nothing was measured or written.
        InfeasibleBudgetError: the budget is below what can be reached; nothing was written.
        VerificationError: measured over budget after the last round; nothing was written.
        VerificationError, RolledBackError: the installed program fails its checks.
    """
    options = options or FitOptions()
    _check(options, data, latency, flash_limit, out)
    network = read_network(model.module, model.example_inputs)
    if data is not None:
        _check_data(network, data)
    with tempfile.TemporaryDirectory(prefix="edgeprune-fit-") as scratch:
        provenance = {"model": model.source, "seed": options.seed, "command": "fit"}
        job = _Job(
            model, network, target, device, device.describe(), data, options, progress, Path(scratch), provenance
        )
        profiled = profile(
            network.kernels,
            network.channels,
            target,
            device,
            store,
            options.profile,
            allow_mismatch=options.allow_mismatch,
            progress=progress,
        )
        dense = _variant(job, profiled, network, "dense")
        budget = Budget(
            None if latency is None else latency.resolve(dense.bench.median_ms),
            None if flash_limit is None else flash_limit.resolve(dense.manifest.memory.flash),
        )
        scores = _scores(job)
        best, rounds = _solve(job, profiled, scores, budget, dense)
        plan, small, latency_model = best.chosen.plan, best.network, best.model
        history = {"pruned": _recover(job, small, plan)}
        uniform = None
        if options.baseline and budget.latency_ms is not None:
            uniform, history["uniform"] = _uniform(job, profiled, scores, best)
        paths = save_run(out, record, plan, small.module)
        manifest = _compile(job, profiled, small, out / "bundle", budget, plan)
        deployment = flash(out / "bundle", device, latency_budget_ms=budget.latency_ms, progress=progress)
        progress.stage("verifying the installed network")
        timing = bench_installed(device, 5, 50)
        pruned = VariantResult(
            "pruned", small, manifest, timing, _installed_accuracy(job), _kernels(job, out / "bundle")
        )
        return FitResult(
            model_name=model.name,
            model_source=model.source,
            target=target,
            device_url=device.url,
            info=job.info,
            budget=budget,
            threads=options.profile.threads,
            seed=options.seed,
            dense=dense,
            pruned=pruned,
            uniform=uniform,
            predicted_kernels_ms={n.name: latency_model.predict_kernel(n.spec).latency_ms for n in small.kernels.nodes},
            rounds=tuple(rounds),
            plan=plan,
            deployment=deployment,
            fingerprint=profiled.profile.fingerprint.to_json(),
            evidence=timing.evidence,
            paths={**paths, "bundle": out / "bundle", "store": store.path},
            history=history,
        )


def _check(
    options: FitOptions, data: DataSet | None, latency: Limit | None, flash_limit: Limit | None, out: Path
) -> None:
    if latency is None and flash_limit is None:
        raise UsageError("no budget was given", hint="for example --latency 12ms, --latency 50% or --flash 2MB")
    if find_criterion(options.criterion).needs_data and data is None:
        raise UsageError(f"criterion {options.criterion} needs data", hint="give --data, or --criterion l2")
    if options.rounds < 1 or not 0 <= options.margin < 1:
        raise UsageError(f"{options.rounds} rounds with a margin of {options.margin} make no sense")
    get_solver(options.solver)
    check_out(out)
    bundle = out / "bundle"
    if bundle.exists() and not (bundle / MANIFEST).is_file():
        raise UsageError(f"{bundle} exists and is not a bundle", hint="choose another --out, or remove it yourself")


def _check_data(network: Network, data: DataSet) -> None:
    """Raises BadInputError for images that the network does not take, or more classes than it has outputs."""
    shapes = [tuple(x.shape) for x in network.example_inputs]
    if shapes != [data.input_shape]:
        taken = " and ".join(map(str, shapes))
        raise BadInputError(
            f"the model takes {taken}, data set {data.name!r} has {data.input_shape}",
            hint="give --input-shape, or data of that shape",
            model=shapes,
            data=data.input_shape,
        )
    outputs = network.kernels.outputs[0].shape[1]
    if data.classes > outputs:
        raise BadInputError(
            f"data set {data.name!r} has {data.classes} classes, the network {outputs} outputs",
            hint="load the network with num_classes",
            classes=data.classes,
            outputs=outputs,
        )


# -- one network on the device ------------------------------------------------------------------


def _compile(
    job: _Job, profiled: ProfileResult, network: Network, out: Path, budget: Budget | None, plan: Plan | None
) -> Manifest:
    limits = {} if budget is None else {k: v for k, v in asdict(budget).items() if v is not None}
    widths = {} if plan is None else {g: len(k) for g, k in plan.keep.items()}
    return compile_network(
        network,
        job.target,
        out,
        book=ScheduleBook(job.target, profiled.profile.records()),
        name=job.model.name,
        threads=job.options.profile.threads,
        budget=limits,
        provenance={**job.provenance, "widths": widths, "fingerprint": profiled.profile.fingerprint.to_json()},
        seed=job.options.seed,
        progress=job.progress,
    )


def _variant(job: _Job, profiled: ProfileResult, network: Network, name: str) -> VariantResult:
    """Compile, check, time and run a network without installing it."""
    job.progress.stage(f"measuring the {name} network")
    bundle = job.scratch / name
    manifest = _compile(job, profiled, network, bundle, None, None)
    with trial(bundle, job.device) as tried:
        tried.check()
        timing = tried.bench()
        accuracy = _accuracy(job, tried.run)
        return VariantResult(name, network, manifest, timing, accuracy, tried.kernels_ms())


def _kernels(job: _Job, bundle: Path) -> Mapping[str, float]:
    with trial(bundle, job.device) as tried:
        return tried.kernels_ms()


def _accuracy(job: _Job, run: Callable[[list[bytes], int], list[bytes]]) -> float | None:
    """Accuracy on the test half, from what the program on the device puts out."""
    if job.data is None:
        return None
    x, y = job.data.test
    outputs = run([np.ascontiguousarray(x.numpy()).tobytes()], len(x))
    logits = np.frombuffer(outputs[0], np.float32).reshape(len(x), *_output_shape(job)[1:])
    return accuracy_from_logits(logits, y)


def _output_shape(job: _Job) -> tuple[int, ...]:
    return job.network.kernels.outputs[0].shape


def _installed_accuracy(job: _Job) -> float | None:
    return _accuracy(job, lambda inputs, batch: run_installed(job.device, inputs, batch))


# -- choosing widths ------------------------------------------------------------------------------


def _scores(job: _Job) -> Scores:
    job.progress.stage("scoring channels")
    options = job.options
    return score(job.network, options.criterion, job.data, batch_size=options.batch_size, seed=options.seed)


def _shrunk(job: _Job, plan: Plan) -> Network:
    return read_network(shrunk(job.network, plan), job.network.example_inputs)


def _choose(
    job: _Job, profiled: ProfileResult, scores: Scores, model: LatencyModel, budget: Budget, solver: str, base: float
) -> Chosen:
    return choose(
        job.network,
        scores,
        model,
        profiled.levels,
        budget,
        solver=solver,
        criterion_name=job.options.criterion,
        evidence=job.info.evidence,
        program_bytes=base,
        progress=job.progress,
    )


@dataclass(frozen=True, slots=True)
class _Kept:
    """A round that was measured inside the budget; ``model`` is corrected by that measurement."""

    chosen: Chosen
    network: Network
    timing: BenchResult
    model: LatencyModel


def _solve(
    job: _Job, profiled: ProfileResult, scores: Scores, budget: Budget, dense: VariantResult
) -> tuple[_Kept, list[RoundResult]]:
    """Solve, compile, measure; correct the latency model with the measurement and solve again.

    Returns the round inside the budget that retains the most saliency.
    """
    options, limit = job.options, budget.latency_ms
    rounds: list[RoundResult] = []
    best: _Kept | None = None
    seen: list[Mapping[str, tuple[int, ...]]] = []
    aim = Budget(None if limit is None else limit * (1 - options.margin), budget.flash_bytes)
    model = LatencyModel(profiled.profile.records())
    tables = model.network(n.spec for n in job.network.kernels.nodes)
    # The dense network is measured anyway: what it takes beyond its kernels corrects the first round.
    model = model.corrected(dense.bench.median_ms, tables.latency_ms)
    base = dense.manifest.memory.flash - tables.flash_bytes
    for number in range(1, options.rounds + 1):
        try:
            chosen = _choose(job, profiled, scores, model, aim, options.solver, base)
        except InfeasibleBudgetError:
            if best is None:
                raise
            break  # the margin is out of reach, the budget was not
        if best is not None and chosen.plan.keep in seen:
            break  # nothing better is to be found between two levels
        seen.append(chosen.plan.keep)
        network = _shrunk(job, chosen.plan)
        manifest = _compile(job, profiled, network, job.scratch / f"round-{number}", None, None)
        with trial(job.scratch / f"round-{number}", job.device) as tried:
            tried.check()
            timing = tried.bench()
        measured, flash_bytes = timing.median_ms, manifest.memory.flash
        predicted = chosen.plan.predicted
        # Half of the margin is left for the noise between this and the final check.
        kept = (limit is None or measured <= limit * (1 - options.margin / 2)) and (
            budget.flash_bytes is None or flash_bytes <= budget.flash_bytes
        )
        full = (
            not chosen.plan.keep
            or (limit is not None and measured >= limit * options.fill)
            or (budget.flash_bytes is not None and flash_bytes >= budget.flash_bytes * options.fill)
        )
        model = model.corrected(measured, predicted["latency_ms"])
        base += flash_bytes - predicted["flash_bytes"]
        rounds.append(RoundResult(number, predicted["latency_ms"], timing, model.correction, kept))
        job.progress.note(
            f"round {number}: predicted {predicted['latency_ms']:.4g} ms and {predicted['flash_bytes']:.0f} bytes, "
            f"measured {measured:.4g} ms and {flash_bytes} bytes"
        )
        if kept and (best is None or chosen.solution.saliency > best.chosen.solution.saliency):
            best = _Kept(chosen, network, timing, model)
        if kept and full:
            break
    if best is None:
        limits = [f"{limit:.4g} ms"] if limit is not None else []
        limits += [f"{budget.flash_bytes:.0f} bytes"] if budget.flash_bytes is not None else []
        raise VerificationError(
            f"after {len(rounds)} rounds the network measures {measured:.4g} ms and {flash_bytes} bytes "
            f"against a budget of {' and '.join(limits)}",
            hint="raise the budget, allow more rounds, or profile again on a quiet device",
            rounds=[{"predicted_ms": r.predicted_ms, "measured_ms": r.measured.median_ms} for r in rounds],
        )
    return best, rounds


def _uniform(
    job: _Job, profiled: ProfileResult, scores: Scores, best: _Kept
) -> tuple[VariantResult | None, dict[str, Any]]:
    """The baseline: one ratio for all groups, as fast as the pruned network was measured to be.

    None where no ratio is as fast: it serves the report, and fails no fit.
    """
    try:
        budget = Budget(latency_ms=best.timing.median_ms)
        chosen = _choose(job, profiled, scores, best.model, budget, "uniform", 0.0)
    except InfeasibleBudgetError as e:
        job.progress.note(f"no uniform baseline: {e.message}")
        return None, {}
    small = _shrunk(job, chosen.plan)
    history = _recover(job, small, chosen.plan)
    return _variant(job, profiled, small, "uniform"), history


def _recover(job: _Job, network: Network, plan: Plan) -> dict[str, Any]:
    """Batch-norm statistics measured anew, then fine-tuning with the dense network as teacher."""
    if job.data is None:
        return {}
    options = job.options
    module: nn.Module = network.module
    recalibrate(module, (x for x, _ in calibration(job.data, options.batch_size)))
    if options.epochs == 0 or not plan.keep:
        return {}
    history = train(
        module,
        job.data,
        epochs=options.epochs,
        lr=options.lr,
        batch_size=options.batch_size,
        seed=options.seed,
        teacher=job.network.module,
        distil_weight=options.distil_weight,
        temperature=options.temperature,
        progress=job.progress,
    )
    return history.to_json()
