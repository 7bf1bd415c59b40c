"""Deployments that end in the middle: kill -9, dropped links, lost replies."""

import json
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from deploy_bundles import DOUBLED, SAMPLE
from deploy_child import killed
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeprune.compiler.manifest import read_manifest
from edgeprune.deploy.board import Board
from edgeprune.deploy.flash import flash
from edgeprune.deploy.installed import installed
from edgeprune.deploy.journal import State
from edgeprune.deploy.layout import release_path
from edgeprune.deploy.package import installed_manifest
from edgeprune.deploy.placed import Placed
from edgeprune.deploy.rollback import rollback
from edgeprune.deploy.status import status
from edgeprune.devices.fake import FakeDevice, FakeFaults
from edgeprune.devices.owner import Owner
from edgeprune.errors import DeviceError, DeviceUnreachableError, RolledBackError

FILES = 5  # the program, two golden files, the weights, the manifest
MIDDLE_OF_A_FILE = "byte 300000"
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


def assert_whole(device, release):
    """The files of a release are those of its manifest, and it runs, current or not."""
    board, home = Board(device), release_path(release)
    manifest = installed_manifest(board, release)
    wanted = {f"{home}/{name}": entry.sha256 for name, entry in manifest.files.items()}
    assert board.altered(wanted) == []
    assert Placed(device, home, manifest, device.describe()).run([SAMPLE]) == [DOUBLED]


def assert_settled(device, *, current, previous):
    now = status(device)
    assert (now.current, now.previous) == (current, previous)
    assert set(now.releases) == {current, previous}
    assert (now.partial, now.interrupted, now.owner) == ((), None, None)
    assert {path.name for path in device.root.iterdir()} <= {"releases", "current", "previous", "io"}
    assert not [path for path in device.root.rglob("*") if ".partial" in path.name]
    assert installed(device).run([SAMPLE]) == [DOUBLED]


def test_every_state_is_killed():
    assert {*MOMENTS} == {*State, MIDDLE_OF_A_FILE}


@pytest.mark.parametrize("moment", MOMENTS)
def test_fault_12_kill_9_leaves_a_release_that_runs_and_resume_completes(tmp_path, bundle, board, weighty, moment):
    device = FakeDevice(copy_of(board, tmp_path))
    old, new = status(device).current, read_manifest(weighty).release_id
    assert killed("flash", device, moment, weighty)

    switched, journalled, left_to_send = MOMENTS[moment]
    found = status(device)
    assert found.current == (new if switched else old)
    assert found.owner_dead
    assert (found.interrupted is not None) is journalled
    if found.interrupted:
        assert (found.interrupted.release, found.interrupted.current) == (new, old)
    assert installed(device).run([SAMPLE]) == [DOUBLED]
    assert_whole(device, old)
    json.dumps(found.to_json())

    done = flash(weighty, device, resume=True)
    assert (done.release, done.files_sent) == (new, left_to_send)
    assert_settled(device, current=new, previous=old)
    assert rollback(device).release == old
    assert_settled(device, current=old, previous=new)


@pytest.mark.parametrize("moment", MOMENTS)
def test_fault_12_a_resume_that_is_killed_itself_is_resumed(tmp_path, board, weighty, moment):
    device = FakeDevice(copy_of(board, tmp_path))
    old, new = status(device).current, read_manifest(weighty).release_id
    assert killed("flash", device, "byte 100000", weighty)
    assert killed("resume", device, "byte 200000" if moment == MIDDLE_OF_A_FILE else moment, weighty)
    assert status(device).current == (new if MOMENTS[moment][0] else old)
    assert installed(device).run([SAMPLE]) == [DOUBLED]
    assert_whole(device, old)
    done = flash(weighty, device, resume=True)
    assert (done.release, done.previous) == (new, old)
    assert_settled(device, current=new, previous=old)


