"""Profiles that edgeprune ships: planning at once, without the board, and only by what this very compiler made."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgeprune
from edgeprune.api import planning
from edgeprune.api.schedules import schedule_book
from edgeprune.compiler.kernels.registry import schedules_version
from edgeprune.compiler.objects import compiler_versions
from edgeprune.errors import DeviceUnreachableError
from edgeprune.graph.network import read_network
from edgeprune.latency.catalogue import shipped_files
from edgeprune.latency.store import ProfileStore
from edgeprune.targets import load_target

MODEL = {"target": "emulated_a53", "input_shape": (1, 3, 32, 32)}


@pytest.fixture
def no_board(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> None:
        raise DeviceUnreachableError("the board was asked")

    monkeypatch.setattr(planning, "board_of", asked)


def test_they_are_of_this_compiler():
    """Else nobody could use them: python tools/shipped_profiles.py makes them anew."""
    found = shipped_files()
    assert {f.fingerprint.target for f in found} >= {"emulated_a53", "emulated_a72"}
    for said in found:
        target = load_target(said.fingerprint.target)
        assert said.fingerprint.target_hash == target.digest
        assert said.fingerprint.schedules == schedules_version(target)
        assert said.fingerprint.compiler == compiler_versions(target)
        assert all(r.ok for r in said.records)


@pytest.mark.parametrize("name", ["emulated_a53", "emulated_a72"])
def test_a_plan_needs_no_board(no_board, tmp_path, name):
    asked = {**MODEL, "target": name}
    pruned = edgeprune.prune("zoo:resnet8", latency="50%", criterion="l2", out=tmp_path / "run", **asked)
    assert pruned.plan.predicted["evidence"] == "emulated"
    low, high = pruned.interval_ms
    assert low < pruned.latency_ms < high < 1.1 * pruned.latency_ms
    assert "to" in pruned.summary
    small = read_network(pruned.module, pruned.loaded.example_inputs)
    target, store = load_target(name), tmp_path / "no.sqlite3"
    book = schedule_book(small, target, store, target.default_device, 1, required=False, allow_mismatch=False)
    sources = {book.choose(n.spec).source for n in small.kernels.nodes}
    assert sources <= {"profile", "transfer"}, "compile takes the schedules that were planned with"


def test_a_profile_of_ones_own_goes_before(no_board, home, tmp_path):
    (said, *_) = [f for f in shipped_files() if f.fingerprint.target == "emulated_a53"]
    with ProfileStore(home / "profiles.sqlite3") as store:
        store.open_profile(said.fingerprint)
    with pytest.raises(DeviceUnreachableError, match="the board was asked"):
        edgeprune.prune("zoo:resnet8", latency="50%", criterion="l2", out=tmp_path / "run", **MODEL)


@pytest.mark.parametrize("asked", [{"threads": 2}, {"device": "emulated:a53"}, {"target": "aarch64_generic"}])
def test_one_of_something_else_is_not_taken(no_board, tmp_path, asked):
    with pytest.raises(DeviceUnreachableError, match="the board was asked"):
        edgeprune.prune("zoo:resnet8", latency="50%", criterion="l2", out=tmp_path / "run", **{**MODEL, **asked})


def test_a_stored_profile_is_drawn_with_its_steps():
    """Kernels that were timed inside networks are in the table as measured ones; the rest is estimated."""
    (path,) = (Path(planning.__file__).parents[2] / "profiles").glob("emulated_a53-*")
    board = edgeprune.load_profile(path)
    family = next(f for f in board.families() if f.widths.get("in", (0, 0))[1] == 16 and f.placed > 8)
    table = board.table(family.family)
    assert (~table.estimated).sum() >= family.placed
    assert table.estimated.any()
    assert table.latency_ms[-1, -1] == pytest.approx(table.latency_ms.max(), rel=0.01)
    for figure in (board.plot(family.family), board.heat_map(family.family)):
        assert figure.axes
    assert board.difference(board).found.kernels.median == 1.0
