"""A profile by sampling: few kernels are measured, those that plans hang on; the others are estimated.

First comes the network as it is, then networks of random widths, whose kernels lie all over the tables, one by one and
whole. What these leave unsure is narrowed down where it matters: plans of several budgets are solved for by the tables
as they are estimated, and again with every unsure kernel as quick as it may well be (optimism in the face of
uncertainty; Auer, Cesa-Bianchi and Fischer, 2002). Kernels of either plan that were not measured are, those first by
which its latency is least sure, until it is sure enough or the time is over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from edgeprune.compiler.failures import KernelBuildError
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.devices.protocol import Device, DeviceInfo
from edgeprune.errors import BadInputError, UnsupportedOperatorError, VerificationError
from edgeprune.graph.channels import KernelGraph
from edgeprune.graph.network import Network
from edgeprune.graph.resized import at_widths
from edgeprune.graph.spec import KernelSpec
from edgeprune.importance.curves import Curves, Saliency
from edgeprune.importance.registry import criterion
from edgeprune.latency.model import at_one_clock
from edgeprune.latency.networks import network_key
from edgeprune.latency.store import ProfileStore
from edgeprune.profiling.bench import Bench
from edgeprune.profiling.estimator import WorkEstimator
from edgeprune.profiling.fingerprint import fingerprint_of, require_match
from edgeprune.profiling.networks import NARROWEST, WholeNetworks, random_widths, whole_networks
from edgeprune.profiling.profile import ProfileOptions, ProfileResult, Sureness, bench_for, profile, result_of
from edgeprune.progress import SILENT, Progress
from edgeprune.sampling.asked import Asked, asked
from edgeprune.targets import Target

CRITERION = "l2"
"""What widths are worth here: plans by other criteria pass the same parts of the tables."""
RANDOM, SEEDS = 3, 2
"""Networks of random widths that are measured whole; of so many the kernels are measured one by one, too."""
HEAVY, TUNE = 0.01, 4
"""Share of the network's latency from which on one of its kernels is tuned, and with how many schedules at most."""
AT_ONCE, REFINED = 16, 96
"""Kernels that are measured before plans are made anew, and at most in all."""
ROUNDS = 3
"""Launches of each whole network after each of these: what disturbs the device in one does not in all."""
DOUBTFUL = 2.5
"""Standard deviations above what the others say of it from which on a kernel is measured once more."""
SURE, WORTH = 0.005, 0.002
"""Spread and worth (:class:`~edgeprune.profiling.profile.Sureness`) up to which a plan is sure enough."""


def profiled(
    network: Network,
    target: Target,
    device: Device,
    store: ProfileStore,
    options: ProfileOptions,
    *,
    info: DeviceInfo | None = None,
    allow_mismatch: bool = False,
    progress: Progress = SILENT,
) -> ProfileResult:
    """A profile as the options ask for it, of all widths or sampled: what the store does not hold yet is measured.

    With ``allow_mismatch`` a stored profile of the same target is used as it is, whatever device it came from.

    Raises:
        What :func:`edgeprune.profiling.profile.profile` raises.
    """
    if not options.sampled:
        kernels, channels = network.kernels, network.channels
        known = {"info": info, "allow_mismatch": allow_mismatch, "progress": progress}
        return profile(kernels, channels, target, device, store, options, **known)  # type: ignore[arg-type]
    until = math.inf if options.seconds is None else time.monotonic() + options.seconds
    info = info or device.describe()
    require_match(target, info)
    fingerprint = fingerprint_of(target, info, options.threads, network.kernels)
    opened = store.open_profile(fingerprint, allow_mismatch=allow_mismatch)
    run = _Sampling(network, target, bench_for(opened, target, device, info, options, progress), options, progress)
    run.dense()
    run.seeds(until)
    with whole_networks(device, info, threads=options.threads) as whole:
        run.put(whole, until)
        sureness = run.refine(whole, until)
        run.keep(whole)
    return result_of(run.bench, run.levels, run.reused, sureness)


