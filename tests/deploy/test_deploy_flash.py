import json
import shutil
from dataclasses import replace

import pytest
from deploy_bundles import DOUBLED, SAMPLE, make_bundle, needing_a_newer_libc, with_elf_machine

from edgeprune.budget.promise import Limit, Promise
from edgeprune.compiler.manifest import read_manifest
from edgeprune.deploy.flash import Deployment, flash
from edgeprune.deploy.installed import bench_installed, installed
from edgeprune.deploy.journal import State
from edgeprune.deploy.rollback import rollback
from edgeprune.deploy.standard import Standard
from edgeprune.deploy.status import status
from edgeprune.deploy.timing import LAUNCHES
from edgeprune.devices.fake import FakeDevice, FakeFaults
from edgeprune.devices.local.device import LocalDevice
from edgeprune.devices.protocol import Completed
from edgeprune.errors import (
    BadInputError,
    BundleError,
    DeviceError,
    DeviceUnreachableError,
    RolledBackError,
    UsageError,
    VerificationError,
)


def release_of(bundle):
    return read_manifest(bundle).release_id


@pytest.fixture
def device(tmp_path):
    return FakeDevice(tmp_path / "board")


def assert_clean(device, *, current, previous=None):
    """Exactly these releases, working links, no lock, nothing left over."""
    now = status(device)
    assert (now.current, now.previous) == (current, previous)
    assert set(now.releases) == {current, previous} - {None}
    assert (now.partial, now.interrupted, now.owner) == ((), None, None)
    allowed = {"releases", "current", "previous", "io"}
    assert {path.name for path in device.root.iterdir()} <= allowed
    assert not [path for path in device.root.rglob("*") if ".partial" in path.name or ".new" in path.name]


def test_flash_installs_proves_and_runs(device, bundle):
    states = []
    done = flash(bundle("one"), device, on_state=states.append)
    assert states == list(State)
    assert (done.release, done.previous, done.state) == (release_of(bundle("one")), None, "installed")
    assert (done.golden.max_abs_diff, done.golden.scale) == (0.0, 7.0)
    assert (set(done.timing.samples_ms), done.timing.clock, done.timing.evidence) == ({1.0}, "virtual", "simulated")
    assert done.verdicts == (), "nothing was promised"
    assert done.bytes_sent == sum(path.stat().st_size for path in bundle("one").iterdir())
    assert_clean(device, current=done.release)
    assert installed(device).run([SAMPLE]) == [DOUBLED]
    assert json.loads(json.dumps(done.to_json()))["timing"]["clock"] == "virtual"
    assert Deployment.from_json(json.loads(json.dumps(done.to_json()))) == done


def test_the_same_machine_runs_on_this_computer_with_a_real_clock(tmp_path, bundle):
    device = LocalDevice(tmp_path / "board")
    done = flash(bundle("one"), device)
    assert (done.timing.clock, done.timing.evidence) == ("monotonic", "measured")
    assert len(done.timing.launches) == LAUNCHES
    assert_clean(device, current=done.release)


def test_a_virtual_clock_is_never_called_measured(tmp_path, bundle):
    done = flash(bundle("always virtual"), LocalDevice(tmp_path / "board"))
    assert (done.timing.clock, done.timing.evidence) == ("virtual", "simulated")


def test_only_files_marked_for_it_go_to_the_device(device, bundle):
    folder = bundle("one", files={"model.h": b"// for the engineer", "extra.bin": b"for the board"})
    release = flash(folder, device).release
    names = {path.name for path in (device.root / "releases" / release).iterdir()}
    assert names == {"model", "golden.in", "golden.out", "extra.bin", "manifest.json"}


def test_the_second_release_keeps_the_first_and_the_third_drops_it(device, bundle):
    one, two, three = (flash(bundle(name), device).release for name in ("one", "two", "three"))
    assert len({one, two, three}) == 3
    assert_clean(device, current=three, previous=two)


def test_foreign_files_beside_the_releases_are_left_alone(device, bundle):
    device.put(b"x", "releases/notes.txt")
    flash(bundle("one"), device)
    assert device.get("releases/notes.txt") == b"x"