# moment of a rollback -> did it happen
BACK = {
    State.LOCKED: False,
    State.PROVED: False,
    State.SWITCHING: False,
    State.SWITCHED: True,
    State.CONFIRMED: True,
    State.COMMITTED: True,
}


def test_every_state_of_a_rollback_is_killed(tmp_path, board):
    seen = []
    rollback(FakeDevice(copy_of(board, tmp_path)), on_state=seen.append)
    assert seen == list(BACK)


@pytest.mark.parametrize("then", ["rollback", "resume"])
@pytest.mark.parametrize("moment", BACK)
def test_fault_12_kill_9_of_a_rollback(tmp_path, board, weighty, moment, then):
    """What was current stays so, or the previous release is, and has been proved once more."""
    device = FakeDevice(copy_of(board, tmp_path))
    before = status(device)
    assert killed("rollback", device, moment, weighty)
    found = status(device)
    assert found.current == (before.previous if BACK[moment] else before.current)
    assert found.owner_dead
    for release in (before.current, before.previous):
        assert_whole(device, release)
    if then == "resume":
        done = flash(weighty, device, resume=True)
        assert_settled(device, current=done.release, previous=found.current)
    else:
        done = rollback(device)
        assert_settled(device, current=done.release, previous=found.current)


MOMENTS_OF_ALL_KINDS = st.one_of(
    st.sampled_from(list(State)),
    st.integers(0, 60).map(lambda n: f"call {n}"),
    st.integers(0, 720_000).map(lambda n: f"byte {n}"),
    st.integers(0, 1_000).map(lambda n: f"byte {n}"),  # journals are short
)


@settings(max_examples=8, deadline=None)
@example([("rollback", "byte 100", 0), ("flash", "call 3", 0)])
@given(
    st.lists(
        st.tuples(st.sampled_from(["flash", "resume", "rollback"]), MOMENTS_OF_ALL_KINDS, st.integers(0, 1)),
        min_size=2,
        max_size=4,
    )
)
def test_fault_12_commands_that_are_killed_one_after_the_other(tmp_path_factory, bundle, board, weighty, deaths):
    device = FakeDevice(copy_of(board, tmp_path_factory.mktemp("deaths")))
    bundles = (weighty, bundle("three"))
    for command, moment, which in deaths:
        before = status(device)
        new = {before.previous} if command == "rollback" else {read_manifest(bundles[which]).release_id}
        if (journal := before.interrupted) and journal.switching:
            # The next command finishes or undoes that first, and its own previous release depends on it.
            new |= {journal.release, journal.current, journal.previous}
        killed(command, device, moment, bundles[which])
        assert status(device).current in {before.current, *new}
        assert installed(device).run([SAMPLE]) == [DOUBLED]
        assert_whole(device, before.current)
    ran = status(device).current
    done = flash(weighty, device, resume=True)
    assert done.release == read_manifest(weighty).release_id
    assert_settled(device, current=done.release, previous=done.previous)
    assert ran in (done.release, done.previous)


@settings(max_examples=6, deadline=None)
@given(moment=MOMENTS_OF_ALL_KINDS)
def test_fault_12_a_release_that_fails_its_checks_is_never_current(tmp_path_factory, bundle, board, moment):
    device = FakeDevice(copy_of(board, tmp_path_factory.mktemp("bad")))
    before = status(device)
    killed("flash", device, moment, bundle("wrong"))
    assert (status(device).current, status(device).previous) == (before.current, before.previous)
    with pytest.raises(RolledBackError):
        flash(bundle("wrong"), device, resume=True)
    assert_settled(device, current=before.current, previous=before.previous)


