"""Whole networks on the boards of a farm: each is timed on one of them, in turns with those that lie there, too."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

from edgeprune.compiler.lower import Lowered, lower
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.errors import DeviceError
from edgeprune.graph.channels import KernelGraph
from edgeprune.latency.networks import NetworkRecord
from edgeprune.profiling.farm import Board, Farm
from edgeprune.profiling.networks import NetworkTiming, WholeNetworks, whole_networks
from edgeprune.targets import Target


class SharedNetworks:
    """Networks to be timed on a farm; made by :func:`shared_networks`. Where a board fails, others have its networks.

    The interface is that of :class:`~edgeprune.profiling.networks.WholeNetworks`, with the clocks of the boards.
    """

    def __init__(self, farm: Farm, stack: ExitStack, threads: int, timing: NetworkTiming | None) -> None:
        self._farm, self._stack, self._threads, self._timing = farm, stack, threads, timing
        self._at: dict[Board, WholeNetworks] = {}
        self._there: dict[Board, list[tuple[Lowered, Target]]] = {}

    def __len__(self) -> int:
        return sum(len(self._at[board]) for board in self._farm.alive if board in self._at)

    @property
    def timed(self) -> set[str]:
        """Keys of the different kernels of all networks that were timed in their places."""
        return set[str]().union(*(whole.timed for whole in self._at.values()))

    def put(self, graph: KernelGraph, target: Target, book: ScheduleBook) -> None:
        """Add a network, to the board that has the fewest; raises what :meth:`WholeNetworks.put` raises.

        Raises:
            DeviceError: the last board failed.
        """
        self._place(lower(graph, None, target, book, name="timing"), target)

    def _place(self, lowered: Lowered, target: Target) -> None:
        while True:
            board = min(self._farm.alive, key=lambda b: len(self._there.get(b, ())))
            try:
                self._on(board).place(lowered, target)
            except DeviceError as e:
                self._farm.drop(board, e)
                self._replace(board)
            else:
                self._there.setdefault(board, []).append((lowered, target))
                board.timed += 1
                return

    def _on(self, board: Board) -> WholeNetworks:
        if board not in self._at:
            opened = whole_networks(board.device, board.info, threads=self._threads, timing=self._timing)
            self._at[board] = opened.__enter__()
            self._stack.push(partial(_leave, board, opened))
        return self._at[board]

    def _replace(self, lost: Board) -> None:
        """Give the networks of a board that was dropped to the others."""
        for lowered, target in self._there.pop(lost, ()):
            self._place(lowered, target)

    def settle(self, until: float = math.inf) -> None:
        """Launch all in turns, on each board those that lie there; as :meth:`WholeNetworks.settle`."""
        while True:
            before = set(self._farm.alive)
            self._farm.on_each(partial(self._settle, until=until))
            lost = before.difference(self._farm.alive)
            if not lost:
                return
            for board in lost:
                self._replace(board)

    def _settle(self, board: Board, *, until: float) -> None:
        if board in self._at:
            self._at[board].settle(board.clock, until)
            board.watch.look()

    def records(self) -> list[NetworkRecord]:
        """What was measured, as it would be on the board that leads."""
        return [
            self._farm.network_as_lead(board, record)
            for board in self._farm.alive
            if board in self._at
            for record in self._at[board].records(board.clock)
        ]


@contextmanager
def shared_networks(farm: Farm, *, threads: int, timing: NetworkTiming | None = None) -> Iterator[SharedNetworks]:
    """Networks to be timed on a farm; they are removed when the ``with`` block ends."""
    with ExitStack() as stack:
        yield SharedNetworks(farm, stack, threads, timing)


def compare(farm: Farm, graph: KernelGraph, target: Target, *, threads: int, slowest: bool = False) -> None:
    """Compare the boards of a farm by the latency of a network, each kernel with its first schedule.

    Args:
        slowest: as of :meth:`Farm.compared`.

    Raises:
        KernelBuildError, UnsupportedOperatorError: a kernel cannot be built.
        VerificationError: the program crashes on a board.
        DeviceError: the last board failed.
    """
    lowered = lower(graph, None, target, ScheduleBook(target), name="timing")

    def latency_ns(board: Board) -> float:
        with whole_networks(board.device, board.info, threads=threads) as whole:
            whole.place(lowered, target)
            whole.settle(board.clock)
            (record,) = whole.records(board.clock)
        return record.at_clock(board.clock.nominal_ns)

    farm.compared(farm.on_each(latency_ns), slowest=slowest)


def _leave(board: Board, opened: AbstractContextManager[WholeNetworks], *raised: Any) -> None:
    """What is left on a board that was dropped stays there until its next profile."""
    with nullcontext() if board.lost is None else suppress(DeviceError):
        opened.__exit__(*raised)
