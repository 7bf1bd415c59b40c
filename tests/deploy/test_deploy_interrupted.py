"""Deployments that end in the middle: kill -9, dropped links, lost replies."""

import json
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from deploy_bundles import DOUBLED, SAMPLE
from deploy_child import MIDDLE_OF_A_FILE
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.compiler.manifest import read_manifest
from edgeprune.deploy.flash import flash
from edgeprune.deploy.installed import run_installed
from edgeprune.deploy.journal import State
from edgeprune.deploy.rollback import rollback
from edgeprune.deploy.status import status
from edgeprune.devices.fake import FakeDevice, FakeFaults
from edgeprune.errors import DeviceError, DeviceUnreachableError, RolledBackError

FILES = 5  # the program, two golden files, the weights, the manifest
# moment -> (is the new release current, does the journal tell of it, files that resume still sends)
MOMENTS = {
    State.LOCKED: (False, False, FILES),
    State.CHECKED: (False, False, FILES),
    State.UPLOADING: (False, True, FILES),
    MIDDLE_OF_A_FILE: (False, True, 2),
    State.UPLOADED: (False, True, 0),
    State.INSTALLED: (False, True, 0),
    State.PROVED: (False, True, 0),
    State.TIMED: (False, True, 0),
    State.SWITCHING: (False, True, 0),
    State.SWITCHED: (True, True, 0),
    State.CONFIRMED: (True, True, 0),
    State.COMMITTED: (True, False, 0),
    State.PRUNED: (True, False, 0),
}


@pytest.fixture(scope="module")
def weighty(bundle):
    return bundle("two", files={"weights.bin": bytes(700_000)})


@pytest.fixture(scope="module")
def board(bundle, tmp_path_factory):
    """A board on which "older" and then "one" were flashed; copied, never used."""
    device = FakeDevice(tmp_path_factory.mktemp("board") / "board")
    flash(bundle("older"), device)
    flash(bundle("one"), device)
    return device.root


def copy_of(board: Path, folder: Path) -> Path:
    return shutil.copytree(board, folder / "board", symlinks=True)


def assert_settled(device, *, current, previous):
    now = status(device)
    assert (now.current, now.previous) == (current, previous)
    assert set(now.releases) == {current, previous}
    assert (now.partial, now.interrupted, now.owner) == ((), None, None)
    assert not list(device.root.rglob("*.partial"))
    assert run_installed(device, [SAMPLE]) == [DOUBLED]


def test_every_state_is_killed():
    assert {*MOMENTS} == {*State, MIDDLE_OF_A_FILE}


@pytest.mark.parametrize("moment", MOMENTS)
def test_fault_12_kill_9_leaves_a_release_that_runs_and_resume_completes(tmp_path, bundle, board, weighty, moment):
    device = FakeDevice(copy_of(board, tmp_path))
    old, new = status(device).current, read_manifest(weighty).release_id
    script = Path(__file__).with_name("deploy_child.py")
    child = subprocess.run([sys.executable, str(script), str(weighty), f"fake:{device.root}", moment])
    assert child.returncode == -signal.SIGKILL

    switched, journalled, left_to_send = MOMENTS[moment]
    found = status(device)
    assert found.current == (new if switched else old)
    assert found.owner_dead
    assert (found.interrupted is not None) is journalled
    if found.interrupted:
        assert (found.interrupted.release, found.interrupted.current) == (new, old)
    assert run_installed(device, [SAMPLE]) == [DOUBLED]
    json.dumps(found.to_json())

    done = flash(weighty, device, resume=True)
    assert (done.release, done.files_sent) == (new, left_to_send)
    assert_settled(device, current=new, previous=old)
    assert rollback(device).release == old
    assert_settled(device, current=old, previous=new)


def test_without_resume_a_partial_upload_is_sent_again_from_the_start(tmp_path, board, weighty):
    device = FakeDevice(copy_of(board, tmp_path))
    with pytest.raises(DeviceUnreachableError):
        flash(weighty, FakeDevice(device.root, faults=FakeFaults(drop_after_bytes=300_000)))
    assert status(device).partial == (read_manifest(weighty).release_id,)
    assert flash(weighty, device).files_sent == FILES


def test_resume_does_not_trust_what_lies_in_a_partial_upload(tmp_path, board, weighty):
    device = FakeDevice(copy_of(board, tmp_path))
    with pytest.raises(DeviceUnreachableError):
        flash(weighty, FakeDevice(device.root, faults=FakeFaults(drop_after_bytes=300_000)))
    (partial,) = device.root.glob("releases/*.partial")
    (partial / "golden.in").write_bytes(bytes(16))
    (partial / "stray").write_bytes(b"x")
    done = flash(weighty, device, resume=True)
    assert done.files_sent == 1 + 2
    assert not (device.root / "releases" / done.release / "stray").exists()


def test_a_partial_upload_of_another_bundle_is_dropped(tmp_path, bundle, board, weighty):
    device = FakeDevice(copy_of(board, tmp_path))
    old = status(device).current
    with pytest.raises(DeviceUnreachableError):
        flash(weighty, FakeDevice(device.root, faults=FakeFaults(drop_after_bytes=300_000)))
    done = flash(bundle("three"), device, resume=True)
    assert_settled(device, current=done.release, previous=old)


