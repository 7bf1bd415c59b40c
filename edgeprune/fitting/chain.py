"""fit: a trained network and a budget in, an installed network that keeps the budget out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeprune.budget.limits import Limit
from edgeprune.budget.problem import Budget
from edgeprune.compiler.compile import Network, compile_network, read_network
from edgeprune.compiler.manifest import Manifest
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.deploy.flash import flash
from edgeprune.deploy.installed import bench_installed, run_installed
from edgeprune.devices.protocol import Device
from edgeprune.errors import UsageError, VerificationError
from edgeprune.fitting.choose import Chosen, choose, score
from edgeprune.fitting.result import FitResult, RoundResult, VariantResult
from edgeprune.fitting.run_folder import RunRecord, save_run
from edgeprune.fitting.trial import trial
from edgeprune.importance.criterion import Scores
from edgeprune.importance.registry import criterion as find_criterion
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.store import ProfileStore
from edgeprune.models.loading import LoadedModel
from edgeprune.profiling.profile import ProfileOptions, ProfileResult, profile
from edgeprune.progress import SILENT, Progress
from edgeprune.pruning.mask import check_equal, mask
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.shrink import shrink
from edgeprune.targets import Target
from edgeprune.training.data import DataSet, batches
from edgeprune.training.evaluate import accuracy_from_logits
from edgeprune.training.finetune import train
from edgeprune.training.recalibrate import recalibrate

CALIBRATION = 512
"""Training samples that saliency and batch-norm statistics are taken from."""


@dataclass(frozen=True, slots=True)
class FitOptions:
    """Attributes:
    rounds: most passes of solve, compile, measure.
    margin: part of the latency budget kept free, against the noise of the final check.
    fill: part of the budget that a plan should use; below it another round is spent.
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
        out: the run folder: bundle, plan, weights.
        record: how the model was loaded, so that ``edgeprune compile RUN`` can do it again.

    Raises:
        UsageError: no limit, or options that do not go together; nothing was written.
        InfeasibleBudgetError: the budget is below what can be reached; nothing was written.
        VerificationError, RolledBackError: measured over budget after the last round, or the
            installed program fails its checks.
    """
    options = options or FitOptions()
    _check(options, data, latency, flash_limit)
    network = read_network(model.module, model.example_inputs)
    if data is not None and data.input_shape != tuple(model.example_inputs[0].shape):
        raise UsageError(
            f"the model takes {tuple(model.example_inputs[0].shape)}, the data has {data.input_shape}",
            hint="give --input-shape, or data of that shape",
        )
    with tempfile.TemporaryDirectory(prefix="edgeprune-fit-") as scratch:
        provenance = {"model": model.source, "seed": options.seed, "command": "fit"}
        job = _Job(model, network, target, device, data, options, progress, Path(scratch), provenance)
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
        records = profiled.profile.records()
        uncorrected = LatencyModel(records)
        specs = [n.spec for n in network.kernels.nodes]
        # The dense network is measured anyway: what it takes beyond its kernels corrects the first round.
        start = uncorrected.corrected(dense.bench.median_ms, uncorrected.network(specs).latency_ms)
        chosen, small, rounds, latency_model = _solve(job, profiled, scores, start, budget, dense, options.solver)
        shrunk_parts = [n.spec for n in small.kernels.nodes]
        predicted = {
            n.name: latency_model.predict_kernel(s).latency_ms
            for n, s in zip(small.kernels.nodes, shrunk_parts, strict=True)
        }
        history = {"pruned": _recover(job, small, chosen.plan)}
        uniform = None
        if options.baseline and budget.latency_ms is not None:
            uniform, history["uniform"] = _uniform(job, profiled, scores, latency_model, rounds[-1], dense)
        out.mkdir(parents=True, exist_ok=True)
        manifest = _compile(job, profiled, small, out / "bundle", budget, chosen.plan)
        deployment = flash(out / "bundle", device, latency_budget_ms=budget.latency_ms, progress=progress)
        progress.stage("verifying the installed network")
        timing = bench_installed(device, 5, 50)
        pruned = VariantResult(
            "pruned", small, manifest, timing, _installed_accuracy(job), _kernels(job, out / "bundle")
        )
        paths = save_run(out, record, chosen.plan, small.module)
        return FitResult(
            model_name=model.name,
            model_source=model.source,
            target=target,
            device_url=device.url,
            info=device.describe(),
            budget=budget,
            threads=options.profile.threads,
            seed=options.seed,
            dense=dense,
            pruned=pruned,
            uniform=uniform,
            predicted_kernels_ms=predicted,
            rounds=tuple(rounds),
            plan=chosen.plan,
            deployment=deployment,
            fingerprint=profiled.profile.fingerprint.to_json(),
            evidence=timing.evidence,
            paths={**paths, "bundle": out / "bundle", "store": store.path},
            history=history,
        )


def _check(options: FitOptions, data: DataSet | None, latency: Limit | None, flash_limit: Limit | None) -> None:
    if latency is None and flash_limit is None:
        raise UsageError("no budget was given", hint="for example --latency 12ms, --latency 50% or --flash 2MB")
    if find_criterion(options.criterion).needs_data and data is None:
        raise UsageError(f"criterion {options.criterion} needs data", hint="give --data, or --criterion l2")
    if options.rounds < 1 or not 0 <= options.margin < 1:
        raise UsageError(f"{options.rounds} rounds with a margin of {options.margin} make no sense")


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
    data = None
    if job.data is not None:
        x, y = job.data.train
        data = batches(x[:CALIBRATION], y[:CALIBRATION], job.options.batch_size)
    return score(job.network, job.options.criterion, data, seed=job.options.seed)


def _shrunk(job: _Job, plan: Plan) -> Network:
    """The smaller network, proven equal to the masked one on the example input."""
    module = shrink(job.network.module, job.network.channels, plan)
    masked = mask(job.network.module, job.network.channels, plan)
    check_equal(masked, module, job.network.example_inputs, graph=job.network.channels, plan=plan)
    return read_network(module, job.network.example_inputs)


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
        evidence=job.device.describe().evidence,
        program_bytes=base,
        progress=job.progress,
    )


def _program_bytes(model: LatencyModel, dense: VariantResult) -> float:
    """Flash of the dense program beyond what the tables account for (runtime, tables; may be below 0)."""
    specs = [n.spec for n in dense.network.kernels.nodes]
    return dense.manifest.memory.flash - model.network(specs).flash_bytes


def _solve(
    job: _Job,
    profiled: ProfileResult,
    scores: Scores,
    model: LatencyModel,
    budget: Budget,
    dense: VariantResult,
    solver: str,
) -> tuple[Chosen, Network, list[RoundResult], LatencyModel]:
    """Solve, compile, measure; correct the latency model with the measurement and solve again.

    Returns the round that uses most of the budget without passing it.
    """
    options, rounds = job.options, []
    best: tuple[float, Chosen, Network, LatencyModel] | None = None
    limit = budget.latency_ms
    aim = Budget(None if limit is None else limit * (1 - options.margin), budget.flash_bytes)
    base = max(0.0, _program_bytes(model, dense))
    for number in range(1, options.rounds + 1):
        chosen = _choose(job, profiled, scores, model, aim, solver, base)
        small = _shrunk(job, chosen.plan)
        bundle = job.scratch / f"{solver}-{number}"
        manifest = _compile(job, profiled, small, bundle, None, None)
        with trial(bundle, job.device) as tried:
            tried.check()
            timing = tried.bench()
        measured, predicted = timing.median_ms, chosen.solution.latency_ms
        flash_kept = budget.flash_bytes is None or manifest.memory.flash <= budget.flash_bytes
        # Half of the margin is left for the noise between this and the final check.
        kept = flash_kept and (limit is None or measured <= limit * (1 - options.margin / 2))
        full = limit is None or measured >= limit * options.fill or not chosen.plan.keep
        corrected = model.corrected(measured, predicted)
        rounds.append(RoundResult(number, predicted, timing, corrected.correction, kept))
        job.progress.note(f"round {number}: predicted {predicted:.4g} ms, measured {measured:.4g} ms")
        if kept and (best is None or measured > best[0]):
            best = (measured, chosen, small, corrected)
        if kept and full:
            break
        model = corrected
        if not flash_kept:
            base += manifest.memory.flash - chosen.solution.flash_bytes
    if best is None:
        raise VerificationError(
            f"after {len(rounds)} rounds the network measures {rounds[-1].measured.median_ms:.4g} ms "
            f"against a budget of {limit} ms",
            hint="raise the budget, allow more rounds, or profile again on a quiet device",
            rounds=[{"predicted_ms": r.predicted_ms, "measured_ms": r.measured.median_ms} for r in rounds],
        )
    return best[1], best[2], rounds, best[3]


def _uniform(
    job: _Job,
    profiled: ProfileResult,
    scores: Scores,
    model: LatencyModel,
    last: RoundResult,
    dense: VariantResult,
) -> tuple[VariantResult, Any]:
    """The baseline: one ratio for all groups, as fast as the pruned network was measured to be."""
    budget = Budget(latency_ms=last.measured.median_ms)
    chosen = _choose(job, profiled, scores, model, budget, "uniform", 0.0)
    small = _shrunk(job, chosen.plan)
    history = _recover(job, small, chosen.plan)
    return _variant(job, profiled, small, "uniform"), history


def _recover(job: _Job, network: Network, plan: Plan) -> dict[str, Any]:
    """Batch-norm statistics measured anew, then fine-tuning with the dense network as teacher."""
    if job.data is None:
        return {}
    options = job.options
    module: nn.Module = network.module
    images = job.data.train[0][:CALIBRATION]
    recalibrate(module, torch.split(images, options.batch_size))
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
