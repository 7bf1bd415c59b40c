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

import numpy as np

from edgeprune.board.client import ExitCode, KernelRow, NativeProgram, crashed
from edgeprune.compiler.inplace import chosen
from edgeprune.compiler.lower import Lowered, lower
from edgeprune.compiler.program import Call, write_program
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.devices.protocol import Device, DeviceInfo
from edgeprune.devices.scratch import scratch
from edgeprune.errors import VerificationError
from edgeprune.graph.channels import ChannelGraph, KernelGraph
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.networks import NetworkRecord, Placed
from edgeprune.profiling.figures import Clock, nominal_clock
from edgeprune.profiling.inferences import NetworkLaunch, inferences, steady_launches
from edgeprune.profiling.measure import FOLDER
from edgeprune.targets import Target

NARROWEST = 0.1
"""Least share of its channels that a group of a random network has."""


@dataclass(frozen=True, slots=True)
class NetworkTiming:
    """Options of timing a whole network, as those of a kernel are.

    Attributes:
        warmup: inferences of each launch that do not count.
        fewest, most, launch_ms: inferences of each launch that do: as many as fill so many ms. Few, in many launches:
            what disturbs a device lasts for seconds. Of a clock that counts there is one launch, of ``most``: what
            interrupts a program costs it instructions.
        rounds, most_rounds: launches of each network at the nominal clock, and altogether at most.
        sure: standard error of a network's latency, relative, from which on half as many are enough.
        timeout_s: of one launch.
    """

    warmup: int = 1
    fewest: int = 3
    most: int = 16
    launch_ms: float = 20.0
    rounds: int = 16
    most_rounds: int = 60
    sure: float = 0.003
    timeout_s: float = 300.0


def random_widths(channels: ChannelGraph, generator: np.random.Generator) -> dict[str, int]:
    """Widths of all groups, irregular: each has its own share of its channels, from :data:`NARROWEST` to all."""
    return _widths_of(channels, generator.uniform(NARROWEST, 1.0, len(channels.groups)))


def widths_apart(channels: ChannelGraph, count: int) -> list[dict[str, int]]:
    """Widths of ``count`` networks, as random ones, but far from each other: any few of the first have, in each group,
    widths from all parts of the range (Sobol's sequence, scrambled).
    """
    from scipy.stats import qmc  # a second, which only sampled profiles need

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
    """A network on the device. ``calls_apart``: calls are timed, each; on a GPU that would take longer than they do."""

    calls: tuple[Call, ...]
    program: NativeProgram
    calls_apart: bool
    repeats: int
    launches: list[NetworkLaunch] = field(default_factory=list)
    met: int = 0

    @property
    def rows(self) -> list[KernelRow]:
        """Of whole inferences."""
        return [KernelRow(x.whole_ns, True, x.reference_ns) for x in self.launches]

    @property
    def kernels(self) -> tuple[KernelSpec, ...]:
        return tuple(c.spec for c in self.calls)


