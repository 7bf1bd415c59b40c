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


def leave(device: FakeDevice, name: str) -> str:
    device.put(bytes(1000), f"trials/{name}/program")
    return name


def test_it_is_gone_at_the_end_and_after_an_error(device):
    with scratch(device, "trials") as one, scratch(device, "trials") as other:
        device.put(b"x", f"{one}/file")
        device.put(b"x", f"{other}/file")
        assert left(device) == {Path(one).name, Path(other).name}

    def fail() -> None:
        with scratch(device, "trials") as folder:
            device.put(b"x", f"{folder}/file")
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail()
    assert left(device) == set()


@pytest.mark.parametrize("moment", ["within the first file", "after it"])
def test_what_a_killed_process_left_goes_with_the_next_one(device, moment):
    program = (
        "import os, pathlib, signal, sys\nfrom edgeprune.devices.fake import FakeDevice\n"
        "from edgeprune.devices.scratch import scratch\n"
        "def die(*_, **__):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "device = FakeDevice(pathlib.Path(sys.argv[1]))\n"
        "with scratch(device, 'trials') as folder:\n"
        "    if sys.argv[2].startswith('within'):\n        os.replace = pathlib.Path.replace = die\n"
        "    device.put(b'x', folder + '/file')\n    die()\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(device.root), moment], check=False)
    assert killed.returncode == -signal.SIGKILL
    (folder,) = (device.root / "trials").iterdir()
    assert [p.name for p in folder.iterdir()] != ["file"] or moment == "after it"
    with scratch(device, "trials"):
        assert left(device) == set()


def test_what_may_still_be_in_use_stays(device):
    me = Owner.me()
    elsewhere = leave(device, replace(me, computer="another").to_name())
    inside = leave(device, replace(me, namespace="another").to_name())
    foreign = leave(device, "owner.of.a.name.like.ours")
    leave(device, replace(me, boot="an earlier boot").to_name())
    leave(device, replace(me, started="1").to_name())
    with scratch(device, "trials") as mine:
        leave(device, Path(mine).name)
        with scratch(device, "trials"):
            assert left(device) == {elsewhere, inside, foreign, Path(mine).name}


def test_a_name_tells_all_that_it_takes_to_know_whether_its_owner_lives():
    me = Owner.me()
    assert Owner.of_name(me.to_name()) == replace(me, host="", boot=me.boot[:8])
    assert me.host not in me.to_name()
    for name in ("", "file", "a.b.c.d.e.f", "a.b.c.1.e."):
        assert Owner.of_name(name) is None


def test_a_board_that_goes_away_inside_is_told_once(tmp_path):
    device = FakeDevice(tmp_path / "board", faults=FakeFaults(drop_before_call=2))  # list, write, read

    def work() -> None:
        with scratch(device, "trials") as folder:
            device.put(b"x", f"{folder}/file")
            device.get(f"{folder}/file")

    with pytest.raises(DeviceUnreachableError) as caught:
        work()
    assert caught.value.__context__ is None
    again = FakeDevice(tmp_path / "board")
    assert len(left(again)) == 1
    with scratch(again, "trials"):
        assert left(again) == set(), "this process knows that it no longer holds the other one"
