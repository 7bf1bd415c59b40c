"""Boards of a TVM RPC tracker, and SSH boards, that share the work of a profile or of a fit."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rpc_servers import RpcServer, RpcTracker
from simulated_board import SimulatedBoard
from ssh_servers import Board, Me
from torch import nn

from edgeprune.api.opened import boards_of
from edgeprune.api.profiles import profile
from edgeprune.api.runs import fit
from edgeprune.compiler.cost import virtual_cost_ns
from edgeprune.devices.registry import open_device
from edgeprune.errors import RolledBackError, UsageError, VerificationError
from edgeprune.graph.network import read_network
from edgeprune.profiling import bench as benches
from edgeprune.progress import Silent

pytestmark = pytest.mark.xdist_group("rpc")


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    convs = nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()
    return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4)).eval()


@pytest.fixture
def tracked(rpc_tracker: RpcTracker) -> Iterator[tuple[str, list[RpcServer]]]:
    """The URL of a tracker's key, and the two servers under it."""
    where = f"127.0.0.1:{rpc_tracker.port}"
    servers = [RpcServer("--tracker", where, "--key", "farm") for _ in range(2)]
    try:
        rpc_tracker.wait_for(*servers)
        yield f"{rpc_tracker.url}/farm", servers
    finally:
        for server in servers:
            server.close()


INPUTS = (torch.zeros(1, 3, 16, 16),)
ASKED = {"example_inputs": INPUTS, "criterion": "l2", "points": 6, "tune": 1, "rounds": 3, "baseline": False}


def dense_ms(module: nn.Module) -> float:
    return sum(virtual_cost_ns(n.spec) for n in read_network(module, INPUTS).kernels.nodes) / 1e6


class Killing(Silent):
    """Kills a server when so many kernels are done."""

    def __init__(self, server: RpcServer, after: int) -> None:
        self.server, self.left, self.notes = server, after, list[str]()

    def advance(self, n: int = 1) -> None:
        self.left -= n
        if self.left == 0:
            self.server.signal(signal.SIGKILL)

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_profile_completes_though_one_of_two_servers_is_killed(module, tracked, tmp_path, monkeypatch):
    monkeypatch.setattr(benches, "BATCH", 4)
    url, servers = tracked
    with boards_of([url, url]) as boards:
        assert len({board.url for board in boards}) == 2, "the tracker gives another free one each time"
        second = next(s for s in servers if boards[1].url.endswith(f":{s.port}"))
        killing = Killing(second, after=4)
        done = profile(
            module,
            example_inputs=INPUTS,
            device=[SimulatedBoard(board) for board in boards],
            points=3,
            tune=1,
            store=tmp_path / "p.sqlite3",
            progress=killing,
        )
    assert killing.left <= 0
    assert [bool(board.lost) for board in done.boards] == [False, True]
    assert any("the others do its work" in note for note in killing.notes)
    assert done.failed == ()
    assert len(done.records) == done.measured > 12
    assert all(r.median_ns == pytest.approx(virtual_cost_ns(r.spec)) for r in done.records)


@pytest.fixture
def ssh_boards(tmp_path: Path, me: Me) -> Iterator[list[Board]]:
    """Two that ``me`` knows."""
    found = [Board(tmp_path / name, me.public_key).start() for name in ("quick", "slow")]
    known = ""
    for board in found:
        me.trust(board.port, board.host_key)
        known += me.known_hosts.read_text() + "\n"
    me.known_hosts.write_text(known)
    yield found
    for board in found:
        board.stop()


def test_a_fleet_keeps_the_budget_on_its_slowest_board(module, ssh_boards, tmp_path):
    """Two SSH boards of which one takes 10 % longer: what is promised holds on both, and would not if the quick one
    had been planned for.
    """
    with boards_of([board.url() for board in ssh_boards]) as boards:
        quick, slow = (SimulatedBoard(board, by) for board, by in zip(boards, (1.0, 1.1), strict=True))
        limit = 0.6 * dense_ms(module)

        def fitted(device, name: str, **more):
            asked = {"latency": limit, "store": tmp_path / f"{name}.sqlite3", "out": tmp_path / name, **ASKED}
            return fit(module, device=device, **asked, **more)

        alone = fitted(quick, "alone")
        assert alone.latency_ms > limit / 1.1, "on the slow one that would be too much"
        done = fitted([quick, slow], "fleet", fleet=True)
        assert done.met
        assert done.report.device.url == slow.url
        assert done.latency_ms <= limit
        (other,) = done.report.fleet
        assert other.url == quick.url
        (verdict,) = other.verdicts
        assert verdict.value == pytest.approx(done.latency_ms / 1.1, rel=0.02)
        releases = {ssh.home: (ssh.home / ".edgeprune" / "current").resolve().name for ssh in ssh_boards}
        assert set(releases.values()) == {done.result.deployment.release}
        assert f"on {quick.url}: kept" in str(done)
        assert quick.url in done.paths["report_html"].read_text()


def test_a_board_of_a_fleet_that_breaks_the_promise_is_named(module, ssh_boards, tmp_path):
    """The boards are compared, and then one gets slower: the others have the network, and it has none."""

    class Tiring(SimulatedBoard):
        def run(self, argv, *, timeout_s=60.0):
            self.by = 1.0 if self.launches < 2 else 2.0
            return super().run(argv, timeout_s=timeout_s)

    with boards_of([board.url() for board in ssh_boards]) as boards:
        steady, tiring = SimulatedBoard(boards[0]), Tiring(boards[1], 1.0)
        with pytest.raises((VerificationError, RolledBackError), match="over the budget") as e:
            fit(
                module,
                device=[steady, tiring],
                fleet=True,
                latency=0.6 * dense_ms(module),
                store=tmp_path / "p.sqlite3",
                out=tmp_path / "run",
                **ASKED,
            )
    assert e.value.details["board"] == tiring.url
    assert e.value.message.startswith(tiring.url)
    assert (ssh_boards[0].home / ".edgeprune" / "current").exists()
    assert not (ssh_boards[1].home / ".edgeprune" / "current").exists()


def test_a_fleet_of_one_and_a_board_that_is_named_twice_are_refused(module, home, tmp_path):
    with pytest.raises(UsageError, match="more than one board"):
        fit(
            module, device="fake:", fleet=True, latency="50%", criterion="l2", example_inputs=INPUTS, out=tmp_path / "x"
        )
    assert not (tmp_path / "x" / "stages").exists()
    same = f"fake:{tmp_path}/board"
    with pytest.raises(UsageError, match="named twice"), boards_of([same, same]):
        pass
    with open_device(same) as board, boards_of([board, f"fake:{tmp_path}/other"]) as both:
        assert len(both) == 2
