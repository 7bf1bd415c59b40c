"""A device that changes its speed while it is timed (docs/FAULTS.md, 11): measured again, flagged, refused at last."""

from __future__ import annotations

from pathlib import Path

import pytest
from profiling_clocks import Clocked

from edgeprune.devices.fake import FakeDevice
from edgeprune.errors import DeviceError
from edgeprune.profiling import bench, measure


class Throttling(Clocked):
    """In each run of a timing program that ``drifts`` names, every kernel takes longer than the one before, the last
    ``by`` times as long as the first. There is no reference loop, as on a GPU.
    """

    def __init__(self, root: Path, drifts: range, by: float = 1.5) -> None:
        super().__init__(root)
        self.drifts, self.by = drifts, by

    def slowed(self, rows) -> None:
        if self.launches in self.drifts:
            for i, row in enumerate(rows):
                row["samples"] = [s * self.by ** (i / (len(rows) - 1)) for s in row["samples"]]


def medians(result) -> dict[str, float]:
    return {r.spec.key: r.median_ns for r in result.profile.records()}


def test_a_steady_device_is_measured_once(profiled, tmp_path):
    device = Throttling(tmp_path / "board", drifts=range(0))
    result = profiled(device)
    assert (result.drifted, device.launches, result.failed) == (0, 1, ())
    assert {r.flags for r in result.profile.records()} == {()}


@pytest.mark.parametrize("by", [1.5, 0.5, 3.0])
def test_what_was_timed_while_the_speed_changed_is_timed_again_and_flagged(profiled, store, tmp_path, by):
    device = Throttling(tmp_path / "board", drifts=range(2), by=by)
    result = profiled(device)
    assert device.launches == 3
    assert result.drifted == result.measured == len(medians(result))
    assert {r.flags for r in result.profile.records()} == {("drift",)}
    # A virtual clock lies below: what counts is what it said when the speed no longer changed.
    steady = FakeDevice(tmp_path / "steady")
    assert medians(result) == medians(profiled(steady))


def test_of_attempts_that_all_drift_a_little_the_steadiest_is_kept_and_flagged(profiled, tmp_path):
    device = Throttling(tmp_path / "board", drifts=range(99), by=1.5)
    result = profiled(device)
    assert (device.launches, result.drifted, result.failed) == (measure.ATTEMPTS, result.measured, ())


def test_a_device_that_never_keeps_its_speed_is_refused_and_earlier_batches_stay(
    profiled, store, tmp_path, monkeypatch
):
    monkeypatch.setattr(bench, "BATCH", 3)
    device = Throttling(tmp_path / "board", drifts=range(1, 99), by=2.5)
    with pytest.raises(DeviceError, match="in all 5 attempts its speed changed by 150% or more") as caught:
        profiled(device)
    assert device.launches == 1 + measure.ATTEMPTS
    assert "docs/boards" in caught.value.hint
    (kept,) = store.profiles()
    assert [r.status for r in kept.records()] == ["ok"] * 3
    assert not list((device.root / measure.FOLDER).rglob("*")), "nothing stays on the device"
    device.drifts = range(0)
    assert (profiled(device).reused, len(kept.records()) > 3) == (3, True)
