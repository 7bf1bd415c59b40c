"""Power cuts in each state of a deployment (docs/FAULTS.md, 12): an emulated disk of that moment, booted again.

The board is stopped at each state, its disk copied as it is at that moment, and the board goes on. What its kernel
had not written yet is not in the copy, as after a real power cut: links, journal and files must be on the disk by then.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from deploy_bundles import DOUBLED, SAMPLE, compile_program, make_bundle, variant

from edgeprune.compiler.manifest import read_manifest
from edgeprune.deploy.flash import flash
from edgeprune.deploy.installed import installed
from edgeprune.deploy.journal import State
from edgeprune.deploy.rollback import rollback
from edgeprune.deploy.status import status
from edgeprune.devices.emulator.device import EmulatedDevice
from edgeprune.devices.emulator.disk import make_disk

RETURNED = "returned"
SWITCHED = {*list(State)[list(State).index(State.SWITCHED) :], RETURNED}
JOURNALLED = set(list(State)[list(State).index(State.UPLOADING) : list(State).index(State.COMMITTED)])
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


@pytest.fixture
def board(cuts: Cuts, state: str, tmp_path: Path) -> Iterator[EmulatedDevice]:
    """Switched on again after the cut; the copy may be used by more than one test."""
    disk = shutil.copyfile(cuts.folder / f"{state}.img", tmp_path / "board.img")
    with closing(EmulatedDevice("a53", disk=disk)) as device:
        yield device


@pytest.mark.parametrize("state", [*State, RETURNED])
def test_fault_12_after_a_power_cut_a_proven_release_is_current_and_runs(cuts, board, state):
    found = status(board)
    assert found.current == cuts.release["two" if state in SWITCHED else "one"]
    assert (found.interrupted is not None) is (state in JOURNALLED)
    assert found.owner is None or state != RETURNED
    assert installed(board).run([SAMPLE]) == [DOUBLED]


@pytest.mark.parametrize("state", [State.UPLOADING, State.INSTALLED, State.SWITCHING])
def test_fault_12_after_a_power_cut_the_same_flash_completes_and_can_be_taken_back(cuts, board, state):
    done = flash(cuts.bundles["two"], board, resume=True)
    now = status(board)
    assert (done.release, now.current, now.previous) == (cuts.release["two"], cuts.release["two"], cuts.release["one"])
    assert (now.partial, now.interrupted, now.owner) == ((), None, None)
    assert rollback(board).release == cuts.release["one"] == status(board).current
    assert installed(board).run([SAMPLE]) == [DOUBLED]
