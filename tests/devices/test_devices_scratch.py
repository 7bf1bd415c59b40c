"""Folders of one's own on a device: gone at the end, or once their owner is known to be dead."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgeprune.devices.fake import FakeDevice, FakeFaults
from edgeprune.devices.owner import Owner
from edgeprune.devices.scratch import scratch
from edgeprune.errors import DeviceUnreachableError


@pytest.fixture
def device(tmp_path: Path) -> FakeDevice:
    return FakeDevice(tmp_path / "board")


def left(device: FakeDevice) -> set[str]:
    return {p.name for p in (device.root / "trials").iterdir()}


def leave(device: FakeDevice, name: str, owner: str) -> None:
    device.put(owner.encode(), f"trials/{name}/owner.json")
    device.put(bytes(1000), f"trials/{name}/program")


def test_it_is_gone_at_the_end_and_after_an_error(device):
    with scratch(device, "trials") as one, scratch(device, "trials") as other:
        device.put(b"x", f"{one}/file")
        assert left(device) == {Path(one).name, Path(other).name}

    def fail() -> None:
        with scratch(device, "trials"):
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail()
    assert left(device) == set()


def test_what_a_killed_process_left_goes_with_the_next_one(device):
    program = (
        "import os, pathlib, signal, sys\nfrom edgeprune.devices.fake import FakeDevice\n"
        "from edgeprune.devices.scratch import scratch\n"
        "device = FakeDevice(pathlib.Path(sys.argv[1]))\n"
        "with scratch(device, 'trials') as folder:\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(device.root)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(left(device)) == 1
    with scratch(device, "trials") as mine:
        assert left(device) == {Path(mine).name}


def test_what_may_still_be_in_use_stays(device):
    me = Owner.me()
    leave(device, "elsewhere", replace(me, computer="another").to_text())
    leave(device, "foreign", "{}")
    device.put(b"", "trials/begun/.owner.json.partial")
    leave(device, "earlier", replace(me, boot="an earlier boot").to_text())
    with scratch(device, "trials") as mine:
        assert left(device) == {"elsewhere", "foreign", "begun", Path(mine).name}


def test_a_board_that_goes_away_inside_is_told_once(tmp_path):
    device = FakeDevice(tmp_path / "board", faults=FakeFaults(drop_before_call=2))

    def work() -> None:
        with scratch(device, "trials") as folder:
            device.get(f"{folder}/owner.json")

    with pytest.raises(DeviceUnreachableError) as caught:
        work()
    assert caught.value.__context__ is None
    again = FakeDevice(tmp_path / "board")
    with scratch(again, "trials") as mine:
        assert left(again) == {Path(mine).name}, "this process knows that it no longer holds the other one"
