"""The acceptance of a board: what a good one shows, what a bad one shows, and that it leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeprune.acceptance.board_check import board_check
from edgeprune.acceptance.outcome import Acceptance
from edgeprune.cli.main import main
from edgeprune.deploy.status import status
from edgeprune.devices.fake import FakeDevice, FakeFaults
from edgeprune.devices.subfolder import Subfolder
from edgeprune.errors import DeviceUnreachableError
from edgeprune.latency.jsonl import read_jsonl
from edgeprune.latency.store import ProfileStore
from edgeprune.models.loading import load_model
from edgeprune.targets import load_target

MODEL = ("zoo:resnet20", (1, 3, 16, 16))

# One worker runs them all: what they share takes seconds to make.
pytestmark = pytest.mark.xdist_group("board check")


def checked(device: FakeDevice, target: str = "host", **options: Path) -> Acceptance:
    return board_check(device, load_target(target), load_model(MODEL[0], input_shape=MODEL[1]), **options)


def files(folder: Path) -> set[Path]:
    return {p.relative_to(folder) for p in folder.rglob("*")}


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> tuple[Acceptance, FakeDevice, Path]:
    folder = tmp_path_factory.mktemp("good")
    device = FakeDevice(folder / "board")
    device.put(b"mine", "notes.txt")
    outcome = checked(device, store=folder / "kept.sqlite3", profile_out=folder / "kept.profile.jsonl")
    return outcome, device, folder


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


def test_the_profile_lies_beside_the_outcome_which_names_it(good):
    outcome, _, folder = good
    fingerprint, records, *_ = read_jsonl(folder / "kept.profile.jsonl")
    assert outcome.to_json()["profile"] == fingerprint.digest
    with ProfileStore(folder / "kept.sqlite3") as store:
        (profile,) = store.profiles()
        assert sorted(map(str, records)) == sorted(map(str, profile.records()))
    assert {r.evidence for r in records} == {"simulated"}


def test_one_command_writes_both_files_and_they_can_be_imported(capsys, home, tmp_path):
    arguments = ["board-check", "--device", f"fake:{tmp_path / 'board'}", "-q", "--out", str(tmp_path / "a.b.json")]
    assert main(arguments) == 0
    outcome = json.loads((tmp_path / "a.b.json").read_text())
    assert outcome["schema"] == "edgeprune.board-check/1"
    capsys.readouterr()
    assert main(["profiles", "import", str(tmp_path / "a.b.profile.jsonl"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == outcome["profile"]


def test_a_board_that_was_not_measured_has_an_outcome_and_no_profile(capsys, tmp_path):
    board = f"fake:{tmp_path / 'board'}"
    assert main(["board-check", "--device", board, "--target", "rpi4", "--out", str(tmp_path / "a.json"), "-q"]) == 7
    assert json.loads((tmp_path / "a.json").read_text())["profile"] is None
    assert not list(tmp_path.glob("*.jsonl"))


@pytest.mark.parametrize("out", ["absent/a.json", "."])
def test_where_nothing_can_be_written_nothing_is_tried(capsys, tmp_path, out):
    assert main(["board-check", "--device", f"fake:{tmp_path / 'board'}", "--out", str(tmp_path / out), "-q"]) == 2
    assert "folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


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