def test_flashing_what_is_current_sends_nothing_and_changes_nothing(device, bundle):
    flash(bundle("one"), device)
    first = flash(bundle("two"), device)
    again = flash(bundle("two"), device)
    assert (again.state, again.files_sent, again.bytes_sent) == ("unchanged", 0, 0)
    assert (again.release, again.previous) == (first.release, first.previous)
    assert_clean(device, current=first.release, previous=first.previous)


def test_flashing_a_current_release_that_rotted_repairs_it(device, bundle):
    release = flash(bundle("one"), device).release
    for name in ("model", "manifest.json"):
        path = device.root / "releases" / release / name
        path.write_bytes(path.read_bytes()[:-1])
    again = flash(bundle("one"), device)
    assert (again.state, again.files_sent) == ("unchanged", 2)
    assert installed(device).run([SAMPLE]) == [DOUBLED]


def test_flashing_the_previous_release_goes_back_to_it(device, bundle):
    one, two = (flash(bundle(name), device).release for name in ("one", "two"))
    again = flash(bundle("one"), device)
    assert (again.release, again.previous, again.files_sent) == (one, two, 0)
    assert_clean(device, current=one, previous=two)


def test_fault_14_a_bit_flipped_in_storage_is_found_by_the_device_hash(device, bundle):
    good = flash(bundle("one"), device).release
    bits = 8 * (bundle("two") / "model").stat().st_size
    for flip_at in (3, bits // 2, bits - 1):
        flipped = FakeDevice(device.root, faults=FakeFaults(flip_bit_at=8 * 1000 + flip_at))
        with pytest.raises(VerificationError, match="not what was sent") as caught:
            flash(bundle("two"), flipped)
        assert caught.value.exit_code == 7
        assert len(caught.value.details["files"]) == 1
        assert status(device).current == good
        assert status(device).releases == (good,)
        assert installed(device).run([SAMPLE]) == [DOUBLED]
    resumed = flash(bundle("two"), device, resume=True)
    assert resumed.files_sent == 1
    assert_clean(device, current=resumed.release, previous=good)


def test_fault_15_too_little_space_is_found_before_the_upload(device, bundle):
    good = flash(bundle("one"), device).release
    states = []
    small = FakeDevice(device.root, faults=FakeFaults(disk_bytes=100_000))
    with pytest.raises(DeviceError, match="are free") as caught:
        flash(bundle("two", files={"big.bin": bytes(90_000)}), small, on_state=states.append)
    assert caught.value.details["needed_bytes"] > caught.value.details["free_bytes"]
    assert State.UPLOADING not in states
    assert small.uploaded_bytes == 0
    assert_clean(device, current=good)


class OldTools(FakeDevice):
    """Its mv knows no -T, as that of an older busybox."""

    def run(self, argv, *, timeout_s=60.0):
        if argv[0] == "mv" and any("T" in a for a in argv if a.startswith("-")):
            return Completed(1, "", "mv: invalid option -- 'T'\n")
        return super().run(argv, timeout_s=timeout_s)


def test_a_board_that_cannot_switch_at_one_stroke_is_refused_before_the_upload(tmp_path, bundle):
    device = OldTools(tmp_path / "board")
    with pytest.raises(DeviceError, match="at one stroke") as caught:
        flash(bundle("one"), device)
    assert "-T" in caught.value.hint
    assert list(device.root.rglob("*")) == []


@pytest.mark.parametrize("full_after", [0, 200, 5000, 90_000])
def test_fault_15_a_disk_that_fills_up_midway_is_left_as_it_was(device, bundle, full_after):
    good = flash(bundle("one"), device).release
    filling = FakeDevice(device.root, faults=FakeFaults(full_after_bytes=full_after))
    with pytest.raises(DeviceError, match="No space"):
        flash(bundle("two", files={"big.bin": bytes(90_000)}), filling)
    assert_clean(device, current=good)
    assert installed(device).run([SAMPLE]) == [DOUBLED]


def test_fault_15_a_read_only_device(device, bundle):
    good = flash(bundle("one"), device).release
    with pytest.raises(DeviceError, match="Read-only"):
        flash(bundle("two"), FakeDevice(device.root, faults=FakeFaults(read_only=True)))
    assert_clean(device, current=good)


@pytest.mark.parametrize("tool", ["sha256sum", "df", "readlink", "ln", "mv"])
def test_a_board_without_a_needed_tool_is_told_which(device, bundle, tool):
    with pytest.raises(DeviceError, match=tool) as caught:
        flash(bundle("one"), FakeDevice(device.root, faults=FakeFaults(fail_command=tool)))
    assert "busybox" in caught.value.hint
    assert not (device.root / "current").exists()


@pytest.mark.parametrize("name", ["-rf", "a\nb", "a\\b"])
def test_fault_20_file_names_that_no_device_can_hold_are_refused(device, program, tmp_path, name):
    folder = make_bundle(tmp_path / "bundle", program, files={name: b"x"})
    with pytest.raises(BundleError):
        flash(folder, device)
    assert list(device.root.iterdir()) == []


def test_fault_20_odd_but_legal_names_arrive(device, program, tmp_path):
    names = ["two words", "semi;colon", "$(touch pwned)", "it's", "größe"]
    folder = make_bundle(tmp_path / "bundle", program, files={name: name.encode() for name in names})
    release = flash(folder, device).release
    assert all(device.get(f"releases/{release}/{name}") == name.encode() for name in names)
    assert not list(device.root.rglob("pwned*"))


def test_fault_21_a_program_for_another_processor_is_refused_before_the_upload(device, program, bundle, tmp_path):
    good = flash(bundle("one"), device).release
    other = (64, 183) if device.describe().machine == "x86_64" else (64, 62)
    folder = make_bundle(tmp_path / "bundle", with_elf_machine(program, *other))
    sent = device.uploaded_bytes
    with pytest.raises(BundleError, match="built for") as caught:
        flash(folder, device)
    assert caught.value.details["device"] == device.describe().machine
    assert device.uploaded_bytes == sent
    assert_clean(device, current=good)


def test_fault_21_a_program_for_a_newer_c_library_is_refused_before_the_switch(device, program, bundle, tmp_path):
    good = flash(bundle("one"), device).release
    states = []
    with pytest.raises(RolledBackError, match="GLIBC_9") as caught:
        flash(make_bundle(tmp_path / "bundle", needing_a_newer_libc(program)), device, on_state=states.append)
    assert "libc" in caught.value.hint
    assert State.SWITCHING not in states
    assert_clean(device, current=good)


def within(ms: float) -> Standard:
    return Standard(Promise(Limit(ms)))


TEN_MS = within(10.0)
REFUSED = {
    "wrong": "differs from the golden one",
    "nan": "not finite",
    "crash in check": "exit code 139",
    "crash in bench": "exit code 139",
    "crash as current": "exit code 139",
    "silent": "no JSON object",
    "short bench": "10 positive samples",
    "hang": "does not end",
    "slow": "over the budget",
}


@pytest.mark.parametrize("name", REFUSED)
def test_fault_22_a_bad_release_is_rolled_back_and_both_facts_told(device, bundle, name):
    older, good = (flash(bundle(n), device).release for n in ("one", "two"))
    with pytest.raises(RolledBackError, match=REFUSED[name]) as caught:
        flash(bundle(name), device, standard=TEN_MS, timeout_s=1.0 if name == "hang" else 60.0)
    error = caught.value
    assert error.exit_code == 9
    assert (error.details["refused"], error.details["current"]) == (release_of(bundle(name)), good)
    assert "passes its golden check" in error.message
    json.dumps(error.to_json())
    assert_clean(device, current=good, previous=older)
    assert installed(device).run([SAMPLE]) == [DOUBLED]


@pytest.mark.parametrize("name", ["wrong", "crash as current", "slow"])
def test_fault_22_without_a_previous_release_nothing_becomes_current(device, bundle, name):
    with pytest.raises(VerificationError, match="nothing is now"):
        flash(bundle(name), device, standard=TEN_MS)
    assert_clean(device, current=None)
    with pytest.raises(UsageError, match="no release is installed"):
        installed(device).run([SAMPLE])


def test_a_current_release_that_goes_over_budget_stays_and_says_so(device, bundle):
    one, slow = flash(bundle("one"), device).release, flash(bundle("slow"), device).release
    with pytest.raises(VerificationError, match="is current and fails"):
        flash(bundle("slow"), device, standard=TEN_MS)
    assert_clean(device, current=slow, previous=one)


@pytest.mark.parametrize(
    ("own", "given", "fits"),
    [
        (49.9, None, False),
        (50.0, None, True),
        (1.0, 50.0, True),
        (100.0, 49.9, False),
        (None, None, True),
    ],
)
def test_whose_budget_counts(device, bundle, own, given, fits):
    folder = bundle("slow", budget={} if own is None else {"latency_ms": own})
    standard = None if given is None else within(given)
    if fits:
        assert all(v.kept for v in flash(folder, device, standard=standard).verdicts)
    else:
        with pytest.raises(VerificationError, match="50 ms"):
            flash(folder, device, standard=standard)


@pytest.mark.parametrize("limit", [Limit(0), Limit(float("nan")), Limit(0.5, relative=True)])
def test_a_budget_that_makes_no_sense_is_refused(device, bundle, limit):
    with pytest.raises(UsageError):
        flash(bundle("one"), device, standard=Standard(Promise(limit)))
    assert list(device.root.iterdir()) == []


@pytest.mark.parametrize("change", [{"deploy": False}, {"executable": False}])
def test_a_bundle_whose_program_could_not_run_is_refused(device, bundle, tmp_path, change):
    folder = shutil.copytree(bundle("one"), tmp_path / "bundle")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model"] |= change
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="model"):
        flash(folder, device)
    assert list(device.root.iterdir()) == []


