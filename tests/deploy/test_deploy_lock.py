import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from edgeprune.deploy.board import Board
from edgeprune.deploy.flash import flash
from edgeprune.deploy.journal import State
from edgeprune.deploy.lock import hold, read_owner
from edgeprune.deploy.rollback import rollback
from edgeprune.deploy.status import status
from edgeprune.devices.fake import FakeDevice, FakeFaults
from edgeprune.devices.owner import Owner
from edgeprune.errors import BusyError, DeviceError, DeviceUnreachableError


@pytest.fixture
def board(tmp_path):
    return Board(FakeDevice(tmp_path / "board"))


@pytest.fixture
def dead_pid():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def leave_lock(board, text, name="lock"):
    os.symlink(text, board.device.root / name)


def test_the_lock_names_its_owner_while_it_is_held(board):
    with hold(board) as owner:
        assert read_owner(board) == owner
        assert owner.pid == os.getpid()
        json.dumps(owner.to_json())
    assert read_owner(board) is None
    assert list(board.device.root.iterdir()) == []


def test_fault_24_a_second_run_is_told_who_is_there(board, bundle):
    with hold(board) as owner:
        for command in (lambda: flash(bundle("one"), board.device), lambda: rollback(board.device)):
            with pytest.raises(BusyError) as caught:
                command()
            assert caught.value.exit_code == 8
            assert caught.value.details["owner"] == owner.to_json()
        assert read_owner(board) == owner
    assert flash(bundle("one"), board.device).state == "installed"


def test_fault_24_two_runs_at_once_one_wins(board, bundle):
    """The second starts while the first is in every one of its states."""
    refused = []

    def compete(state: State) -> None:
        try:
            flash(bundle("two"), FakeDevice(board.device.root))
        except BusyError:
            refused.append(state)

    flash(bundle("one"), board.device, on_state=compete)
    assert refused == list(State)


def test_fault_24_a_stale_lock_is_recovered(board, dead_pid):
    leave_lock(board, replace(Owner.me(), pid=dead_pid).to_text())
    with hold(board) as owner:
        assert read_owner(board) == owner
    assert list(board.device.root.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "dead"),
    [
        ({"computer": "another"}, False),
        ({"boot": "an earlier boot"}, True),
        ({"namespace": "another container"}, False),
        ({"started": "1"}, True),
        ({"pid": 1, "started": "1"}, True),
        ({}, True),  # ours, but given up when a link dropped
    ],
)
def test_fault_24_only_what_is_certainly_dead_is_recovered(board, change, dead):
    left = replace(Owner.me(), **change)
    assert left.is_dead() is dead
    leave_lock(board, left.to_text())
    if dead:
        with hold(board):
            pass
        assert read_owner(board) is None
    else:
        with pytest.raises(BusyError), hold(board):
            pass
        assert read_owner(board) == left


def test_fault_24_a_living_process_keeps_its_lock(board):
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from edgeprune.deploy.board import Board\n"
        "from edgeprune.deploy.lock import hold\n"
        "from edgeprune.devices.fake import FakeDevice\n"
        "with hold(Board(FakeDevice(Path(sys.argv[1])))):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    arguments = [sys.executable, "-c", program, str(board.device.root)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BusyError) as caught, hold(board):
            pass
        assert caught.value.details["owner"]["pid"] == other.pid
        assert not status(board.device).owner_dead
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert status(board.device).owner_dead
        with hold(board):
            pass


@pytest.mark.parametrize("text", ["x", "{}", "[1]", '{"host": "a"}', "lock"])
def test_a_lock_of_something_else_is_never_removed(board, text):
    leave_lock(board, text)
    with pytest.raises(BusyError), hold(board):
        pass
    assert os.readlink(board.device.root / "lock") == text


def test_fault_24_one_of_many_recovers_a_stale_lock(board, dead_pid):
    """All of them see the same dead owner; never may two hold the lock."""
    for _ in range(5):
        leave_lock(board, replace(Owner.me(), pid=dead_pid).to_text())
        start, inside, most = threading.Barrier(4), [], []

        def contend(start=start, inside=inside, most=most) -> None:
            start.wait()
            try:
                with hold(Board(FakeDevice(board.device.root))) as owner:
                    inside.append(owner)
                    most.append(len(inside))
                    board.device.run(["sleep", "0.02"])
                    assert read_owner(board) == owner
                    inside.remove(owner)
            except BusyError:
                pass

        threads = [threading.Thread(target=contend) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(most) <= {1}
        assert [path.name for path in board.device.root.iterdir() if path.name != "lock"] == []
        board.device.remove("lock")


def test_a_recovery_that_was_killed_itself_is_recovered(board, dead_pid):
    stale = replace(Owner.me(), pid=dead_pid)
    leave_lock(board, stale.to_text())
    leave_lock(board, replace(Owner.me(), pid=dead_pid).to_text(), f"lock.{stale.token}")
    with hold(board):
        pass
    assert list(board.device.root.iterdir()) == []


def test_a_slow_recoverer_leaves_the_lock_of_a_faster_one(board, dead_pid):
    """Between reading the stale owner and removing its lock, someone else may have taken it."""
    leave_lock(board, replace(Owner.me(), pid=dead_pid).to_text())

    class Slow(FakeDevice):
        faster = None

        def run(self, argv, *, timeout_s=60.0):
            if argv[0] == "ln" and argv[-1] != "lock" and self.faster is None:
                self.faster = hold(board)
                self.faster.__enter__()
            return super().run(argv, timeout_s=timeout_s)

    slow = Slow(board.device.root)
    with pytest.raises(BusyError), hold(Board(slow)):
        pass
    assert read_owner(board) is not None
    slow.faster.__exit__(None, None, None)
    assert list(board.device.root.iterdir()) == []


def test_a_lock_given_back_while_we_ask_for_its_owner_is_taken(board):
    class Unlucky(FakeDevice):
        def run(self, argv, *, timeout_s=60.0):
            if argv[0] == "readlink":
                self.remove("lock")
            return super().run(argv, timeout_s=timeout_s)

    with hold(board), hold(Board(Unlucky(board.device.root))) as second:
        assert read_owner(board) == second


@pytest.mark.parametrize("fault", [DeviceError("x"), KeyboardInterrupt(), ValueError()])
def test_fault_24_the_lock_is_given_back_whatever_happens(board, bundle, fault):
    def fail(state: State) -> None:
        if state == State.PROVED:
            raise fault

    with pytest.raises(type(fault)):
        flash(bundle("one"), board.device, on_state=fail)
    assert read_owner(board) is None
    assert flash(bundle("one"), board.device, resume=True).state == "installed"


def test_a_lock_kept_by_a_dropped_link_does_not_shut_out_its_own_process(board):
    link = FakeDevice(board.device.root, faults=FakeFaults(drop_after_call=0))
    with pytest.raises(DeviceUnreachableError), hold(Board(link)):
        pass
    assert read_owner(board) is not None
    with hold(board):
        pass


def test_a_disk_that_cannot_hold_a_lock_is_no_busy_device(tmp_path):
    device = FakeDevice(tmp_path, faults=FakeFaults(read_only=True))
    with pytest.raises(DeviceError, match="Read-only"), hold(Board(device)):
        pass


def test_the_identity_of_the_computer_is_hashed():
    machine_id = Path("/etc/machine-id")
    if not machine_id.exists():
        pytest.skip("no machine id here")
    assert machine_id.read_text().strip() not in Owner.me().to_text()
