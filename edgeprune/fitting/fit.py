"""fit: a trained network and a promise in, an installed network that keeps the promise out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeprune.budget.promise import Promise
from edgeprune.compiler.manifest import read_manifest
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.deploy.standard import Judgement
from edgeprune.deploy.trials import on_trial
from edgeprune.devices.protocol import Device
from edgeprune.errors import InfeasibleBudgetError, ProfileError, VerificationError
from edgeprune.fitting.baseline import uniform
from edgeprune.fitting.build import Builder
from edgeprune.fitting.densities import Ranking, check_densities, densities_of, ranking_of
from edgeprune.fitting.fleet import check_fleet, install_on_others, slowest
from edgeprune.fitting.install import install
from edgeprune.fitting.judging import frame_distance
from edgeprune.fitting.learning import learned
from edgeprune.fitting.objective import saliency_of
from edgeprune.fitting.options import FitOptions
from edgeprune.fitting.passes import approach, widened
from edgeprune.fitting.planned_ram import PlannedRam
from edgeprune.fitting.planned_storage import PlannedStorage
from edgeprune.fitting.planner import Planner, shrunk, with_removable
from edgeprune.fitting.recover import History, recovered
from edgeprune.fitting.reference import Reference, accepted
from edgeprune.fitting.request import DONE, open_run
from edgeprune.fitting.result import FitResult, FitRound, Measured, VariantResult
from edgeprune.fitting.robust import robustness_of
from edgeprune.fitting.ruled import ruled
from edgeprune.fitting.run_folder import RunRecord, save_question, save_run
from edgeprune.fitting.saved import load_saliency, profile_json, profile_of, save_saliency
from edgeprune.fitting.sparse import expected
from edgeprune.fitting.stages import DENSE
from edgeprune.fitting.tabled import heaviest_tables
from edgeprune.fitting.teaching import prepared
from edgeprune.fitting.workshop import Workshop
from edgeprune.graph.network import Network, read_network, with_ranges
from edgeprune.importance.curves import Saliency
from edgeprune.importance.rules import capped
from edgeprune.latency.densities import WHOLE, at_density
from edgeprune.latency.grids import finer
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.store import ProfileStore
from edgeprune.models.loading import LoadedModel
from edgeprune.profiling.estimated import estimated_of, timed_in
from edgeprune.profiling.fingerprint import require_match
from edgeprune.progress import SILENT, Progress
from edgeprune.pruning.plan import Plan
from edgeprune.sampling.sampled import profiled as measured
from edgeprune.targets import Target
from edgeprune.training.data import DataSet
from edgeprune.training.ranges import input_ranges
from edgeprune.training.sparse.sparsity import Sparsity
from edgeprune.training.tasks.task import Task


def fit(
    model: LoadedModel,
    target: Target,
    device: Device,
    store: ProfileStore,
    out: Path,
    promise: Promise,
    *,
    others: Sequence[Device] = (),
    data: DataSet | None = None,
    task: Task | None = None,
    options: FitOptions | None = None,
    record: RunRecord | None = None,
    resume: bool = False,
    began: Callable[[], None] = lambda: None,
    progress: Progress = SILENT,
) -> FitResult:
    """Profile, prune, recover, compile, install and prove a network on a device.

    The plan is measured before any training is spent on it: latency does not depend on the values
    of the weights. Without ``data`` nothing is fine-tuned and no metric is reported. Whatever is finished
    is kept in ``out`` as it ends (fitting/stages.py).

    Args:
        others: boards of the device's kind. They share the work of the profile; where the options ask for a fleet, the
            network is fitted to the slowest of all, and installed and judged on each.
        task: what the network is for: its loss and its metric; by the targets of ``data`` if None.
        promise: limits in ms and bytes, or as fractions of what the dense network costs, measured in this run.
        out: the run folder: stages, plan, weights, bundle.
        record: how the model was loaded, so that ``edgeprune compile RUN`` can do it again.
        began: called when ``out`` is known to take the run, before anything is measured.
        resume: go on with the unfinished run in ``out``; no finished stage is made again.

    Raises:
        UsageError, BadInputError: no limit, options that do not go together, data that does not fit
            the model, a run in ``out`` that is another one; nothing was measured or written.
        InfeasibleBudgetError: the budget is below what can be reached; nothing of the run stays. Where the solver gave
            up (``details["proven"]`` is False), all stages stay.
        VerificationError: no plan was measured inside the budget, or outputs differ.
        RolledBackError, UndecidedError: the installed program does not keep its promise, nor do smaller ones that
            were tried. All stages stay: ``resume`` tries again from there.
    """
    options = options or FitOptions()
    promise.require_limit()
    options.check(has_data=data is not None)
    fleet, of_profile = options.profile.fleet, replace(options.profile, fleet=False)
    check_fleet(fleet=fleet, others=others)
    check_densities(options.profile.densities, target)
    network = read_network(model.module, model.example_inputs, model.interface)
    if options.profile.blocks:
        network = with_removable(network, progress)
    taught = False
    if data is not None:
        data, task, taught = prepared(network, data, task, progress)
        options.check_trainer(task)
        options = replace(options, distil_weight=1.0) if taught else options
        if network.interface.image is not None:
            distance = frame_distance(network, data.test)
            progress.note(
                f"test images go to the board as camera frames, {distance:.2g} grey levels beside them at most"
            )
        ranges = input_ranges(network, data.train)
        network, record = with_ranges(network, ranges), None if record is None else replace(record, input_ranges=ranges)
    said = device.describe()
    require_match(target, said)
    stages = open_run(out, model, target, promise, options, resume=resume, began=began)
    if fleet:
        boards, threads = (device, *others), options.profile.threads
        device, first = slowest(network, target, boards, stages, threads=threads, progress=progress), device
        said = said if device is first else device.describe()
        others = [board for board in boards if board is not device]
    with tempfile.TemporaryDirectory(prefix="edgeprune-fit-") as scratch, on_trial(device, info=said) as trials:
        profiled = stages.once(
            "profile",
            lambda: measured(
                network,
                target,
                device,
                store,
                of_profile,
                info=trials.info,
                others=others,
                allow_mismatch=options.allow_mismatch,
                progress=progress,
            ),
            save=profile_json,
            load=lambda said: profile_of(said, store),
        )
        fingerprint, records = profiled.profile.fingerprint.to_json(), profiled.profile.records()
        builder = Builder(
            target,
            ScheduleBook(target, records),
            name=model.name,
            threads=options.profile.threads,
            seed=options.seed,
            provenance={"model": model.source, "seed": options.seed, "command": "fit", "fingerprint": fingerprint},
            progress=progress,
            weight_storage=options.weight_storage,
            ram_limited=promise.ram is not None,
            block_sparse="profiled" if options.profile.densities else "never",
        )
        workshop = Workshop(network, builder, trials, stages, Path(scratch), data, task, options)
        dense = workshop.variant("dense", network, stages.run / DENSE, keep=True)
        reference = Reference(trials, stages.run / DENSE, dense.manifest, dense.timing, promise, options.patience_s)
        step = options.profile.step or target.width_step
        limited = promise.ram is not None
        tables = estimated_of(profiled.profile, target, [n.spec for n in network.kernels.nodes])
        tables = tables.storing(dense.manifest.stored_share)
        planning = _Planning(tables, profiled.levels, step, builder.book, options, progress, ram_limited=limited)

        def worth(of: Network) -> Saliency:
            return saliency_of(
                of,
                planning.levels_of(of),
                criterion=options.criterion,
                objective=options.objective,
                data=data,
                task=task,
                batch_size=options.batch_size,
                seed=options.seed,
                progress=progress,
            )

        origin, lesson = learned(workshop)
        saliency = stages.once(
            "scores",
            lambda: worth(origin),
            save=lambda made: save_saliency(made, out / "stages"),
            load=lambda said: load_saliency(out / "stages", said["objective"]),
        )
        most = stages.once("ruled", lambda: ruled(options.rule, origin, saliency.scores, data, task), dict[str, int])

        def planned(of: Network, scored: Saliency, part: float = 1.0) -> Planner:
            """The planner of a pass. What was measured is of the dense network; smaller ones differ as tables say."""
            now, first = (planning.tables.network(n.spec for n in x.kernels.nodes) for x in (of, network))
            latency_ms = dense.latency_ms * now.latency_ms / first.latency_ms
            flash_bytes = dense.manifest.memory.flash - first.flash_bytes + now.flash_bytes
            kept = widened(most, sizes_of(network), options.schedule, part)
            levels = planning.levels
            if part < 1:  # blocks go in the last pass: kernels are new around them, and nobody profiled these
                levels = {group: tuple(w for w in widths if w) for group, widths in levels.items()}
            # Weights become sparse in the last pass, in the training that is the last one.
            last: dict[str, Any] = {}
            if part == 1:
                ranking = ranking_of(options.criterion, of, data, task, options.batch_size)
                last = {"densities": options.profile.densities, "ranking": ranking}
                last["becomes"] = expected(options.sparsity)
            return replace(planning, levels=levels, most=kept, **last).planner(of, scored, latency_ms, flash_bytes)

        margin = reference.margin if options.margin is None else options.margin
        why = "as asked" if options.margin is not None else "launches differ by as much on this device"
        progress.note(f"{margin:.1%} of the limit is kept free: {why}")
        try:
            reached = approach(workshop, origin, saliency, dense.cost, reference.budget, planned, worth)
            start = reached.network
            planner = planned(start, reached.saliency)
            best, rounds = workshop.search("round", start, planner, reference, accepted, margin=margin)
        except InfeasibleBudgetError as e:
            if e.details.get("proven", True):
                stages.forget()
            raise
        if best is None:
            raise _none_kept(rounds, out)
        plan = best.proposal.plan
        solved = planner.solved(plan)
        question = save_question(out, solved, reached.saliency)
        whole = reached.whole(plan)
        small, history = recovered(
            workshop, "recovered-0", shrunk(start, plan), whole, options.epochs, origin=start, lost=plan
        )
        save_run(out, record, whole, small.module)

        def smaller(trained: Network, tight: Reference, name: str) -> Plan | None:
            try:
                # What was measured is of the first plan; a network that is smaller by now differs as the tables say.
                first, now = (planning.tables.network(n.spec for n in x.kernels.nodes) for x in (small, trained))
                latency_ms = best.measured.judgement.latency_ms * now.latency_ms / first.latency_ms
                flash_bytes = best.measured.flash_bytes - first.flash_bytes + now.flash_bytes
                next_planner = planning.planner(trained, worth(trained), latency_ms, flash_bytes)
                found, _ = workshop.search(name, trained, next_planner, tight, accepted, margin=0.0)
            except (InfeasibleBudgetError, ProfileError) as e:
                # Where blocks went, kernels are new around them, and nobody profiled these.
                progress.note(f"nothing smaller: {e.message}")
                return None
            return None if found is None else found.proposal.plan

        done = install(workshop, device, reference, whole, small, smaller)
        members = (
            install_on_others(others, out / "bundle", stages.run / DENSE, promise, options.patience_s, progress)
            if fleet
            else ()
        )
        judged = Judgement(done.deployment.verdicts, done.deployment.timing)
        placed = trials.installed()
        proved: Measured = stages.once(
            "measured", lambda: Measured(workshop.score(placed), dict(placed.kernels_ms())), Measured
        )
        robust = robustness_of(
            workshop, stages.run / DENSE, dense.latency_ms, placed, done.network, labelled=not taught
        )
        manifest = read_manifest(out / "bundle")
        pruned = VariantResult(
            "pruned", done.network, manifest, judged.timing, judged.latency_ms, proved.metric, proved.kernels_ms
        )
        rival: VariantResult | None = None
        rival_history: History = {}
        if options.baseline and promise.latency is not None:
            wider = {group: finer(widths) for group, widths in profiled.levels.items()}
            ratio = replace(planning, levels=wider, solver="uniform")
            rival_planner = ratio.planner(origin, saliency, dense.latency_ms, dense.manifest.memory.flash)
            rival, rival_history = uniform(workshop, origin, rival_planner, reference, pruned.latency_ms)
        paths = save_run(out, record, done.plan, done.network.module)
        stages.once(DONE, lambda: True, bool)
        tables = planning.corrected(best)
        # Where blocks are gone, kernels are new around them, and nobody profiled these.
        blocks = done.plan.in_blocks
        specs = {n.name: at_density(n.spec, blocks.get(n.weights.weight, WHOLE)) for n in done.network.kernels.nodes}
        known = {name: spec for name, spec in specs.items() if not done.plan.empty or tables.family(spec)}
        return FitResult(
            model_name=model.name,
            model_source=model.source,
            target=target,
            device_url=device.url,
            info=trials.info,
            promise=promise,
            budget=reference.budget,
            verdicts=judged.verdicts,
            threads=options.profile.threads,
            seed=options.seed,
            margin=margin,
            dense=replace(dense, timing=reference.timing, latency_ms=reference.timing.median_ms),
            pruned=pruned,
            uniform=rival,
            predicted_kernels_ms={name: tables.predict_kernel(spec).latency_ms for name, spec in known.items()},
            rounds=tuple(rounds),
            plan=done.plan,
            dropped=planner.dropped,
            deployment=done.deployment,
            fingerprint=fingerprint,
            paths={**paths, **question, "bundle": out / "bundle", "store": store.path},
            history={
                **({"learned": lesson} if lesson else {}),
                **reached.histories,
                "pruned": history,
                "uniform": rival_history,
                **done.histories,
            },
            task=task,
            data=data,
            solved=solved,
            fleet=members,
            robustness=robust,
            tables=heaviest_tables(network, planning.levels, planning.tables, timed_in(profiled.profile)),
        )


@dataclass(frozen=True, slots=True)
class _Planning:
    """Shared input of the planners of one run: tables, levels, schedules, options."""

    tables: LatencyModel
    levels: Mapping[str, tuple[int, ...]]
    step: int
    book: ScheduleBook
    options: FitOptions
    progress: Progress
    solver: str = ""
    ram_limited: bool = False
    most: Mapping[str, int] = field(default_factory=dict)
    """What a rule keeps of each group, at most."""
    densities: tuple[int, ...] = ()
    """What may stay of the blocks of layers' weights."""
    ranking: Ranking | None = None
    """What these go by."""
    becomes: tuple[Sparsity, ...] = ()
    """What makes zeros where weights will become sparse."""

    def levels_of(self, network: Network) -> dict[str, tuple[int, ...]]:
        """The levels of a network that may be smaller than the one that was profiled."""
        sizes = sizes_of(network)
        levels = {name: (*(w for w in self.levels[name] if w < size), size) for name, size in sizes.items()}
        return capped(levels, {name: min(width, sizes[name]) for name, width in self.most.items()})

    def planner(self, network: Network, saliency: Saliency, latency_ms: float, flash_bytes: float) -> Planner:
        """A planner for a network of this measured cost: its cost beyond the sum of its kernels corrects the tables."""
        predicted = self.tables.network(n.spec for n in network.kernels.nodes)
        storage = PlannedStorage(
            network, self.book, self.options.weight_storage, ram_limited=self.ram_limited, becomes=self.becomes
        )
        tables, levels = self.tables.corrected(latency_ms, predicted.latency_ms), self.levels_of(network)
        if self.becomes:
            tables = tables.storing(storage.stored_share)
        return Planner(
            network,
            saliency,
            tables,
            levels,
            solver=self.solver or self.options.solver,
            criterion_name=self.options.criterion,
            rule_name=self.options.rule if self.most else "",
            program_bytes=flash_bytes - predicted.flash_bytes,
            step=self.step,
            ram=PlannedRam(network, self.book, limited=self.ram_limited, storage=storage),
            densities=densities_of(network, self.densities, saliency.curves, levels, tables, self.ranking),
            effort=self.options.effort,
            progress=self.progress,
        )

    def corrected(self, found: FitRound) -> LatencyModel:
        """The tables as the measurement of a round corrects them."""
        share = self.tables.correction / found.proposal.plan.method["latency_correction"]
        return self.tables.corrected(found.measured.judgement.latency_ms, found.proposal.latency_ms * share)


def sizes_of(network: Network) -> dict[str, int]:
    return {g.name: g.size for g in network.channels.groups}


def _none_kept(rounds: list[FitRound], out: Path) -> VerificationError:
    said = "; ".join(map(str, rounds[-1].measured.judgement.verdicts))
    return VerificationError(
        f"after {len(rounds)} rounds no plan was measured inside the budget; the last: {said}",
        hint=f"raise the budget, or allow more rounds and go on with edgeprune fit --resume {out}",
        rounds=[
            {"predicted_ms": r.proposal.latency_ms, "measured_ms": r.measured.judgement.latency_ms} for r in rounds
        ],
    )
