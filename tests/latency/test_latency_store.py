"""The profile store: foreign profiles are named (docs/FAULTS.md, 7), runs share it (24), a kill loses nothing (25)."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from latency_samples import conv, depthwise, failed, fingerprint, record

from edgeprune.devices.conditions import Conditions
from edgeprune.errors import BusyError, ProfileError, ProfileMismatchError
from edgeprune.latency import ProfileStore
from edgeprune.latency.jsonl import read_jsonl, write_jsonl

OTHER_DEVICE = {**fingerprint().device, "cpu": "Cortex-A76"}


@pytest.fixture
def store(tmp_path):
    with ProfileStore(tmp_path / "profiles.sqlite3") as s:
        yield s


def test_what_was_added_is_there_after_closing(tmp_path):
    path = tmp_path / "deep" / "er" / "p.sqlite3"
    records = [record(conv(8, 8)), record(depthwise(8)), failed(conv(16, 8))]
    with ProfileStore(path) as store:
        profile = store.open_profile(fingerprint())
        assert all(profile.add(r) for r in records)
    with ProfileStore(path) as store:
        profile = store.open_profile(fingerprint())
        assert len(profile) == 3
        assert sorted(map(str, profile.records())) == sorted(map(str, records))
        assert profile.get(conv(16, 8).key) == records[2]
        assert profile.get("0" * 16) is None
        assert profile.records(depthwise(8).family) == tuple(
            r for r in profile.records() if r.spec.family == depthwise(8).family
        )


def test_two_fingerprints_are_two_profiles(store):
    one, two = store.open_profile(fingerprint()), store.open_profile(fingerprint(threads=4))
    one.add(record(conv(8, 8), 100.0))
    two.add(record(conv(8, 8), 30.0))
    assert one.get(conv(8, 8).key).median_ns == 100.0
    assert [p.fingerprint.threads for p in store.profiles()] == [1, 4]
    assert len(store.open_profile(fingerprint())) == 1


def test_measuring_again_replaces(store):
    profile = store.open_profile(fingerprint())
    for r in (failed(conv(8, 8)), record(conv(8, 8), 200.0), record(conv(8, 8), 100.0)):
        assert profile.add(r)
        assert profile.get(conv(8, 8).key) == r
    assert len(profile) == 1


def test_a_failure_does_not_replace_a_measurement(store):
    profile = store.open_profile(fingerprint())
    profile.add(record(conv(8, 8), 200.0))
    assert profile.add(failed(conv(8, 8))) is False
    assert profile.get(conv(8, 8).key).median_ns == 200.0


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_measurement_is_not_stored(store, bad):
    profile = store.open_profile(fingerprint())
    with pytest.raises(ProfileError, match="median_ns"):
        profile.add(record(conv(8, 8), bad, spread_ns=1.0, min_ns=1.0))
    assert len(profile) == 0


class TestMismatch:
    """A profile of another device, compiler or thread count (docs/FAULTS.md, 7)."""

    @pytest.fixture
    def profile(self, store):
        profile = store.open_profile(fingerprint())
        profile.add(record(conv(8, 8)))
        return profile

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"device": OTHER_DEVICE}, "device.cpu"),
            ({"compiler": {"apache-tvm": "0.28.0", "ziglang": "0.15.1"}}, "compiler.apache-tvm"),
            ({"schedules": "4"}, "schedules"),
            ({"threads": 4}, "threads"),
        ],
    )
    def test_another_device_compiler_schedule_or_thread_count_is_named_and_stops(self, store, profile, changes, field):
        asked = fingerprint(**changes)
        with pytest.raises(ProfileMismatchError) as caught:
            store.find(asked)
        assert list(caught.value.details["differences"]) == [field]
        assert field in caught.value.message
        assert caught.value.exit_code == 3
        allowed = store.find(asked, allow_mismatch=True)
        assert allowed.records() == profile.records()
        assert list(allowed.mismatch) == [field]

    def test_the_closest_profile_is_the_one_compared(self, store, profile):
        store.open_profile(fingerprint(threads=4, schedules="9", clock="virtual"))
        with pytest.raises(ProfileMismatchError) as caught:
            store.find(fingerprint(threads=2))
        assert caught.value.details["differences"] == {"threads": [2, 1]}

    def test_the_exact_one_is_found_without_a_word(self, store, profile):
        store.open_profile(fingerprint(threads=4))
        found = store.find(fingerprint())
        assert found.mismatch == {}
        assert len(found) == 1

    def test_another_target_is_no_near_miss(self, store, profile):
        for allow in (False, True):
            with pytest.raises(ProfileError, match="rpi5") as caught:
                store.find(fingerprint(target="rpi5"), allow_mismatch=allow)
            assert not isinstance(caught.value, ProfileMismatchError)
            assert caught.value.details["targets"] == ["rpi4"]

    def test_measurements_of_two_set_ups_are_never_mixed(self, store, profile):
        foreign = store.open_profile(fingerprint(threads=4), allow_mismatch=True)
        assert len(foreign) == 1
        with pytest.raises(ProfileError, match="threads"):
            foreign.add(record(conv(8, 8)))

    def test_opening_to_measure_starts_a_profile_of_its_own(self, store, profile):
        assert len(store.open_profile(fingerprint(threads=4))) == 0


class TestExchange:
    def test_export_and_import_carry_a_profile_over(self, store, tmp_path):
        profile = store.open_profile(fingerprint())
        for r in (record(conv(8, 8)), failed(conv(16, 8))):
            profile.add(r)
        store.export_jsonl(profile, tmp_path / "p.jsonl")
        with ProfileStore(tmp_path / "other.sqlite3") as other:
            done = other.merge(*read_jsonl(tmp_path / "p.jsonl"))
            assert (done.added, done.kept) == (2, 0)
            assert done.profile.records() == profile.records()
            assert other.find(fingerprint()).mismatch == {}

    def test_what_boards_showed_goes_along(self, store, tmp_path):
        seen = Conditions(
            "2026-03-01T10:00:00+00:00", "2026-03-01T10:05:00+00:00", ("ondemand",), None, (50.5, 81.0), True
        )
        profile = store.open_profile(fingerprint())
        profile.add(record(conv(8, 8)))
        later = Conditions("2026-03-02T10:00:00+00:00", "2026-03-02T10:00:00+00:00")
        for found in (later, replace(seen, until=seen.since), seen):
            profile.add_conditions(found)
        assert profile.conditions() == (seen, later), "one line for what was seen since the same moment"
        store.export_jsonl(profile, tmp_path / "p.jsonl")
        with ProfileStore(tmp_path / "other.sqlite3") as other:
            assert other.merge(*read_jsonl(tmp_path / "p.jsonl")).profile.conditions() == (seen, later)
            other.export_jsonl(other.profiles()[0], tmp_path / "again.jsonl")
        assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "p.jsonl").read_bytes()
        with pytest.raises(ProfileError, match="threads"):
            store.open_profile(fingerprint(threads=4), allow_mismatch=True).add_conditions(seen)

    @pytest.mark.parametrize("change", ['"governors":"x"', '"governors":[],"url":"ssh://me@home"', '"throttled":7'])
    def test_bad_conditions_import_nothing(self, store, tmp_path, change):
        path = tmp_path / "p.jsonl"
        write_jsonl(path, fingerprint(), [record(conv(8, 8))], (), [Conditions("2026-03-01", "2026-03-01")])
        name = change.partition(":")[0]
        lines = path.read_text().splitlines()
        kept = {k: v for k, v in json.loads(lines[-1]).items() if f'"{k}"' != name}
        path.write_text("\n".join([*lines[:-1], json.dumps(kept)[:-1] + "," + change + "}"]) + "\n")
        with pytest.raises(ProfileError, match="line 3: the conditions"):
            read_jsonl(path)

    def test_what_was_measured_here_stays_what_it_is(self, store, tmp_path):
        """The same kind of board on another desk: its figures fill gaps, and replace failures only."""
        mine = record(conv(8, 8), 100.0)
        theirs = [record(conv(8, 8), 777.0), record(conv(16, 8), 888.0), failed(conv(24, 8)), record(conv(32, 8))]
        write_jsonl(tmp_path / "p.jsonl", fingerprint(), theirs)
        profile = store.open_profile(fingerprint())
        for r in (mine, failed(conv(16, 8)), record(conv(24, 8), 55.0)):
            profile.add(r)
        done = store.merge(*read_jsonl(tmp_path / "p.jsonl"))
        assert (done.added, done.kept) == (2, 2)
        assert {r.spec.widths["in"]: r.median_ns for r in profile.records()} == {8: 100, 16: 888, 24: 55, 32: 1000}

    def test_a_bad_row_imports_nothing(self, store, tmp_path):
        path = tmp_path / "p.jsonl"
        write_jsonl(path, fingerprint(), [record(conv(8 * i, 8), 777.0) for i in range(1, 9)])
        *good, last = path.read_text().splitlines(keepends=True)
        path.write_text("".join(good) + last.replace('"median_ns":777.0', '"median_ns":0.0'))
        with pytest.raises(ProfileError, match=r"line 9: .*median_ns is 0"):
            store.merge(*read_jsonl(path))
        assert store.profiles() == ()


class TestFileThatIsNoStore:
    def test_a_newer_schema_is_refused_and_left_alone(self, tmp_path):
        path = tmp_path / "p.sqlite3"
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE schema_version (version INTEGER)")
            db.execute("INSERT INTO schema_version VALUES (99)")
        db.close()
        before = path.read_bytes()
        with pytest.raises(ProfileError, match="version 99"):
            ProfileStore(path)
        assert path.read_bytes() == before

    def test_a_database_of_something_else_is_left_alone(self, tmp_path):
        path = tmp_path / "p.sqlite3"
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE photos (id INTEGER)")
        db.close()
        before = path.read_bytes()
        with pytest.raises(ProfileError, match=r"p\.sqlite3"):
            ProfileStore(path)
        assert path.read_bytes() == before

    def test_a_file_that_is_no_database_is_named(self, tmp_path):
        (tmp_path / "p.sqlite3").write_text("profile!" * 1000)
        with pytest.raises(ProfileError, match=r"p\.sqlite3.*not a database"):
            ProfileStore(tmp_path / "p.sqlite3")

    def test_a_folder_is_named(self, tmp_path):
        with pytest.raises(ProfileError, match="cannot be used"):
            ProfileStore(tmp_path)


def test_a_store_held_for_too_long_is_busy(tmp_path):
    path = tmp_path / "p.sqlite3"
    with ProfileStore(path) as one, ProfileStore(path, busy_timeout_s=0.05) as two:
        profile = two.open_profile(fingerprint())
        with one.transaction(), pytest.raises(BusyError, match=r"p\.sqlite3") as caught:
            profile.add(record(conv(8, 8)))
        assert caught.value.exit_code == 8
        assert profile.add(record(conv(8, 8)))


def test_a_new_store_that_another_run_is_just_setting_up_is_waited_for(tmp_path):
    # SQLite refuses the switch to WAL at once here, whatever its busy timeout.
    path = tmp_path / "p.sqlite3"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.2, lambda: other.execute("COMMIT"))
    timer.start()
    with ProfileStore(path) as store:
        assert store.query("PRAGMA journal_mode") == [("wal",)]
        assert store.open_profile(fingerprint()).add(record(conv(8, 8)))
    timer.join()
    other.close()


# Adds records without end (or `limit`), saying so after each; the test reads what was said.
WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from latency_samples import conv, fingerprint, record
from edgeprune.latency.store import ProfileStore
path, first, limit = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
with ProfileStore(path) as store:
    profile = store.open_profile(fingerprint())
    for i in range(first, first + limit):
        profile.add(record(conv(1 + i // 4096, 1 + i % 4096), 1000.0 + i))
        print(i, flush=True)
"""