def test_what_killed_commands_left_is_removed_and_nothing_else(tmp_path, bundle, board):
    device = FakeDevice(copy_of(board, tmp_path))
    dead = replace(Owner.me(), boot="an earlier boot")
    for name in (".deploy.json.0badcafe.partial", ".0123456789abcdef.0badcafe.partial"):
        device.put(b"{", name)
    links = {".current.new": "releases/x", "switch-test": "nowhere", f"lock.{dead.token}": dead.to_text()}
    for name, target in links.items():
        (device.root / name).symlink_to(target)
    foreign = {".mine.partial", "lock.of-my-bike", "current.new"}
    for name in foreign:
        device.put(b"", name)
    before = {path.name for path in board.iterdir()}
    rollback(device)
    assert {path.name for path in device.root.iterdir()} == before | foreign


@pytest.mark.parametrize("byte", [100_000, 500_000])
def test_a_repair_that_was_killed_leaves_nothing_in_the_release(tmp_path, board, weighty, byte):
    device = FakeDevice(copy_of(board, tmp_path))
    done = flash(weighty, device)
    (device.root / "releases" / done.release / "weights.bin").write_bytes(b"rotten")
    assert killed("flash", device, f"byte {byte}", weighty)
    assert installed(device).run([SAMPLE]) == [DOUBLED]
    again = flash(weighty, device, resume=True)
    assert (again.state, again.files_sent) == ("unchanged", 1)
    assert_settled(device, current=done.release, previous=done.previous)


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


@pytest.fixture(scope="module")
def uploaded(bundle, board, tmp_path_factory):
    """Bytes that a whole flash of "two" and a whole rollback send, journals included."""
    flashing, back = (FakeDevice(copy_of(board, tmp_path_factory.mktemp("count"))) for _ in range(2))
    flash(bundle("two"), flashing)
    rollback(back)
    return {"flash": flashing.uploaded_bytes, "rollback": back.uploaded_bytes}


@settings(max_examples=10, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True), again=st.floats(0, 1, exclude_max=True))
@example(share=0.999, again=0.0)  # inside the journal of the switch
def test_fault_13_the_link_drops_at_any_byte(tmp_path_factory, bundle, board, uploaded, share, again):
    """Of a flash, and of the resume after it."""
    root = copy_of(board, tmp_path_factory.mktemp("drop"))
    old = status(FakeDevice(root)).current
    new = read_manifest(bundle("two")).release_id
    with pytest.raises(DeviceUnreachableError):
        flash(bundle("two"), FakeDevice(root, faults=FakeFaults(drop_after_bytes=int(share * uploaded["flash"]))))
    device = FakeDevice(root)
    found = status(device)
    assert found.current == old or (found.current == new and found.interrupted.switching)
    assert installed(device).run([SAMPLE]) == [DOUBLED]
    assert_whole(device, old)
    with suppress(DeviceUnreachableError):
        left = uploaded["flash"] * again
        flash(bundle("two"), FakeDevice(root, faults=FakeFaults(drop_after_bytes=int(left))), resume=True)
    assert status(device).current in (old, new)
    assert installed(device).run([SAMPLE]) == [DOUBLED]
    done = flash(bundle("two"), device, resume=True)
    assert_settled(device, current=done.release, previous=old)


@settings(max_examples=8, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True), then=st.sampled_from(["rollback", "resume"]))
def test_fault_13_the_link_drops_at_any_byte_of_a_rollback(tmp_path_factory, bundle, board, uploaded, share, then):
    root = copy_of(board, tmp_path_factory.mktemp("drop"))
    before = status(FakeDevice(root))
    with pytest.raises(DeviceUnreachableError):
        rollback(FakeDevice(root, faults=FakeFaults(drop_after_bytes=int(share * uploaded["rollback"]))))
    device = FakeDevice(root)
    ran = status(device).current
    assert ran in (before.current, before.previous)
    for release in (before.current, before.previous):
        assert_whole(device, release)
    done = rollback(device) if then == "rollback" else flash(bundle("two"), device, resume=True)
    assert_settled(device, current=done.release, previous=done.previous)
    assert ran in (done.release, done.previous)


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
        assert installed(device).run([SAMPLE]) == [DOUBLED]
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