def test_an_altered_bundle_never_reaches_the_device(device, bundle, tmp_path):
    folder = shutil.copytree(bundle("one"), tmp_path / "bundle")
    (folder / "golden.in").write_bytes(b"other")
    with pytest.raises(VerificationError):
        flash(folder, device)
    assert list(device.root.iterdir()) == []


def test_rollback_goes_back_and_forth(device, bundle):
    one, two = (flash(bundle(name), device).release for name in ("one", "two"))
    back = rollback(device)
    assert (back.release, back.previous) == (one, two)
    assert_clean(device, current=one, previous=two)
    assert rollback(device).release == two
    assert_clean(device, current=two, previous=one)


def test_rollback_needs_a_previous_release(device, bundle):
    flash(bundle("one"), device)
    with pytest.raises(UsageError, match="no previous release"):
        rollback(device)


@pytest.mark.parametrize("name", ["model", "golden.out", "manifest.json"])
def test_rollback_to_a_release_that_rotted_is_refused(device, bundle, name):
    one, two = (flash(bundle(n), device).release for n in ("one", "two"))
    path = device.root / "releases" / one / name
    path.write_bytes(path.read_bytes().replace(b"\0", b"\1", 1) + b"\n")
    with pytest.raises(VerificationError, match="stays current"):
        rollback(device)
    assert_clean(device, current=two, previous=one)