def writer(path: Path, first: int, limit: int) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(path), str(first), str(limit)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def spec_of(i: int):
    return conv(1 + i // 4096, 1 + i % 4096)


def test_two_runs_at_once_lose_nothing(tmp_path):
    """Two runs at once (docs/FAULTS.md, 24): both open the new store and write to it at the same time."""
    path = tmp_path / "p.sqlite3"
    runs = [writer(path, first, 150) for first in (0, 1000)]
    for run in runs:
        run.communicate(timeout=60)
    assert [run.returncode for run in runs] == [0, 0]
    with ProfileStore(path) as store:
        assert len(store.profiles()) == 1
        assert len(store.open_profile(fingerprint())) == 300


def test_kill_9_at_any_time_loses_no_finished_measurement(tmp_path):
    """Kills while the store writes (docs/FAULTS.md, 25): five killed runs, each resuming on what the others left."""
    path = tmp_path / "p.sqlite3"
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    acknowledged: set[int] = set()
    for round_ in range(5):
        run = writer(path, round_ * 10_000, 10_000)
        assert run.stdout is not None
        said = [run.stdout.readline()]  # it runs now
        time.sleep(rng.uniform(0.0, 0.15))
        run.send_signal(signal.SIGKILL)
        said += run.stdout.readlines()
        run.stdout.close()
        assert run.wait() == -signal.SIGKILL, f"seed {seed}: the run ended on its own"
        acknowledged |= {int(line) for line in said if line.endswith("\n")}
        with ProfileStore(path) as store:
            assert store.query("PRAGMA integrity_check") == [("ok",)]
            profile = store.find(fingerprint())
            stored = {r.median_ns - 1000.0 for r in profile.records()}
            assert acknowledged <= stored, f"seed {seed}: lost {sorted(acknowledged - stored)[:5]}"
            assert len(stored) <= len(acknowledged) + round_ + 1  # at most the one under way, a run
            assert profile.get(spec_of(max(acknowledged)).key) is not None
    assert len(acknowledged) >= 5