class WholeNetworks:
    """Programs of networks that lie on a device, launched in turns: a phase in which something disturbs it then costs
    each of them a launch, and none its figure. Made by :func:`whole_networks`.
    """

    def __init__(self, device: Device, info: DeviceInfo, home: str, threads: int, timing: NetworkTiming) -> None:
        self._device, self._info, self._home = device, info, home
        self._threads, self._timing = threads, timing
        self._placed: list[_Placed] = []
        self._put, self._new = 0, False

    def __len__(self) -> int:
        return len(self._placed)

    @property
    def timed(self) -> set[str]:
        """Keys of the different kernels of all networks that were timed in their places."""
        return {spec.key for placed in self._placed if placed.calls_apart for spec in placed.kernels}

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
        path, timing, counts = f"{self._home}/network{self._put}", self._timing, self._info.counts
        self._put += 1
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as here:
            built = write_program(lowered.program, target, Path(here))
            self._device.put(built["program"], path, executable=True)
        program = NativeProgram(self._device.run, (f"./{path}",), timing.timeout_s)
        placed = _Placed(lowered.program.calls, program, not target.cuda, timing.most if counts else timing.fewest)
        first = self._launched(placed)
        if not counts:
            wanted = int(timing.launch_ms * 1e6 / min(first.whole_ns))
            placed.repeats = min(timing.most, max(timing.fewest, wanted))
        placed.launches.append(first)
        self._placed.append(placed)
        self._new = True

    def launch(self, rounds: int = 1, until: float = math.inf) -> None:
        """Launch each so many times, in turns, with a clock around each kernel; once is enough for a clock that counts.
        One that crashes or does not end is left out from then on.

        Args:
            until: on the clock of :func:`time.monotonic`; no round but the first begins later.
        """
        for _ in range(rounds):
            if self.rounds and (self._info.counts or time.monotonic() > until):
                return
            for placed in tuple(self._placed):
                try:
                    placed.launches.append(self._launched(placed))
                except VerificationError:
                    self._placed.remove(placed)

    def settle(self, clock: Clock, until: float = math.inf) -> None:
        """Launch all in turns, until each has met the nominal clock often enough, or as often as may be.

        What was launched before the last network came is forgotten: something disturbs every device for seconds or
        minutes, memory more than arithmetic, and networks can be compared only if all of them met it.

        Args:
            until: as of :meth:`launch`.
        """
        earlier: dict[int, list[NetworkLaunch]] = {}
        if self._new and not self._info.counts:
            for placed in self._placed:
                earlier[id(placed)] = placed.launches[:-1]
                placed.launches, placed.met = placed.launches[-1:], 0
        self._new = False
        while self._placed and not (self.rounds and (self._info.counts or time.monotonic() > until)):
            nominal = Clock(nominal_clock((p.rows for p in self._placed), clock.nominal_ns))
            if all(self._known(placed, nominal) for placed in self._placed):
                return
            self.launch()
        for placed in self._placed:
            # The time was over: what was forgotten is worth more than the little that was seen since.
            placed.launches = [*earlier.get(id(placed), ()), *placed.launches]

    def _known(self, placed: _Placed, clock: Clock) -> bool:
        """Whether a network was launched often enough at the nominal clock, or as often as may be."""
        if len(placed.launches) >= self._timing.most_rounds:
            return True
        steady = len(steady_launches(placed.launches, clock.nominal_ns))
        if steady >= self._timing.rounds or steady < self._timing.rounds // 2:
            return steady >= self._timing.rounds
        found = inferences(placed.launches, clock)
        return found.error_ns <= self._timing.sure * found.latency_ns

    def _launched(self, placed: _Placed) -> NetworkLaunch:
        """Inferences of one launch, and the kernels in their places in them."""
        timing = self._timing
        options = {"warmup": timing.warmup, "repeats": placed.repeats, "threads": self._threads}
        if not placed.calls_apart:
            bench = placed.program.bench(**options)
            # That has the reference before each inference; the one after the last is taken for the last.
            return NetworkLaunch(bench.samples_ns, reference_ns=(*bench.reference_ns, *bench.reference_ns[-1:]))
        found = placed.program.kernels(**options)
        if found.ended.returncode != ExitCode.OK:
            raise crashed("kernels", found.ended)
        if len(found.rows) != len(placed.calls) or not found.whole_ns:
            raise VerificationError(f"the program timed {len(found.rows)} of {len(placed.calls)} kernels")
        return NetworkLaunch(found.whole_ns, tuple(r.samples_ns for r in found.rows), found.rows[0].reference_ns)

    def records(self, clock: Clock) -> list[NetworkRecord]:
        """What was measured; the clock learns from it, but from no launch twice."""
        clock.meet([p.rows[p.met :] for p in self._placed])
        for placed in self._placed:
            placed.met = len(placed.launches)
        return [self._record(placed, clock) for placed in self._placed if placed.launches]

    def _record(self, placed: _Placed, clock: Clock) -> NetworkRecord:
        found, calls = inferences(placed.launches, clock), placed.calls
        places = defaultdict[KernelSpec, list[int]](list)
        for i, call in enumerate(calls):
            places[call.spec].append(i)
        kernels = tuple(
            Placed(spec, chosen(calls[at[0]].schedule), found.calls_ns[at].mean(), found.errors_ns[at].mean())
            for spec, at in places.items()
            if placed.calls_apart
        )
        if not all(p.latency_ns > 0 for p in kernels):
            kernels = ()  # a clock too coarse for them says nothing of any
        figures = (found.latency_ns, found.spread_ns, found.samples, self._info.evidence, found.reference_ns)
        return NetworkRecord(placed.kernels, *figures, placed=kernels)


@contextmanager
def whole_networks(
    device: Device, info: DeviceInfo, *, threads: int, timing: NetworkTiming | None = None
) -> Iterator[WholeNetworks]:
    """Networks to be timed on a device; they are removed when the ``with`` block ends."""
    with scratch(device, FOLDER) as home:
        yield WholeNetworks(device, info, home, threads, timing or NetworkTiming())
