"""The acceptance of a board: what a good one shows, what a bad one shows, and that it leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.acceptance.board_check import board_check
from edgeprune.acceptance.outcome import Acceptance
from edgeprune.deploy.status import status
from edgeprune.devices.fake import FakeDevice, FakeFaults
from edgeprune.devices.subfolder import Subfolder
from edgeprune.errors import DeviceUnreachableError
from edgeprune.latency.store import ProfileStore
from edgeprune.models.loading import load_model
from edgeprune.targets import load_target

MODEL = ("zoo:resnet20", (1, 3, 16, 16))


def checked(device: FakeDevice, target: str = "host", **options: Path) -> Acceptance:
    return board_check(device, load_target(target), load_model(MODEL[0], input_shape=MODEL[1]), **options)


def files(folder: Path) -> set[Path]:
    return {p.relative_to(folder) for p in folder.rglob("*")}


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> tuple[Acceptance, FakeDevice, Path]:
    folder = tmp_path_factory.mktemp("good")
    device = FakeDevice(folder / "board")
    device.put(b"mine", "notes.txt")
    return checked(device, store=folder / "kept.sqlite3"), device, folder


def test_a_good_board_is_accepted(good):
    outcome, _, _ = good
    assert {c.name: c.status for c in outcome.checks} == dict.fromkeys(
        ("identity", "build", "transfer", "numerics", "timing", "prediction", "flash", "rollback"), "ok"
    )
    assert outcome.accepted
    body = outcome.to_json()
    assert (body["schema"], body["board"]["clock"]) == ("edgeprune.board-check/1", "virtual")


def test_figures_are_the_device_s_own_and_say_how_they_were_obtained(good):
    checks = {c.name: c for c in good[0].checks}
    assert checks["timing"].figures["two_quickest_apart"] == 0, "a virtual clock counts"
    assert checks["prediction"].figures["error"] == pytest.approx(0, abs=1e-6)
    assert 0 < checks["numerics"].figures["difference"] < 1e-5
    assert {checks[n].evidence for n in ("transfer", "numerics", "timing", "prediction", "flash")} == {"simulated"}
    assert checks["build"].evidence == "compiled"
    assert all(c.evidence for c in checks.values() if c.figures)


def test_nothing_is_left_behind_and_nothing_installed_is_touched(good):
    _, device, folder = good
    assert files(folder / "board") == {Path("notes.txt")}
    assert status(device).current is None
    with ProfileStore(folder / "kept.sqlite3") as store:
        (profile,) = store.profiles()
        assert len(profile.records()) > 10, "the owner of a board can pass on what was measured"


def test_a_board_of_another_kind_is_told_at_once(tmp_path):
    device = FakeDevice(tmp_path / "board")
    outcome = checked(device, "rpi4")
    assert [c.status for c in outcome.checks] == ["fail", *["skipped"] * 7]
    assert "is for aarch64" in outcome.checks[0].found
    assert not outcome.accepted
    assert files(tmp_path / "board") == set()


def test_bits_that_flip_on_the_way_fail_the_transfer(tmp_path):
    outcome = checked(FakeDevice(tmp_path / "board", faults=FakeFaults(flip_bit_at=8 * 1000)))
    transfer = next(c for c in outcome.checks if c.name == "transfer")
    assert (transfer.status, outcome.accepted) == ("fail", False)
    assert "altered" in transfer.found
    assert transfer.mend


def test_a_board_without_tools_fails_where_they_are_needed(tmp_path):
    outcome = checked(FakeDevice(tmp_path / "board", faults=FakeFaults(fail_command="sh")))
    assert not outcome.accepted
    assert outcome.checks[0].status == "fail"


def test_a_board_that_goes_away_is_an_error(tmp_path):
    with pytest.raises(DeviceUnreachableError):
        checked(FakeDevice(tmp_path / "board", faults=FakeFaults(drop_before_call=12)))


def test_a_folder_is_a_device_of_its_own(tmp_path):
    outer = FakeDevice(tmp_path / "board")
    inner = Subfolder(outer, "deep/inner")
    inner.put(b'#!/bin/sh\npwd; echo "$@"\n', "tool", executable=True)
    said = inner.run(["./tool", "a b", "$(x)"]).stdout.splitlines()
    assert said == [str(tmp_path / "board/deep/inner"), "a b $(x)"]
    assert inner.get("tool") == outer.get("deep/inner/tool")
    inner.close()
    assert not (tmp_path / "board/deep/inner").exists()
