"""Profiling a network on a device: latency tables over (in, out) widths of each distinct kernel.

Kernels are compiled exactly as the final build compiles them, measured in batches, and stored as
they come, so a profile that is interrupted goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import Field, InstanceOf

from edgeprune.compiler.in_blocks import layers_for_blocks
from edgeprune.devices.protocol import Device, DeviceInfo
from edgeprune.graph.channels import ChannelGraph, KernelGraph
from edgeprune.graph.spec import KernelSpec
from edgeprune.jsonable import Jsonable
from edgeprune.latency.densities import WHOLE, at_density
from edgeprune.latency.grids import levels_of
from edgeprune.latency.model import nominal_ns
from edgeprune.latency.problem import kernels_to_measure
from edgeprune.latency.records import Fingerprint, KernelRecord
from edgeprune.latency.store import Profile, ProfileStore
from edgeprune.profiling.bench import Bench
from edgeprune.profiling.farm import BoardShare, Farm, open_farm
from edgeprune.profiling.fingerprint import fingerprint_of, require_match
from edgeprune.profiling.measure import TimingOptions
from edgeprune.profiling.shared import compare
from edgeprune.progress import SILENT, Progress
from edgeprune.targets import Target

MANY = 400
"""Kernels that are measured sooner than a sampled profile has timed its networks, about."""


@dataclass(frozen=True, slots=True)
class ProfileOptions:
    """Attributes:
    threads: threads the kernels run on.
    points: most widths a group is offered; its step is a multiple of ``step``.
    step: smallest difference of widths; None: the finest that can pay on the target.
    tune: schedules measured for each kernel of the network as it is; the best is kept. At other widths two are
        measured, the one that was best nearby and the one that is estimated best; with 1, the latter alone. A sampled
        profile tunes the network's heavy kernels alone, with three schedules at most.
    workers: processes that build kernels; None: one a core.
    blocks: offer width 0 to the groups of blocks: whole blocks may go.
    densities: what may stay of the blocks of weights of layers that store them (:mod:`edgeprune.latency.densities`),
        in per cent, ascending.
    sampled: measure only what plans hang on, and estimate the rest (:mod:`edgeprune.sampling.sampled`). None: where
        more than :data:`MANY` kernels would have to be measured otherwise, and not on a GPU, inside whose networks
        kernels are not timed.
    seconds: after which a sampled profile is as sure as it is then; the network's own kernels are measured all the
        same. None: until it is sure.
    fleet: of several boards the slowest leads: figures are of that one.
    """

    threads: int = 1
    points: int = 8
    step: int | None = None
    tune: int = 8
    workers: int | None = None
    blocks: bool = False
    densities: tuple[int, ...] = ()
    sampled: bool | None = None
    seconds: float | None = None
    fleet: bool = False
    timing: TimingOptions = field(default_factory=TimingOptions)

    def levels(self, channels: ChannelGraph, target: Target) -> dict[str, tuple[int, ...]]:
        """Widths offered to each group of a network."""
        return levels_of(channels, self.step or target.width_step, self.points, blocks=self.blocks)

    def kernels(self, kernels: KernelGraph, channels: ChannelGraph, target: Target) -> list[KernelSpec]:
        """All kernels of a network at these widths and densities, those at full width first."""
        return kernels_to_measure(kernels, channels, self.levels(channels, target), self.in_blocks(kernels))

    def in_blocks(self, kernels: KernelGraph) -> dict[str, tuple[int, ...]]:
        """The densities that layers are offered, by node."""
        return dict.fromkeys(layers_for_blocks(kernels), self.densities) if self.densities else {}


@dataclass(frozen=True, slots=True)
class Sureness(Jsonable):
    """How sure a sampled profile is of the plans of one budget.

    Attributes:
        share: the budget, of the dense network's latency.
        spread: standard deviation of what the plan's kernels take together, relative.
        worth: by how much more saliency another plan may turn out to be better, relative.
    """

    share: float
    spread: float
    worth: float


@dataclass(frozen=True, slots=True)
class ProfileResult(Jsonable):
    """``levels``: group -> widths the tables cover. ``measured``, ``reused`` and ``drifted`` (measured again, for the
    device's speed had changed) count kernels; ``placed`` those that were timed in their places in whole networks.
    ``timings`` counts kernels that were timed, each with each schedule, and ``placed`` ones. ``sureness`` is that of a
    sampled profile. ``boards`` is what each had to do with it.
    """

    profile: Annotated[InstanceOf[Profile], Field(exclude=True)]  # the store keeps it, and what failed
    levels: Mapping[str, tuple[int, ...]]
    measured: int
    reused: int
    drifted: int
    timings: int = 0
    placed: int = 0
    sureness: tuple[Sureness, ...] = ()
    boards: tuple[BoardShare, ...] = ()
    failed: Annotated[tuple[InstanceOf[KernelRecord], ...], Field(exclude=True)] = ()


def profile(
    kernels: KernelGraph,
    channels: ChannelGraph,
    target: Target,
    device: Device,
    store: ProfileStore,
    options: ProfileOptions | None = None,
    *,
    info: DeviceInfo | None = None,
    others: Sequence[Device] = (),
    allow_mismatch: bool = False,
    progress: Progress = SILENT,
) -> ProfileResult:
    """Measure what the store does not hold yet.

    ``info`` is what the device says of itself, if it was asked already; ``others`` of its kind share the work. With
    ``allow_mismatch`` a stored profile of the same target is used as it is, whatever device it came from, and nothing
    is measured.

    Raises:
        TargetError: the device cannot run code for this target.
        MissingDependencyError: what compiles for the target's GPU is not installed.
        ProfileError: ``allow_mismatch`` and the stored profile lacks kernels (when tables are read).
        BusyError, DeviceError: store or device failed; what was measured is kept.
    """
    options = options or ProfileOptions()
    opened, farm = opened_for(
        kernels,
        target,
        device,
        store,
        options,
        info=info,
        others=others,
        allow_mismatch=allow_mismatch,
        progress=progress,
    )
    bench = bench_for(opened, target, farm, options, progress)
    return measure_all(kernels, channels, target, bench, farm, options, progress)


def measure_all(
    kernels: KernelGraph,
    channels: ChannelGraph,
    target: Target,
    bench: Bench,
    farm: Farm,
    options: ProfileOptions,
    progress: Progress,
) -> ProfileResult:
    """Measure the kernels of a network at all widths that are offered, those that a bench's profile lacks."""
    opened, levels = bench.profile, options.levels(channels, target)
    wanted = options.kernels(kernels, channels, target)
    missing = bench.lacks(wanted)
    known = {r.spec.key for r in opened.records() if r.ok}
    reused = sum(s.key in known for s in wanted)
    progress.stage("profiling kernels", len(missing))
    offered = options.in_blocks(kernels)
    own = {at_density(n.spec, d).key for n in kernels.nodes for d in (WHOLE, *offered.get(n.name, ()))}
    bench.tuned([s for s in missing if s.key in own], options.tune)
    bench.transferred([s for s in missing if s.key not in own], options.tune)
    return result_of(bench, farm, levels, reused)


def opened_for(
    kernels: KernelGraph,
    target: Target,
    device: Device,
    store: ProfileStore,
    options: ProfileOptions,
    *,
    info: DeviceInfo | None,
    others: Sequence[Device],
    allow_mismatch: bool,
    progress: Progress,
) -> tuple[Profile, Farm]:
    """The stored profile that a network's kernels go into, and the boards that measure them, compared.

    Raises:
        UsageError: the boards are not of one kind. And what :func:`profile` raises.
    """
    said = [(device, info or device.describe()), *((d, d.describe()) for d in others)]
    require_match(target, said[0][1])

    def fingerprint(info: DeviceInfo) -> Fingerprint:
        return fingerprint_of(target, info, options.threads, kernels)

    opened = store.open_profile(fingerprint(said[0][1]), allow_mismatch=allow_mismatch)
    if opened.mismatch:
        said = said[:1]  # nothing is measured
    farm = open_farm(said, fingerprint, nominal_ns=nominal_ns(opened.records()), progress=progress)
    if not farm.alone:
        progress.stage("comparing boards")
        compare(farm, kernels, target, threads=options.threads, slowest=options.fleet)
    return opened, farm


def bench_for(opened: Profile, target: Target, farm: Farm, options: ProfileOptions, progress: Progress) -> Bench:
    """The bench of a profile: weights of kernels come from as far away as in the network that was profiled."""
    timing = replace(options.timing, weight_span=opened.fingerprint.weight_span)
    return Bench(
        opened, target, farm, threads=options.threads, timing=timing, workers=options.workers, progress=progress
    )


def result_of(
    bench: Bench,
    farm: Farm,
    levels: Mapping[str, tuple[int, ...]],
    reused: int,
    placed: int = 0,
    sureness: tuple[Sureness, ...] = (),
) -> ProfileResult:
    """What came of a bench, and of whole networks."""
    counts = (bench.measured, reused, bench.drifted, bench.timings + placed, placed)
    return ProfileResult(bench.profile, levels, *counts, sureness, farm.shares(), tuple(bench.failed))
