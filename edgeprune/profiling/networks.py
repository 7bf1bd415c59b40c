"""Whole networks at any widths, timed: what the sum of their kernels misses is in their latency.

Nothing is traced and no weight is needed: the kernel graph of the network at other widths is known
(:mod:`edgeprune.graph.resized`), and latency does not depend on the values of weights.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np
from scipy.stats import qmc

from edgeprune.board.client import ExitCode, KernelRow, Launch, NativeProgram, crashed
from edgeprune.compiler.inplace import chosen
from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.lower import Lowered, lower
from edgeprune.compiler.program import write_program
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.devices.protocol import Device, DeviceInfo
from edgeprune.devices.scratch import scratch
from edgeprune.errors import VerificationError
from edgeprune.graph.channels import ChannelGraph, KernelGraph
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.networks import NetworkRecord, Placed
from edgeprune.profiling.figures import Clock, Figure, figure, nominal_clock, said
from edgeprune.profiling.measure import FOLDER
from edgeprune.targets import Target

ENOUGH_ROUNDS = 8
"""Launches at the nominal clock that the figure of a network is made of, at least."""
NARROWEST = 0.1
"""Least share of its channels that a group of a random network has."""


@dataclass(frozen=True, slots=True)
class NetworkTiming:
    """Options of timing a whole network, as those of a kernel are.

    Attributes:
        warmup: inferences of each launch that do not count.
        launch_ms: what one launch takes about; from ``fewest`` to ``most`` inferences.
        most_rounds: launches of each network at most.
        timeout_s: of one launch.
    """

    warmup: int = 1
    launch_ms: float = 60.0
    fewest: int = 4
    most: int = 50
    most_rounds: int = 60
    timeout_s: float = 300.0


def random_widths(channels: ChannelGraph, generator: np.random.Generator) -> dict[str, int]:
    """Widths of all groups, irregular: each has its own share of its channels, from :data:`NARROWEST` to all."""
    return _widths_of(channels, generator.uniform(NARROWEST, 1.0, len(channels.groups)))


def widths_apart(channels: ChannelGraph, count: int) -> list[dict[str, int]]:
    """Widths of ``count`` networks, as random ones, but far from each other: any few of the first have, in each group,
    widths from all parts of the range (Sobol's sequence, scrambled).
    """
    sobol = qmc.Sobol(len(channels.groups), rng=np.random.default_rng(0))
    shares = NARROWEST + (1 - NARROWEST) * sobol.random_base2(math.ceil(math.log2(count)))
    return [_widths_of(channels, of_each) for of_each in shares[:count]]


def _widths_of(channels: ChannelGraph, shares: Iterable[float]) -> dict[str, int]:
    return {
        g.name: g.size if g.frozen else max(1, round(share * g.size))
        for g, share in zip(channels.groups, shares, strict=True)
    }


@dataclass(slots=True, eq=False)
class _Placed:
    """A network on the device; ``repeats`` inferences are one launch."""

    kernels: tuple[KernelSpec, ...]
    schedules: tuple[Schedule, ...]
    program: NativeProgram
    repeats: int
    launches: list[Launch] = field(default_factory=list)
    calls: list[tuple[KernelRow, ...]] = field(default_factory=list)

    @property
    def rows(self) -> list[KernelRow]:
        """Launches have the reference before each sample; the one after the last is taken for the last."""
        return [KernelRow(x.samples_ns, True, (*x.reference_ns, *x.reference_ns[-1:])) for x in self.launches]


class WholeNetworks:
    """Programs of networks that lie on a device, launched in turns: a phase in which something disturbs it then costs
    each of them a launch, and none its figure. Made by :func:`whole_networks`.
    """

    def __init__(self, device: Device, info: DeviceInfo, home: str, threads: int, timing: NetworkTiming) -> None:
        self._device, self._info, self._home = device, info, home
        self._threads, self._timing = threads, timing
        self._placed: list[_Placed] = []
        self._put = 0

    def __len__(self) -> int:
        return len(self._placed)

    @property
    def timed(self) -> int:
        """Different kernels of all networks that were timed in their places."""
        return len({spec.key for placed in self._placed if placed.calls for spec in placed.kernels})

    @property
    def rounds(self) -> int:
        return min((len(placed.launches) for placed in self._placed), default=0)

    def put(self, graph: KernelGraph, target: Target, book: ScheduleBook) -> None:
        """Add a network, its kernels with the schedules of ``book``.

        Raises:
            KernelBuildError, UnsupportedOperatorError: a kernel cannot be built.
            VerificationError: the program crashes or does not end; it is left out.
        """
        self.place(lower(graph, None, target, book, name="timing"), target)

    def place(self, lowered: Lowered, target: Target) -> None:
        """Add a network that is lowered already, with its weights or without.

        Raises:
            VerificationError: the program crashes or does not end; it is left out.
        """
        path, timing = f"{self._home}/network{self._put}", self._timing
        self._put += 1
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as here:
            built = write_program(lowered.program, target, Path(here))
            self._device.put(built["program"], path, executable=True)
        program = NativeProgram(self._device.run, (f"./{path}",), timing.timeout_s)
        repeats = timing.fewest
        if not self._info.counts:
            probe = self._bench(program, timing.fewest)
            repeats = probe.repeats_in(timing.launch_ms, timing.fewest, timing.most)
        calls = lowered.program.calls
        self._placed.append(
            _Placed(tuple(c.spec for c in calls), tuple(chosen(c.schedule) for c in calls), program, repeats)
        )

    def launch(self, rounds: int = 1, until: float = math.inf) -> None:
        """Launch each so many times, in turns, once as a whole and once with a clock around each kernel; once is enough
        for a clock that counts. One that crashes or does not end is left out from then on.

        Args:
            until: on the clock of :func:`time.monotonic`; no round but the first begins later.
        """
        for _ in range(rounds):
            if self.rounds and (self._info.counts or time.monotonic() > until):
                return
            for placed in tuple(self._placed):
                try:
                    whole, calls = self._bench(placed.program, placed.repeats), self._calls(placed)
                    placed.launches.append(whole)
                    placed.calls.append(calls)
                except VerificationError:
                    self._placed.remove(placed)

    def settle(self, clock: Clock, until: float = math.inf) -> None:
        """Launch until each has met the nominal clock often enough, or as often as may be.

        Args:
            until: as of :meth:`launch`.
        """
        while self._placed and not (self.rounds and (self._info.counts or time.monotonic() > until)):
            rows = [placed.rows for placed in self._placed]
            nominal_ns = nominal_clock(rows, clock.nominal_ns)
            paced = all(row.reference_ns for of_each in rows for row in of_each)
            rare = paced and min(len(said(of_each, nominal_ns)) for of_each in rows) < ENOUGH_ROUNDS
            if self.rounds >= (self._timing.most_rounds if rare else ENOUGH_ROUNDS):
                return
            self.launch()

    def _bench(self, program: NativeProgram, repeats: int) -> Launch:
        return program.bench(warmup=self._timing.warmup, repeats=repeats, threads=self._threads)

    def _calls(self, placed: _Placed) -> tuple[KernelRow, ...]:
        """Rows of the kernels in their places."""
        timing = self._timing
        found = placed.program.kernels(warmup=timing.warmup, repeats=placed.repeats, threads=self._threads)
        if found.ended.returncode != ExitCode.OK:
            raise crashed("kernels", found.ended)
        if len(found.rows) != len(placed.kernels):
            raise VerificationError(f"the program timed {len(found.rows)} of {len(placed.kernels)} kernels")
        return found.rows

    def records(self, clock: Clock) -> list[NetworkRecord]:
        """What was measured."""
        launched = [placed for placed in self._placed if placed.launches]
        clock.meet([placed.rows for placed in launched])
        return [self._record(placed, clock) for placed in launched]

    def _record(self, placed: _Placed, clock: Clock) -> NetworkRecord:
        whole, taken = figure(placed.rows, clock), defaultdict[KernelSpec, list[Figure]](list)
        schedules = dict(zip(placed.kernels, placed.schedules, strict=True))
        for spec, *rows in zip(placed.kernels, *placed.calls, strict=True):
            taken[spec].append(figure(rows, clock).at_clock(whole.reference_ns))
        kernels = tuple(
            Placed(spec, schedules[spec], fmean(f.latency_ns for f in of_each), fmean(f.spread_ns for f in of_each))
            for spec, of_each in taken.items()
        )
        figures = (whole.latency_ns, whole.spread_ns, whole.samples, self._info.evidence, whole.reference_ns)
        return NetworkRecord(placed.kernels, *figures, placed=kernels)


@contextmanager
def whole_networks(
    device: Device, info: DeviceInfo, *, threads: int, timing: NetworkTiming | None = None
) -> Iterator[WholeNetworks]:
    """Networks to be timed on a device; they are removed when the ``with`` block ends."""
    with scratch(device, FOLDER) as home:
        yield WholeNetworks(device, info, home, threads, timing or NetworkTiming())
