"""Boards of one kind that share the work of a profile.

Each board has a thread of its own and is given the next piece of work when it is done with the last. A board that fails
is dropped, and what it was about to do is done by another. Boards of one kind are not equally quick: each is compared
with the one that leads, by the latency of one network, and figures are those of the leading board, wherever they were
measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import TypeVar

from edgeprune.devices.conditions import Conditions, Watch
from edgeprune.devices.protocol import Device, DeviceInfo
from edgeprune.errors import DeviceError, EdgepruneError, UsageError
from edgeprune.jsonable import Jsonable
from edgeprune.latency.networks import NetworkRecord
from edgeprune.latency.records import Fingerprint, KernelRecord, difference
from edgeprune.profiling.figures import Clock
from edgeprune.progress import SILENT, Progress

T = TypeVar("T")
R = TypeVar("R")

DIFFERENT = 0.03
"""Boards whose latencies differ by more (relative) are told apart."""


@dataclass(eq=False)
class Board:
    """A board at work.

    Attributes:
        clock: what is known of its clock.
        latency_ns: of the network by which boards are compared; 0 until they are.
        timed: kernels that were timed there, each with each schedule, and networks.
        lost: why it was dropped; None while it works.
        watch: what it shows of its clock and its heat.
    """

    device: Device
    info: DeviceInfo
    clock: Clock = field(default_factory=Clock)
    latency_ns: float = 0.0
    timed: int = 0
    lost: EdgepruneError | None = None
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = Watch(self.device.run, blind=self.info.counts)


@dataclass(frozen=True, slots=True)
class BoardShare(Jsonable):
    """The part of one board in a profile.

    Attributes:
        leads: whether figures are of this board.
        slowness: its latency, of that of the leading one; None where it was dropped before that was known.
        timed: kernels that were timed there, each with each schedule, and networks.
        lost: why it was dropped; empty if it was not.
        conditions: what it showed of its clock and its heat; None if it shows nothing.
    """

    url: str
    leads: bool
    slowness: float | None
    timed: int
    lost: str = ""
    conditions: Conditions | None = None


class Farm:
    """Boards of one kind; one is enough. Made by :func:`open_farm`.

    Attributes:
        boards: all of them, those that were dropped, too.
        lead: the board that figures are of. It leads even after it was lost: it was compared with the others before.
    """

    def __init__(self, boards: Sequence[Board], progress: Progress = SILENT) -> None:
        self.boards, self._progress = tuple(boards), progress
        self.lead = self.boards[0]

    @property
    def alive(self) -> list[Board]:
        return [b for b in self.boards if b.lost is None]

    @property
    def alone(self) -> bool:
        """Whether there is one board, and was no other."""
        return len(self.boards) == 1

    def shares(self) -> tuple[BoardShare, ...]:
        return tuple(
            BoardShare(
                b.device.url,
                b is self.lead,
                1.0 if b is self.lead else self.slowness(b) if b.latency_ns else None,
                b.timed,
                "" if b.lost is None else b.lost.message,
                b.watch.conditions,
            )
            for b in self.boards
        )

    def slowness(self, board: Board) -> float:
        """Latency of a board, of that of the leading one."""
        return board.latency_ns / self.lead.latency_ns

    def share(self, jobs: Iterable[T], work: Callable[[Board, T], R]) -> Iterator[tuple[T, R, Board]]:
        """Have each job done by a board that is free, and again by another where one fails; yields what comes of them
        as they end. Jobs are drawn when a board asks for one, in the thread of the caller.

        Raises:
            DeviceError: the last board failed.
        """
        if self.alone:
            for job in jobs:
                yield job, work(self.lead, job), self.lead
            return
        left, undone, running = iter(jobs), list[T](), dict[Future[R], tuple[Board, T]]()
        with ThreadPoolExecutor(len(self.boards), thread_name_prefix="board") as pool:
            while True:
                busy = {board for board, _ in running.values()}
                for board in (b for b in self.alive if b not in busy):
                    try:
                        job = undone.pop() if undone else next(left)
                    except StopIteration:
                        break
                    running[pool.submit(work, board, job)] = board, job
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    board, job = running.pop(future)
                    try:
                        result = future.result()
                    except DeviceError as e:
                        undone.append(job)
                        self.drop(board, e)
                    else:
                        yield job, result, board

    def on_each(self, work: Callable[[Board], R]) -> dict[Board, R]:
        """Have every board do the same, at once; those that fail are dropped.

        Raises:
            DeviceError: the last board failed.
        """
        if self.alone:
            return {self.lead: work(self.lead)}
        found = dict[Board, R]()
        with ThreadPoolExecutor(len(self.boards), thread_name_prefix="board") as pool:
            pending = {board: pool.submit(work, board) for board in self.alive}
            for board, future in pending.items():
                try:
                    found[board] = future.result()
                except DeviceError as e:
                    self.drop(board, e)
        return found

    def drop(self, board: Board, error: DeviceError) -> None:
        """Give a board no work from now on.

        Raises:
            DeviceError: it was the last one; this is its error.
        """
        board.lost = error
        if not self.alive:
            raise error
        if not self.alone:
            self._progress.note(f"{error.message}; the others do its work")

    def compared(self, latencies_ns: Mapping[Board, float], *, slowest: bool = False) -> None:
        """Take the speed of each board from the latency of one network at its nominal clock.

        Args:
            slowest: the slowest leads; else the first that has a latency.
        """
        for board, latency_ns in latencies_ns.items():
            board.latency_ns = latency_ns
        met = [b for b in self.boards if b in latencies_ns]
        self.lead = max(met, key=lambda b: b.latency_ns) if slowest else met[0]
        for board in met:
            by = self.slowness(board) - 1
            if abs(by) > DIFFERENT:
                self._progress.note(
                    f"{board.device.url} takes {abs(by):.0%} {'longer' if by > 0 else 'less long'} than "
                    f"{self.lead.device.url}, which figures are of"
                )

    def as_lead(self, board: Board, record: KernelRecord) -> KernelRecord:
        """What the leading board would have measured."""
        if board is self.lead or not record.ok:
            return record
        by = 1 / self.slowness(board)
        times = {n: getattr(record, n) * by for n in ("median_ns", "spread_ns", "min_ns")}
        return replace(record, **times, reference_ns=self._reference(board, record.reference_ns))

    def network_as_lead(self, board: Board, record: NetworkRecord) -> NetworkRecord:
        """As :meth:`as_lead`, of a whole network and of the kernels in it."""
        if board is self.lead:
            return record
        by = 1 / self.slowness(board)
        placed = tuple(replace(p, latency_ns=by * p.latency_ns, error_ns=by * p.error_ns) for p in record.placed)
        return replace(
            record,
            latency_ns=by * record.latency_ns,
            spread_ns=by * record.spread_ns,
            placed=placed,
            reference_ns=self._reference(board, record.reference_ns),
        )

    def _reference(self, board: Board, reference_ns: float) -> float:
        """The reference's time on the leading board at a clock that is as slow there as this is here."""
        nominal_ns = board.clock.nominal_ns
        return reference_ns / nominal_ns * self.lead.clock.nominal_ns if nominal_ns and reference_ns else 0.0


def open_farm(
    boards: Sequence[tuple[Device, DeviceInfo]],
    fingerprint_of: Callable[[DeviceInfo], Fingerprint],
    *,
    nominal_ns: float = 0.0,
    progress: Progress = SILENT,
) -> Farm:
    """Boards of one kind, with what each says of itself; the first leads until they are compared.

    Args:
        fingerprint_of: what has to agree.
        nominal_ns: what is known of the first one's clock.

    Raises:
        UsageError: they are not of one kind.
    """
    (first, info), *others = boards
    wanted = fingerprint_of(info)
    for device, said in others:
        if fields := difference(wanted, fingerprint_of(said)):
            named = "; ".join(f"{name} is {here!r} there and {there!r} here" for name, (here, there) in fields.items())
            raise UsageError(
                f"{device.url} is another kind of board than {first.url}: {named}",
                hint="profile each kind of board for itself",
                differences={name: list(pair) for name, pair in fields.items()},
            )
    nominal = [Clock(nominal_ns), *(Clock() for _ in others)]
    return Farm([Board(d, i, c) for (d, i), c in zip(boards, nominal, strict=True)], progress)