@settings(max_examples=10, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_fault_13_the_link_drops_at_any_byte(tmp_path_factory, bundle, board, share):
    root = copy_of(board, tmp_path_factory.mktemp("drop"))
    total = sum(path.stat().st_size for path in bundle("two").iterdir())
    link = FakeDevice(root, faults=FakeFaults(drop_after_bytes=int(share * total)))
    old = status(FakeDevice(root)).current
    with pytest.raises(DeviceUnreachableError):
        flash(bundle("two"), link)
    device = FakeDevice(root)
    assert status(device).current == old
    assert run_installed(device, [SAMPLE]) == [DOUBLED]
    done = flash(bundle("two"), device, resume=True)
    assert_settled(device, current=done.release, previous=old)


@pytest.mark.parametrize("name", ["two", "crash as current"])
def test_fault_13_the_link_drops_at_each_call_of_a_switch(tmp_path, bundle, board, name):
    """Rollback finishes or undoes the switch first, and goes back from there."""
    device = FakeDevice(copy_of(board, tmp_path / "count"))
    before, at = status(FakeDevice(board)), {}
    old, new = before.current, read_manifest(bundle(name)).release_id
    with suppress(RolledBackError):
        flash(bundle(name), device, on_state=lambda state: at.setdefault(state, device.calls))
    seen = set()
    for n in range(at[State.TIMED], at.get(State.COMMITTED, device.calls - 4)):
        device = FakeDevice(copy_of(board, tmp_path / str(n)))
        with pytest.raises((DeviceUnreachableError, RolledBackError)):
            flash(bundle(name), FakeDevice(device.root, faults=FakeFaults(drop_before_call=n)))
        now = status(device)
        seen.add((now.current, now.previous == old))
        settled = now.current == new and name == "two"
        back = rollback(device)
        assert (back.release, back.previous) == ((old, new) if settled else (before.previous, old))
        after = status(device)
        assert (after.current, after.previous, after.interrupted) == (back.release, back.previous, None)
    # The sweep met the board before, in the middle of and after the switch.
    assert {(old, False), (new, False), (new, True)} <= seen


def test_a_bad_release_left_current_is_undone_before_the_next_is_flashed(tmp_path, bundle, board):
    device = FakeDevice(copy_of(board, tmp_path))
    old = status(device).current

    def stop(state: State) -> None:
        if state == State.SWITCHED:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flash(bundle("crash as current"), device, on_state=stop)
    assert status(device).current == read_manifest(bundle("crash as current")).release_id
    done = flash(bundle("three"), device)
    assert_settled(device, current=done.release, previous=old)


@pytest.fixture(scope="module")
def calls(bundle, board, tmp_path_factory):
    """How many calls to the device a flash of each bundle makes."""
    counted = {}
    for name in ("two", "crash as current", "older"):
        device = FakeDevice(copy_of(board, tmp_path_factory.mktemp("count")))
        with suppress(RolledBackError):
            flash(bundle(name), device)
        counted[name] = device.calls
    return counted


@settings(max_examples=12, deadline=None)
@given(
    share=st.floats(0, 1, exclude_max=True),
    reply_lost=st.booleans(),
    name=st.sampled_from(["two", "crash as current", "older"]),
    then=st.sampled_from(["flash", "resume", "rollback"]),
)
def test_fault_13_the_link_drops_at_any_call(tmp_path_factory, bundle, board, calls, share, reply_lost, name, then):
    """Whatever was under way, the next command finds a board that it can finish or undo."""
    folder = tmp_path_factory.mktemp("drop")
    n = int(share * calls[name])
    root = copy_of(board, folder)
    before = status(FakeDevice(root))
    old, new = before.current, read_manifest(bundle(name)).release_id
    faults = FakeFaults(drop_after_call=n) if reply_lost else FakeFaults(drop_before_call=n)
    with pytest.raises((DeviceError, RolledBackError)) as caught:
        flash(bundle(name), FakeDevice(root, faults=faults))
    if isinstance(caught.value, RolledBackError):
        assert name == "crash as current"

    device = FakeDevice(root)
    assert status(device).current in (old, new)
    assert (root / "releases" / old / "model").exists()
    if name == "crash as current":
        with pytest.raises(RolledBackError):
            flash(bundle(name), device, resume=then == "resume")
        assert_settled(device, current=old, previous=before.previous)
    elif then == "rollback":
        links = {rollback(device).release, status(device).previous}
        assert links <= {old, new, before.previous}
        assert len(links) == 2
        assert run_installed(device, [SAMPLE]) == [DOUBLED]
    else:
        flash(bundle(name), device, resume=then == "resume")
        assert_settled(device, current=new, previous=old)


def test_a_journal_that_makes_no_sense_stops_and_says_what_to_do(tmp_path, bundle, board):
    device = FakeDevice(copy_of(board, tmp_path))
    for text in (b"", b"{", b"[]", b"{}", b'{"schema":"edgeprune.deploy/1","state":"asleep"}', b"\xff"):
        device.put(text, "deploy.json")
        with pytest.raises(DeviceError, match=r"deploy\.json") as caught:
            flash(bundle("two"), device)
        assert "remove" in caught.value.hint
    device.remove("deploy.json")
    assert flash(bundle("two"), device).state == "installed"
