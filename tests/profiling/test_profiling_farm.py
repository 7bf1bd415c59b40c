"""Boards that share a profile: whatever one of them does, the figures are those of the board that leads."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from simulated_board import SimulatedBoard

from edgeprune.compiler.cost import virtual_cost_ns
from edgeprune.devices.fake import FakeDevice
from edgeprune.devices.protocol import DeviceInfo
from edgeprune.errors import DeviceError, DeviceUnreachableError, UsageError
from edgeprune.latency.store import ProfileStore
from edgeprune.profiling import bench as benches
from edgeprune.profiling import profile
from edgeprune.profiling.farm import Board, Farm
from edgeprune.profiling.measure import TimingOptions

OPTIONS = profile.ProfileOptions(points=3, tune=1, timing=TimingOptions(warmup=0, repeats=2))


@pytest.fixture
def made(network, target, store, monkeypatch):
    """The profile that boards make together, a few kernels at a time, so that each has its part."""
    monkeypatch.setattr(benches, "BATCH", 4)

    def run(*boards, into: ProfileStore = store, **options) -> profile.ProfileResult:
        wanted = replace(OPTIONS, **options)
        first, *others = boards
        return profile.profile(network.kernels, network.channels, target, first, into, wanted, others=others)

    return run


def simulated(folder: Path, name: str, by: float = 1.0, dies_at: int | None = None) -> SimulatedBoard:
    return SimulatedBoard(FakeDevice(folder / name), by, dies_at)


def by_kernel(result: profile.ProfileResult) -> dict[str, float]:
    return {r.spec.key: r.median_ns for r in result.profile.records()}


def costs(result: profile.ProfileResult, by: float = 1.0) -> dict[str, float]:
    return {r.spec.key: pytest.approx(by * virtual_cost_ns(r.spec)) for r in result.profile.records()}


def test_each_board_does_its_part(made, tmp_path):
    done = made(*(simulated(tmp_path, name) for name in "abc"))
    assert done.failed == ()
    assert by_kernel(done) == costs(done)
    assert all(share.timed > 0 for share in done.boards)
    assert sum(share.timed for share in done.boards) == done.timings == done.measured == len(by_kernel(done))
    assert [(s.slowness, s.leads, s.lost) for s in done.boards] == [(1, True, ""), (1, False, ""), (1, False, "")]


def test_one_board_is_not_compared_with_anything(made, network, tmp_path):
    board = simulated(tmp_path, "a")
    done = made(board)
    own = len({n.spec.key for n in network.kernels.nodes})
    assert board.launches == math.ceil(own / 4) + math.ceil((done.timings - own) / 4), "those of the batches alone"
    assert [(s.slowness, s.leads, s.timed) for s in done.boards] == [(1, True, done.timings)]


@pytest.mark.parametrize("dies_at", [1, 2, 3])
def test_a_board_that_dies_is_dropped_and_its_work_redone(made, tmp_path, dies_at):
    whole = by_kernel(made(simulated(tmp_path, "whole")))
    with ProfileStore(tmp_path / "other.sqlite3") as other:
        done = made(simulated(tmp_path, "a"), simulated(tmp_path, "b", dies_at=dies_at), into=other)
        assert by_kernel(done) == whole
    first, second = done.boards
    assert "does not answer" in second.lost
    assert second.slowness == (None if dies_at == 1 else 1.0)
    assert first.timed + second.timed == done.timings == done.measured


def test_the_leading_board_may_die(made, tmp_path):
    """It was compared before, so figures go on being its own."""
    done = made(simulated(tmp_path, "a", by=1.25, dies_at=3), simulated(tmp_path, "b"))
    assert by_kernel(done) == costs(done, 1.25)
    assert [(s.leads, bool(s.lost)) for s in done.boards] == [(True, True), (False, False)]


def test_the_last_board_ends_it_and_what_was_measured_is_kept(made, tmp_path, store):
    with pytest.raises(DeviceUnreachableError, match="does not answer"):
        made(simulated(tmp_path, "a", dies_at=3), simulated(tmp_path, "b", dies_at=4))
    (kept,) = store.profiles()
    assert len(kept.records()) > 0
    done = made(simulated(tmp_path, "c"))
    assert done.reused == done.profile.records().__len__() - done.measured > 0


@pytest.mark.parametrize(("fleet", "lead"), [(False, 1.0), (True, 1.1)])
def test_figures_are_of_the_board_that_leads(made, tmp_path, fleet, lead):
    """That is the first, or in a fleet the slowest."""
    done = made(simulated(tmp_path, "quick"), simulated(tmp_path, "slow", by=1.1), fleet=fleet)
    assert by_kernel(done) == costs(done, lead)
    assert all(share.timed > 0 for share in done.boards)
    quick, slow = done.boards
    assert (quick.leads, slow.leads) == (not fleet, fleet)
    assert slow.slowness / quick.slowness == pytest.approx(1.1)


def test_boards_that_differ_are_reported(made, network, target, store, tmp_path):
    notes = []

    class Notes:
        def stage(self, name, total=None): ...
        def advance(self, n=1): ...
        def note(self, text):
            notes.append(text)

    boards = [simulated(tmp_path, "a"), simulated(tmp_path, "b", by=1.1), simulated(tmp_path, "c", by=1.01)]
    first, *others = boards
    few = replace(OPTIONS, points=1)
    profile.profile(network.kernels, network.channels, target, first, store, few, others=others, progress=Notes())
    assert notes == [f"{boards[1].url} takes 10% longer than {first.url}, which figures are of"]


def test_boards_of_two_kinds_are_refused(made, tmp_path, store):
    class Other(SimulatedBoard):
        def describe(self) -> DeviceInfo:
            return replace(super().describe(), cores=4)

    with pytest.raises(UsageError, match=r"b is another kind .* device.cores is 1 there and 4 here"):
        made(simulated(tmp_path, "a"), Other(FakeDevice(tmp_path / "b")))
    assert [len(p) for p in store.profiles()] == [0]


def test_work_is_drawn_as_boards_are_free(tmp_path):
    """A slow board gets less of it, and nothing is drawn ahead of what boards can take."""
    info = FakeDevice(tmp_path / "board").describe()
    quick, slow = (Board(FakeDevice(tmp_path / name), info) for name in "ab")
    farm, drawn, held = Farm([quick, slow]), [], threading.Event()

    def jobs():
        for job in range(6):
            drawn.append(job)
            yield job

    def work(board: Board, job: int) -> int:
        if board is slow:
            assert held.wait(10)
        return job * job

    found = []
    for job, result, board in farm.share(jobs(), work):
        assert len(drawn) <= len(found) + 2
        found.append((job, result, board is quick))
        if len(found) == 5:
            held.set()
    assert sorted(job for job, _, _ in found) == list(range(6))
    assert all(result == job * job for job, result, _ in found)
    assert [by_quick for _, _, by_quick in found] == [True] * 5 + [False]


def test_a_mistake_of_ours_is_no_lost_board(tmp_path):
    info = FakeDevice(tmp_path / "board").describe()
    farm = Farm([Board(FakeDevice(tmp_path / name), info) for name in "ab"])

    def work(board: Board, job: int) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(farm.share([1, 2], work))
    assert len(farm.alive) == 2
    with pytest.raises(ZeroDivisionError):
        farm.on_each(lambda board: 1 // 0)
    farm.drop(farm.boards[0], DeviceError("gone"))
    with pytest.raises(DeviceError, match="gone too"):
        farm.drop(farm.boards[1], DeviceError("gone too"))