class _Sampling:
    """One run."""

    def __init__(
        self, network: Network, target: Target, bench: Bench, options: ProfileOptions, progress: Progress
    ) -> None:
        self.bench, self.levels = bench, options.levels(network.channels, target)
        self._network, self._target, self._progress = network, target, progress
        self._tune, self._known = options.tune, {r.spec.key for r in bench.profile.records() if r.ok}
        self._touched: set[str] = set()
        generator, groups = np.random.default_rng(0), network.channels.groups
        narrow = {g.name: g.size if g.frozen else max(1, round(NARROWEST * g.size)) for g in groups}
        drawn = [self._at(random_widths(network.channels, generator)) for _ in range(RANDOM)]
        self._random = [graph for graph in drawn if graph is not None]
        self._seeds = [graph for graph in (*drawn[:SEEDS], self._at(narrow)) if graph is not None]

    @property
    def reused(self) -> int:
        """Kernels that were needed and known before."""
        return len(self._touched & self._known)

    def _at(self, widths: Mapping[str, int]) -> KernelGraph | None:
        """The network at other widths; None where a kernel of it does not have these."""
        try:
            return at_widths(self._network.kernels, widths)
        except ValueError as e:
            self._progress.note(f"a network of other widths is left out: {e}")
            return None

    def dense(self) -> None:
        """The network's own kernels, and those that weigh with more schedules."""
        own = self._missing(n.spec for n in self._network.kernels.nodes)
        self._progress.stage("profiling the network's kernels", len(own))
        self.bench.tuned(own, 1)
        heavy = self._heavy(own)
        self._progress.stage("tuning its heavy kernels", len(heavy))
        self.bench.tuned(heavy, min(TUNE, self._tune))

    def seeds(self, until: float) -> None:
        """Kernels of random networks, and of the narrowest: beyond them estimates would be anybody's guess."""
        specs = self._missing(n.spec for graph in self._seeds for n in graph.nodes)
        self._progress.stage("profiling kernels of random widths", len(specs))
        self.bench.transferred(specs, self._tune, until)

    def put(self, whole: WholeNetworks, until: float) -> None:
        """Networks that are timed as a whole, those that are not known yet: the dense one, and random ones."""
        opened = self.bench.profile
        if opened.mismatch:
            return
        known = {n.key for n in opened.networks()}
        keyed = {network_key(n.spec for n in g.nodes): g for g in (self._network.kernels, *self._random)}
        wanted = [g for key, g in keyed.items() if key not in known]
        book = ScheduleBook(self._target, opened.records())
        self._progress.stage("building whole networks", len(wanted))
        for graph in wanted:
            if time.monotonic() > until:
                break
            try:
                whole.put(graph, self._target, book)
            except (KernelBuildError, UnsupportedOperatorError, VerificationError) as e:
                self._progress.note(f"a network of random widths is not timed: {e.message}")
            self._progress.advance()
        whole.launch(ROUNDS)

    def keep(self, whole: WholeNetworks) -> None:
        """Store what was measured of whole networks."""
        self._progress.stage("timing whole networks")
        whole.settle(self.bench.clock)
        for record in whole.records(self.bench.clock):
            self.bench.profile.add_network(record)

    def refine(self, whole: WholeNetworks, until: float) -> tuple[Sureness, ...]:
        """Measure what plans hang on; returns how sure they are then."""
        curves, left, doubted = self._curves(), REFINED, set[str]()
        while True:
            records = at_one_clock(self.bench.profile.records())
            estimator = WorkEstimator(records, self._target)
            late = time.monotonic() > until or bool(self.bench.profile.mismatch)
            slow = [] if self.bench.counts else estimator.slow(DOUBTFUL)
            suspects = {s.key: s for s in (*self.bench.slow_clock(), *slow)}
            if not late and (again := [s for key, s in suspects.items() if key not in doubted]):
                self._progress.stage("profiling kernels again that were slow", len(again))
                self.bench.again(again)
                doubted |= suspects.keys()
                continue
            plans = asked(self._network, curves, self.levels, records, estimator)
            sureness = tuple(_sureness(plan, estimator) for plan in plans)
            unsure = [p for p, s in zip(plans, sureness, strict=True) if s.spread > SURE or s.worth > WORTH]
            specs = self._least_sure(unsure, estimator)[: min(AT_ONCE, left)]
            if late or not specs:
                return sureness
            self._progress.stage("profiling kernels that plans hang on", len(specs))
            self.bench.transferred(specs, self._tune)
            left -= len(specs)
            whole.launch(ROUNDS)

    def _curves(self) -> Curves:
        """By weights; by the number of channels where these are worth nothing, or are no numbers."""
        try:
            curves = Saliency.summed(criterion(CRITERION).score(self._network, None)).curves
        except BadInputError:
            curves = {}
        if sum(float(curve[-1]) for curve in curves.values()) > 0:
            return curves
        return {g.name: np.arange(g.size + 1, dtype=np.float64) for g in self._network.channels.prunable}

    def _least_sure(self, plans: Sequence[Asked], estimator: WorkEstimator) -> list[KernelSpec]:
        """Kernels of plans that were not measured, those first by which latencies are least sure."""
        missing = self._missing(s for p in plans for s in (*p.kernels, *p.lucky))
        if not missing:
            return []
        spreads = dict(zip((s.key for s in missing), estimator.estimate(missing).spread_ns, strict=True))
        doubt = dict.fromkeys(spreads, 0.0)
        for kernels in (k for plan in plans for k in (plan.kernels, plan.lucky)):
            latency_ns = estimator.total(kernels).latency_ns
            for spec in kernels:
                if spec.key in doubt:
                    doubt[spec.key] += spreads[spec.key] / latency_ns
        return sorted(missing, key=lambda s: -doubt[s.key])

    def _missing(self, specs: Iterable[KernelSpec]) -> list[KernelSpec]:
        """Those that were not measured, and did not fail in this run either; each once."""
        wanted = {s.key: s for s in specs}
        self._touched |= wanted.keys()
        failed = {r.spec.key for r in self.bench.failed}
        return [s for s in self.bench.lacks(wanted.values()) if s.key not in failed]

    def _heavy(self, specs: Sequence[KernelSpec]) -> list[KernelSpec]:
        """Of the network's own kernels those that take :data:`HEAVY` of it."""
        latency_ns: Mapping[str, float] = {r.spec.key: r.median_ns for r in at_one_clock(self.bench.profile.records())}
        nodes = self._network.kernels.nodes
        taken = dict.fromkeys((n.spec.key for n in nodes), 0.0)
        for node in nodes:
            taken[node.spec.key] += latency_ns.get(node.spec.key, 0.0)
        return [s for s in specs if taken[s.key] >= HEAVY * sum(taken.values()) > 0]


def _sureness(plan: Asked, estimator: WorkEstimator) -> Sureness:
    total = estimator.total(plan.kernels)
    return Sureness(plan.share, total.spread_ns / total.latency_ns, plan.worth)
