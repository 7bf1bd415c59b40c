"""Power cuts in each state of a deployment (docs/FAULTS.md, 12): an emulated disk of that moment, booted again.

The board is stopped at each state, its disk copied as it is at that moment, and the board goes on. What its kernel
had not written yet is not in the copy, as after a real power cut: links, journal and files must be on the disk by then.
What a disk holds is looked at on one board that has all of them, which saves twelve boots; where a deployment goes on,
a board is switched on with that disk.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from deploy_bundles import DOUBLED, SAMPLE, compile_program, make_bundle, variant
from long_tests import long

from edgeprune.compiler.manifest import read_manifest
from edgeprune.deploy.flash import flash
from edgeprune.deploy.installed import installed
from edgeprune.deploy.journal import State
from edgeprune.deploy.rollback import rollback
from edgeprune.deploy.status import status
from edgeprune.devices.emulator.device import EmulatedDevice, switch_on
from edgeprune.devices.emulator.disk import make_disk
from edgeprune.devices.emulator.images import MODULES
from edgeprune.devices.emulator.machine import BOARDS

RETURNED = "returned"
SWITCHED = {*list(State)[list(State).index(State.SWITCHED) :], RETURNED}
JOURNALLED = set(list(State)[list(State).index(State.UPLOADING) : list(State).index(State.COMMITTED)])
CUT_AT = [*State, RETURNED]
DISK_BYTES = 64 << 20

pytestmark = pytest.mark.xdist_group("power")


class Cuts:
    """Copies of the disk, one a state, of a board on which "two" was flashed over "one"."""

    def __init__(self, folder: Path) -> None:
        program = compile_program(folder, "aarch64-linux-musl")
        self.bundles = {n: make_bundle(folder / n, variant(program, n)) for n in ("older", "one", "two")}
        self.release = {n: read_manifest(bundle).release_id for n, bundle in self.bundles.items()}
        self.folder, self.disk = folder, folder / "board.img"
        make_disk(self.disk, size=DISK_BYTES)
        with closing(EmulatedDevice("a53", disk=self.disk)) as board:
            for name in ("older", "one"):
                flash(self.bundles[name], board)
            self.group = board._machine._guard.pid
            flash(self.bundles["two"], board, on_state=self.cut)
            self.cut(RETURNED)

    def cut(self, state: str) -> None:
        os.killpg(self.group, signal.SIGSTOP)
        try:
            shutil.copyfile(self.disk, self.folder / f"{state}.img")
        finally:
            os.killpg(self.group, signal.SIGCONT)


@pytest.fixture(scope="module")
def cuts(emulator_disks: Path, tmp_path_factory: pytest.TempPathFactory) -> Cuts:
    return Cuts(tmp_path_factory.mktemp("cuts"))


def drive(file: Path) -> list[str]:
    """A disk that the board finds by its serial number; what it writes there is thrown away."""
    name = file.stem
    options = f"if=none,id={name},format=raw,snapshot=on,file={file}"
    return ["-drive", options, "-device", f"virtio-blk-device,drive={name},serial={name}"]


MOUNT = """for d in /sys/block/vd*; do
    s=$(cat $d/serial); mkdir /tmp/$s && mount -t ext4 -o noatime /dev/${d##*/} /tmp/$s || exit 1
done"""


@pytest.fixture(scope="module")
def all_disks(cuts: Cuts) -> Iterator[EmulatedDevice]:
    """A board switched on after the power cuts. It mounts each disk, and its kernel replays what it finds there."""
    extra = [word for state in CUT_AT for word in drive(cuts.folder / f"{state}.img")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BOARDS, "a53", replace(BOARDS["a53"], options=(*BOARDS["a53"].options, *extra)))
        machine = switch_on("a53")
    try:
        with closing(EmulatedDevice("a53", machine=machine, root="/tmp/none")) as board:
            load = "\n".join(f"insmod /lib/modules/{m} || exit 1" for m in MODULES)
            done = board.session.ask(f"({load}\n{MOUNT}) 2>&1", timeout_s=10)
            assert done.status == 0, done.data
            yield board
    finally:
        machine.close()


@pytest.mark.parametrize("state", CUT_AT)
def test_fault_12_after_a_power_cut_a_proven_release_is_current_and_runs(cuts, all_disks, state):
    board = all_disks
    # One session for all of them: where it is, is the device's folder.
    assert board.session.ask(f"cd /tmp/{state}/.edgeprune && df -P . | grep /tmp/{state}$").status == 0
    found = status(board)
    assert found.current == cuts.release["two" if state in SWITCHED else "one"]
    assert (found.interrupted is not None) is (state in JOURNALLED)
    assert found.owner is None or state != RETURNED
    assert installed(board).run([SAMPLE]) == [DOUBLED]


@pytest.fixture
def board(cuts: Cuts, state: str, tmp_path: Path) -> Iterator[EmulatedDevice]:
    """Switched on again after the cut."""
    disk = shutil.copyfile(cuts.folder / f"{state}.img", tmp_path / "board.img")
    with closing(EmulatedDevice("a53", disk=disk)) as device:
        yield device


@pytest.mark.parametrize(
    "state", long([State.UPLOADING, State.INSTALLED, State.SWITCHING], [State.UPLOADING, State.INSTALLED])
)
def test_fault_12_after_a_power_cut_the_same_flash_completes_and_can_be_taken_back(cuts, board, state):
    done = flash(cuts.bundles["two"], board, resume=True)
    now = status(board)
    assert (done.release, now.current, now.previous) == (cuts.release["two"], cuts.release["two"], cuts.release["one"])
    assert (now.partial, now.interrupted, now.owner) == ((), None, None)
    assert rollback(board).release == cuts.release["one"] == status(board).current
    assert installed(board).run([SAMPLE]) == [DOUBLED]
