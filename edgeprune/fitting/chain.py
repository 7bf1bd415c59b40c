"""fit: a trained network and a budget in, an installed network that keeps the budget out."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from edgeprune.budget.promise import Limit
from edgeprune.budget.registry import get_solver
from edgeprune.compiler.compile import Network, read_network
from edgeprune.compiler.manifest import MANIFEST
from edgeprune.deploy.flash import flash
from edgeprune.deploy.installed import bench_installed
from edgeprune.deploy.steady import patient_bench
from edgeprune.devices.protocol import Device
from edgeprune.errors import BadInputError, UsageError
from edgeprune.fitting import baseline
from edgeprune.fitting.choose import score, with_removable
from edgeprune.fitting.job import FitOptions, Job
from edgeprune.fitting.limits import Limits
from edgeprune.fitting.recover import recover
from edgeprune.fitting.resolve import solve
from edgeprune.fitting.result import FitResult, VariantResult
from edgeprune.fitting.run_folder import RunRecord, check_out, save_run
from edgeprune.fitting.trial import on_trial
from edgeprune.importance.registry import criterion as find_criterion
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.store import ProfileStore
from edgeprune.models.loading import LoadedModel
from edgeprune.profiling.profile import profile
from edgeprune.progress import SILENT, Progress
from edgeprune.pruning.plan import Plan
from edgeprune.targets import Target
from edgeprune.training.data import DataSet
from edgeprune.training.teach import taught


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
    options, limits = options or FitOptions(), Limits(latency, flash_limit)
    _check(options, data, latency, flash_limit, out)
    network = read_network(model.module, model.example_inputs)
    if options.profile.blocks:
        network = with_removable(network, progress)
    if data is not None:
        _check_data(network, data)
        if not data.labelled:
            data, options = taught(model.module, data), replace(options, distil_weight=1.0)
    with tempfile.TemporaryDirectory(prefix="edgeprune-fit-") as scratch, on_trial(device) as trials:
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
        info, folder = device.describe(), Path(scratch)
        job = Job(model, network, target, device, info, data, options, progress, folder, profiled, trials)
        dense = job.variant(network, "dense", keep=True)
        progress.stage("scoring channels")
        scores = score(network, options.criterion, data, batch_size=options.batch_size, seed=options.seed)
        best, rounds, dense = solve(job, scores, limits, dense)
        plan, small, latency_model = best.chosen.plan, best.network, best.model
        history = {"pruned": recover(job, small, plan)}
        uniform = None
        if options.baseline and latency is not None:
            uniform, history["uniform"] = baseline.uniform(job, scores, best, dense)
        dense = job.timed_again(dense)
        budget = limits.budget(dense)
        paths = save_run(out, record, plan, small.module)
        manifest = job.compile(small, out / "bundle", budget=budget, plan=plan)
        deployment = flash(out / "bundle", device, latency_budget_ms=budget.latency_ms, progress=progress)
        progress.stage("verifying the installed network")
        timing = patient_bench(budget.latency_ms, lambda: bench_installed(device, 5, 50))
        proved = trials.installed()
        pruned = VariantResult("pruned", small, manifest, timing, job.accuracy(proved.run), proved.kernels_ms())
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
            predicted_kernels_ms=_predicted(latency_model, small, plan),
            rounds=tuple(rounds),
            plan=plan,
            deployment=deployment,
            fingerprint=profiled.profile.fingerprint.to_json(),
            evidence=timing.evidence,
            paths={**paths, "bundle": out / "bundle", "store": store.path},
            history=history,
        )


def _predicted(model: LatencyModel, network: Network, plan: Plan) -> dict[str, float]:
    """By kernel; where blocks are gone, without those that are new around them, which nobody profiled."""
    known = (n for n in network.kernels.nodes if not plan.empty or model.family(n.spec))
    return {n.name: model.predict_kernel(n.spec).latency_ms for n in known}


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
