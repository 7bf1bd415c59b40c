"""A profile by sampling: few kernels are measured, those that plans hang on; the others are estimated.

First come the network's own kernels, alone, each with the schedules that it may have. Then whole networks are timed,
the one as it is and some of widths far from each other, with a clock around each kernel: what a kernel takes in its
place is what sums of kernels have to be made of. Last come plans: those of several budgets are solved for by the tables
as they are estimated, and again with every unsure kernel as quick as it may well be (optimism in the face of
uncertainty; Auer, Cesa-Bianchi and Fischer, 2002), and those that are not sure enough are timed as networks.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgeprune.compiler.compile import weights_of
from edgeprune.compiler.in_blocks import found_in_blocks
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.devices.protocol import Device, DeviceInfo
from edgeprune.errors import BadInputError, DeviceUnreachableError, EdgepruneError, ProfileError
from edgeprune.graph.channels import KernelGraph
from edgeprune.graph.network import Network
from edgeprune.graph.resized import at_widths
from edgeprune.graph.spec import KernelSpec
from edgeprune.importance.curves import Curves, Saliency
from edgeprune.importance.registry import criterion
from edgeprune.latency.densities import WHOLE, in_blocks
from edgeprune.latency.model import at_one_clock, nominal_ns
from edgeprune.latency.networks import network_key
from edgeprune.latency.records import KernelRecord
from edgeprune.latency.store import Profile, ProfileStore
from edgeprune.profiling.bench import BORROWED, TUNED, Bench
from edgeprune.profiling.estimated import estimator_of
from edgeprune.profiling.estimator import WorkEstimator
from edgeprune.profiling.networks import random_widths, widths_apart
from edgeprune.profiling.profile import (
    MANY,
    ProfileOptions,
    ProfileResult,
    Sureness,
    bench_for,
    measure_all,
    opened_for,
    result_of,
)
from edgeprune.profiling.shared import SharedNetworks, shared_networks
from edgeprune.progress import SILENT, Progress
from edgeprune.sampling.asked import Asked, asked
from edgeprune.targets import Target

CRITERION = "l2"
"""What widths are worth here: plans by other criteria pass the same parts of the tables."""
MOST, MORE = 16, 2
"""Networks of other widths that are timed as a whole at most, and how many come at once."""
KERNELS, ENOUGH = 120, 360
"""Different kernels in the first ones at least, and from how many on no more networks come."""
POOL, SURE_RANDOM = 8, 0.015
"""Networks of random widths, and the median standard deviation of their latencies, relative, that is sure enough."""
HEAVY, TUNE = 0.01, 3
"""Share of the network's multiplications from which on one of its kernels is tuned, and with how many schedules at
most: the first of each rule that builds it come first.
"""
PLANS = 3
"""Plans that are timed as networks, at most."""
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
    others: Sequence[Device] = (),
    allow_mismatch: bool = False,
    progress: Progress = SILENT,
) -> ProfileResult:
    """A profile as the options ask for it, of all widths or sampled: what the store does not hold yet is measured.

    ``others`` are boards of the device's kind that share the work. With ``allow_mismatch`` a stored profile of the same
    target is used as it is, whatever device it came from.

    Raises:
        What :func:`edgeprune.profiling.profile.profile` raises; ProfileError also where that profile lacks kernels.
    """
    kernels, channels = network.kernels, network.channels
    boards = {"info": info, "others": others, "allow_mismatch": allow_mismatch, "progress": progress}
    until = math.inf if options.seconds is None else time.monotonic() + options.seconds
    opened, farm = opened_for(kernels, target, device, store, options, **boards)  # type: ignore[arg-type]
    bench = bench_for(opened, target, farm, options, progress)
    _tune_blocks(network, target, bench, options, progress)
    sampled = options.sampled
    if sampled is None:
        every = options.kernels(kernels, channels, target)
        sampled = not target.cuda and len(bench.lacks(every)) > MANY
    if not sampled:
        return measure_all(kernels, channels, target, bench, farm, options, progress)
    if not opened.mismatch and not target.cuda:
        _borrow(opened, store, kernels)
    run = _Sampling(network, target, bench, options, progress)
    run.dense()
    with shared_networks(farm, threads=options.threads) as whole:
        run.spread_out(whole, until)
        sureness = run.refine(whole, until)
        return result_of(run.bench, farm, run.levels, run.reused, len(whole.timed), sureness)


def _tune_blocks(network: Network, target: Target, bench: Bench, options: ProfileOptions, progress: Progress) -> None:
    """Measure layers whose weights are zero in blocks as kernels that store the others alone, and that store all: the
    compiler takes the quicker one. Those that may become so are measured at the densities that they are offered, at
    the network's widths; a sampled profile estimates others from these.
    """
    if target.kind != "cpu":
        return
    zero = [s for s in found_in_blocks(network.kernels, weights_of(network)) if s]
    offered = options.in_blocks(network.kernels)
    may = [n.spec.with_density(d) for n in network.kernels.nodes for d in offered.get(n.name, ())]
    missing = bench.lacks({s.key: s for s in (*zero, *may)}.values())
    progress.stage("profiling kernels that store blocks", len(missing))
    bench.tuned(missing, max(2, options.tune))


def _borrow(opened: Profile, store: ProfileStore, kernels: KernelGraph) -> None:
    """Give a profile the kernels of a network that the device's other profiles know, which were taken with more or
    fewer weights around: alone, kernels are timed to choose their schedules, and these are the same.
    """
    known = {r.spec.key for r in opened.records() if r.ok}
    wanted = {n.spec.key for n in kernels.nodes} - known
    for other in store.profiles():
        if (
            other.fingerprint != opened.fingerprint
            and replace(other.fingerprint, weight_span=opened.fingerprint.weight_span) == opened.fingerprint
        ):
            for record in other.records():
                if record.ok and record.spec.key in wanted:
                    opened.add(replace(record, flags=tuple({*record.flags, BORROWED})))


class _Sampling:
    """One run."""

    def __init__(
        self, network: Network, target: Target, bench: Bench, options: ProfileOptions, progress: Progress
    ) -> None:
        self.bench, self.levels = bench, options.levels(network.channels, target)
        self._network, self._target, self._progress = network, target, progress
        self._tune, self._known = options.tune, {r.spec.key for r in bench.profile.records() if r.ok}
        self._touched: set[str] = set()
        generator = np.random.default_rng(0)
        drawn = [self._at(random_widths(network.channels, generator)) for _ in range(POOL)]
        self._random = [graph for graph in drawn if graph is not None]
        apart = [self._at(widths) for widths in widths_apart(network.channels, MOST)]
        self._offered = options.in_blocks(network.kernels)
        self._whole = [network.kernels, *(in_blocks(network.kernels, self._all_at(d)) for d in options.densities)]
        # Kernels that store blocks meet other caches in a network than alone, as others do: every second has some.
        self._spread = [
            graph if i % 2 else in_blocks(graph, self._drawn(generator))
            for i, graph in enumerate(g for g in apart if g is not None)
        ]

    @property
    def reused(self) -> int:
        """Kernels that were needed and known before."""
        return len(self._touched & self._known)

    def _all_at(self, density: int) -> dict[str, int]:
        """The same density for all layers that are offered any."""
        return dict.fromkeys(self._offered, density)

    def _drawn(self, generator: np.random.Generator) -> dict[str, int]:
        """A density of each layer that is offered any, all its blocks among them."""
        return {name: int(generator.choice((*levels, WHOLE))) for name, levels in self._offered.items()}

    def _at(self, widths: Mapping[str, int]) -> KernelGraph | None:
        """The network at other widths; None where a kernel of it does not have these."""
        try:
            return at_widths(self._network.kernels, widths)
        except ValueError as e:
            self._progress.note(f"a network of other widths is left out: {e}")
            return None

    def dense(self) -> None:
        """The network's own kernels, alone: those that weigh with some schedules each. What the best of them really
        takes, whole networks will tell.
        """
        own = {n.spec.key: n.spec for n in self._network.kernels.nodes}
        missing = {s.key for s in self._missing(own.values())}
        heavy = self._heavy() if self._tune > 1 else []
        self._progress.stage("tuning the network's heavy kernels", len(heavy))
        self.bench.tuned(heavy, min(TUNE, self._tune), again=bool(self._target.cuda))
        light = [own[key] for key in sorted(missing - {s.key for s in heavy})]
        self._progress.stage("profiling its other kernels", len(light))
        self.bench.tuned(light, 1)

    def spread_out(self, whole: SharedNetworks, until: float) -> None:
        """Time the network as it is, and others with widths far from each other: until they have kernels enough, and it
        is sure enough what random ones take.
        """
        queue, kernels = [*self._whole, *self._spread], set[str]()
        while queue and time.monotonic() < until and not self.bench.profile.mismatch:
            chosen = list[KernelGraph]()
            while queue and (len(chosen) < MORE or len(kernels) < KERNELS):
                chosen.append(queue.pop(0))
                kernels |= {n.spec.key for n in chosen[-1].nodes}
            if not self._time(chosen, whole, until) or len(kernels) >= ENOUGH or self._sure():
                return

    def _sure(self) -> bool:
        """Whether it is sure enough what networks of random widths take."""
        pool = [[n.spec for n in graph.nodes] for graph in self._random]
        try:
            estimator = self._estimator(at_one_clock(self.bench.profile.records()))
        except ProfileError:
            return True
        return float(np.median([_spread(kernels, estimator) for kernels in pool] or [0.0])) <= SURE_RANDOM

    def _time(self, graphs: Sequence[KernelGraph], whole: SharedNetworks, until: float) -> bool:
        """Time those of the networks that were not, in turns, and store what they take. False if the first that was
        tried does not run: no other would.
        """
        keyed, timed = {network_key(n.spec for n in g.nodes): g for g in graphs}, self._timed()
        wanted = [g for key, g in keyed.items() if key not in timed]
        self._progress.stage("building whole networks", len(wanted))
        for graph in wanted:
            if time.monotonic() < until:
                self._put(graph, whole)
                if not len(whole):
                    return False
            self._progress.advance()
        self._progress.stage("timing whole networks")
        whole.settle(until)
        for record in whole.records():
            self.bench.profile.add_network(record)
        self.bench.keep_conditions()
        return True

    def _timed(self) -> set[str]:
        """Keys of the networks that were timed as they would be timed now."""
        opened = self.bench.profile
        if self._target.cuda:
            return {n.key for n in opened.networks()}
        book = ScheduleBook(self._target, opened.records())
        return {
            n.key
            for n in opened.networks()
            if n.placed and all(dict(p.schedule) == dict(book.choose(p.spec).schedule) for p in n.placed)
        }

    def _put(self, graph: KernelGraph, whole: SharedNetworks) -> None:
        try:
            whole.put(graph, self._target, ScheduleBook(self._target, self.bench.profile.records()))
        except DeviceUnreachableError:
            raise
        except EdgepruneError as e:
            self._progress.note(f"a whole network is not timed: {e.message}")

    def refine(self, whole: SharedNetworks, until: float) -> tuple[Sureness, ...]:
        """Time plans as networks until it is sure which are the best and what they take; returns how sure that is."""
        curves, left, doubted = self._curves(), PLANS, set[str]()
        while True:
            records = at_one_clock(self.bench.profile.records())
            late = time.monotonic() > until or bool(self.bench.profile.mismatch)
            try:
                estimator = self._estimator(records)
                suspects = {s.key: s for s in self._suspects(estimator) if s.key not in doubted}
                if suspects and not late:
                    self._progress.stage("profiling kernels again that were slow", len(suspects))
                    self.bench.again(suspects.values(), until)
                    doubted |= suspects.keys()
                    continue
                plans = asked(self._network, curves, self.levels, records, estimator)
            except ProfileError as e:
                # Kernels failed that every plan has: the profile says which, and there is no plan to be sure of.
                if self.bench.profile.mismatch or not self.bench.failed:
                    raise
                self._progress.note(f"no plans: {e.message}")
                return ()
            spreads = [_spread(plan.kernels, estimator) for plan in plans]
            pairs = list(zip(plans, spreads, strict=True))
            unsure = [plan for plan, spread in pairs if spread > SURE or plan.worth > WORTH]
            graphs = [] if late else self._untimed(unsure)[:left]
            if not graphs:
                return tuple(Sureness(p.share, spread, p.worth) for p, spread in pairs if p.reached)
            self._time(graphs, whole, until)
            left -= len(graphs)

    def _untimed(self, plans: Sequence[Asked]) -> list[KernelGraph]:
        """The networks of plans that were not timed yet; where all were, those that would be better with luck."""
        known = self._timed()
        for offered in ([p.widths for p in plans], [p.lucky_widths for p in plans]):
            # Where blocks are gone, the graph of the network is another one.
            graphs = [self._at(widths) for widths in offered if 0 not in widths.values()]
            keyed = {network_key(n.spec for n in graph.nodes): graph for graph in graphs if graph is not None}
            if found := [graph for key, graph in keyed.items() if key not in known]:
                return found
        return []

    def _estimator(self, records: Sequence[KernelRecord]) -> WorkEstimator:
        own, networks = [n.spec for n in self._network.kernels.nodes], self.bench.profile.networks()
        return estimator_of(records, self._target, own, networks, clock_ns=nominal_ns(self.bench.profile.records()))

    def _suspects(self, estimator: WorkEstimator) -> list[KernelSpec]:
        """Kernels of this run that met the nominal clock too rarely, or are slower than the others say."""
        slow = [] if self.bench.counts else estimator.slow(DOUBTFUL)
        return [s for s in (*self.bench.slow_clock(), *slow) if s.key in self._touched]

    def _curves(self) -> Curves:
        """By weights; by the number of channels where these are worth nothing, or are no numbers."""
        try:
            curves = Saliency.summed(criterion(CRITERION).score(self._network, None)).curves
        except BadInputError:
            curves = {}
        if sum(float(curve[-1]) for curve in curves.values()) > 0:
            return curves
        return {g.name: np.arange(g.size + 1, dtype=np.float64) for g in self._network.channels.prunable}

    def _missing(self, specs: Iterable[KernelSpec]) -> list[KernelSpec]:
        """Those that were not measured, and did not fail in this run either; each once."""
        wanted = {s.key: s for s in specs}
        self._touched |= wanted.keys()
        failed = {r.spec.key for r in self.bench.failed}
        return [s for s in self.bench.lacks(wanted.values(), borrowed=True) if s.key not in failed]

    def _heavy(self) -> list[KernelSpec]:
        """Of the network's own kernels those that have :data:`HEAVY` of its work and were not tuned."""
        opened = self.bench.profile
        if opened.mismatch:
            return []
        nodes = self._network.kernels.nodes
        own, work = {n.spec.key: n.spec for n in nodes}, Counter[str]()
        for node in nodes:
            work[node.spec.key] += node.spec.macs
        tuned = {r.spec.key for r in opened.records() if r.ok and TUNED in r.flags}
        return [own[key] for key, macs in work.items() if macs >= HEAVY * work.total() and key not in tuned]


def _spread(kernels: Sequence[KernelSpec], estimator: WorkEstimator) -> float:
    """Standard deviation of what kernels take together, relative."""
    total = estimator.total(kernels)
    return total.spread_ns / total.latency_ns
