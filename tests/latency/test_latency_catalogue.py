"""What profiles there are, and taking one out of a store."""

from __future__ import annotations

import json

import pytest
from latency_samples import conv, failed, fingerprint, record

from edgeprune.errors import ProfileError
from edgeprune.latency import catalogue
from edgeprune.latency.catalogue import export_profile, shipped_profiles, stored_profiles
from edgeprune.latency.jsonl import read_jsonl, write_jsonl
from edgeprune.latency.records import EVIDENCE
from edgeprune.latency.store import ProfileStore

ONE, TWO = fingerprint(), fingerprint(threads=2)


@pytest.fixture
def path(tmp_path):
    """A store with a profile of one thread, one failed kernel in it, and an empty one of two threads."""
    with ProfileStore(tmp_path / "p.sqlite3") as store:
        profile = store.open_profile(ONE)
        for r in (record(conv(8, 8)), record(conv(16, 8), evidence="emulated"), failed(conv(24, 8))):
            profile.add(r)
        store.open_profile(TWO)
    return tmp_path / "p.sqlite3"


def test_a_profile_in_a_line(path):
    one, two = (found.to_json() for found in stored_profiles(path))
    assert one == {
        "fingerprint": ONE.digest,
        "target": "rpi4",
        "cpu": "Cortex-A72",
        "threads": 1,
        "clock": "monotonic",
        "kernels": 2,
        "failed": 1,
        "networks": 0,
        "evidence": ["measured", "emulated"],
        "file": None,
    }
    assert (two["threads"], two["kernels"], two["evidence"]) == (2, 0, [])


def test_looking_makes_no_store(tmp_path):
    assert stored_profiles(tmp_path / "absent.sqlite3") == []
    with pytest.raises(ProfileError, match="no profile store"):
        export_profile(tmp_path / "absent.sqlite3", ONE.digest, tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_profile_is_taken_out_by_the_beginning_of_its_fingerprint(path, tmp_path):
    assert not TWO.digest.startswith(ONE.digest[:4])
    said = export_profile(path, ONE.digest[:4], tmp_path / "deep" / "one.profile.jsonl")
    assert (said.fingerprint.digest, said.kernels, said.failed) == (ONE.digest, 2, 1)
    found, records, *_ = read_jsonl(tmp_path / "deep" / "one.profile.jsonl")
    assert (found.digest, len(records)) == (ONE.digest, 3)


@pytest.mark.parametrize(("digest", "count"), [("", "2 profiles"), ("nothing", "no profile")])
def test_one_that_is_not_the_only_one_is_no_guess(path, tmp_path, digest, count):
    with pytest.raises(ProfileError, match=count) as caught:
        export_profile(path, digest, tmp_path / "out.jsonl")
    assert sorted(caught.value.details["known"]) == sorted([ONE.digest, TWO.digest])
    assert not (tmp_path / "out.jsonl").exists()


def test_a_place_that_cannot_be_written_is_named(path, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ProfileError, match=r"file/out\.jsonl cannot be written"):
        export_profile(path, ONE.digest, tmp_path / "file" / "out.jsonl")


def test_shipped_files_are_listed_and_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "data_folder", lambda kind: tmp_path)
    write_jsonl(tmp_path / "b.profile.jsonl", TWO, [record(conv(8, 8))])
    write_jsonl(tmp_path / "a.profile.jsonl", ONE, [record(conv(8, 8))])
    assert [found.file.name for found in shipped_profiles()] == ["a.profile.jsonl", "b.profile.jsonl"]
    lines = (tmp_path / "b.profile.jsonl").read_text().splitlines()
    row = {**json.loads(lines[1]), "median_ns": -1.0}
    (tmp_path / "b.profile.jsonl").write_text("\n".join([lines[0], json.dumps(row)]) + "\n")
    with pytest.raises(ProfileError, match=r"b\.profile\.jsonl is refused: line 2"):
        shipped_profiles()


def test_what_edgeprune_ships_can_be_read_and_says_how_it_was_obtained():
    for found in shipped_profiles():
        assert found.kernels > 0, found.file
        assert set(found.evidence) <= set(EVIDENCE) - {"compiled"}, found.file