def test_run_takes_batches_and_cleans_up(device, bundle):
    flash(bundle("one"), device)
    assert installed(device).run([SAMPLE * 3], batch=3) == [DOUBLED * 3]
    assert list((device.root / "io").iterdir()) == []


def test_a_link_that_drops_while_the_model_runs_is_not_the_models_fault(device, bundle):
    flash(bundle("one"), device)
    placed = installed(FakeDevice(device.root))
    link = FakeDevice(device.root, faults=FakeFaults(drop_before_call=0))
    with pytest.raises(DeviceUnreachableError):
        replace(placed, device=link).launch(warmup=0, repeats=1)


def test_run_refuses_what_is_not_the_models_input(device, bundle):
    flash(bundle("one"), device)
    for inputs, batch in (([], 1), ([SAMPLE, SAMPLE], 1), ([SAMPLE], 2), ([SAMPLE[:-1]], 1), ([SAMPLE], 0)):
        with pytest.raises(BadInputError):
            installed(device).run(inputs, batch)
    assert not list((device.root / "io").iterdir())


def test_bench_of_any_installed_release(device, bundle):
    slow = flash(bundle("slow"), device).release
    flash(bundle("one"), device)
    assert bench_installed(device, 0, 5).samples_ms == [1.0] * 5
    assert bench_installed(device, 0, 5, release=slow).median_ms == 50.0
    with pytest.raises(UsageError, match="no release") as caught:
        bench_installed(device, 0, 5, release="0" * 64)
    assert slow[:12] in caught.value.hint
    with pytest.raises(UsageError):
        bench_installed(device, 0, 0)


def test_status_of_an_empty_device(device):
    empty = status(device)
    assert (empty.current, empty.previous, empty.releases, empty.interrupted) == (None, None, (), None)
    json.dumps(empty.to_json())
