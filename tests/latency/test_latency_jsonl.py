"""Profiles as JSON lines: stable, whole or absent, and refused row by row."""

from __future__ import annotations

import json

import pytest
from latency_samples import conv, depthwise, failed, fingerprint, record

from edgeprune.errors import ProfileError
from edgeprune.latency.jsonl import read_jsonl, write_jsonl

RECORDS = (record(conv(8, 16)), record(conv(16, 16)), record(depthwise(8)), failed(conv(24, 16)))


@pytest.fixture
def exported(tmp_path):
    path = tmp_path / "rpi4.jsonl"
    write_jsonl(path, fingerprint(), RECORDS)
    return path


def test_what_is_written_is_read(exported):
    fp, records, *_ = read_jsonl(exported)
    assert fp.digest == fingerprint().digest
    assert sorted(records, key=lambda r: r.spec.key) == sorted(RECORDS, key=lambda r: r.spec.key)


def test_equal_profiles_are_equal_files(exported, tmp_path):
    write_jsonl(tmp_path / "again.jsonl", fingerprint(), RECORDS[::-1])
    assert (tmp_path / "again.jsonl").read_bytes() == exported.read_bytes()


def edit(path, line, **changes):
    lines = path.read_text().splitlines()
    lines[line - 1] = json.dumps({**json.loads(lines[line - 1]), **changes})
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0, -1, None, "7"])
def test_a_bad_row_is_refused_with_its_line(exported, bad):
    edit(exported, 3, median_ns=bad, status="ok", error="", samples=5)
    with pytest.raises(ProfileError, match="line 3"):
        read_jsonl(exported)


def test_every_bad_row_is_listed(exported):
    edit(exported, 2, samples=-1)
    edit(exported, 5, evidence="hearsay")
    with pytest.raises(ProfileError) as caught:
        read_jsonl(exported)
    assert [f.split(":")[0] for f in caught.value.details["faults"]] == ["line 2", "line 5"]


def test_a_missing_field_is_refused_with_its_line(exported):
    lines = exported.read_text().splitlines()
    row = json.loads(lines[1])
    del row["median_ns"]
    exported.write_text("\n".join([lines[0], json.dumps(row), *lines[2:]]) + "\n")
    with pytest.raises(ProfileError, match=r"line 2: .*median_ns is missing"):
        read_jsonl(exported)


def test_a_kernel_that_is_there_twice_is_refused(exported):
    exported.write_text(exported.read_text() + exported.read_text().splitlines()[1] + "\n")
    with pytest.raises(ProfileError, match=r"line 6: .*twice"):
        read_jsonl(exported)


def test_a_row_that_is_no_json_is_refused(exported):
    exported.write_text(exported.read_text() + "{oops}\n")
    with pytest.raises(ProfileError, match="line 6"):
        read_jsonl(exported)


@pytest.mark.parametrize("keep", [0, 1, 50, 400, -1])
def test_a_file_cut_anywhere_is_refused(exported, keep):
    exported.write_bytes(exported.read_bytes()[:keep])
    with pytest.raises(ProfileError):
        read_jsonl(exported)


@pytest.mark.parametrize(
    "header", ["{}", "[]", '{"schema": "edgeprune.profile-file/99"}', '{"schema": "edgeprune.profile-file/1"}']
)
def test_a_file_without_our_header_is_refused(exported, header):
    exported.write_text("\n".join([header, *exported.read_text().splitlines()[1:]]) + "\n")
    with pytest.raises(ProfileError, match="line 1"):
        read_jsonl(exported)


def test_a_file_of_version_1_is_read_and_knows_nothing_of_the_clock(exported):
    fingerprint, records, networks, conditions = read_jsonl(exported)
    header, *lines = map(json.loads, exported.read_text().splitlines())
    old = [{**header, "schema": "edgeprune.profile-file/1"}, *({**x} for x in lines)]
    for line in old[1:]:
        del line["reference_ns"]
    exported.write_text("".join(json.dumps(line) + "\n" for line in old))
    assert read_jsonl(exported) == (fingerprint, records, networks, conditions)
    assert {r.reference_ns for r in records} == {0.0}


def test_what_is_no_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
    for name in ("x", "absent", "."):
        with pytest.raises(ProfileError, match="cannot be read"):
            read_jsonl(tmp_path / name)


def test_a_failed_export_leaves_the_old_file_and_nothing_else(exported, tmp_path):
    before = exported.read_bytes()
    with pytest.raises(ProfileError):
        write_jsonl(exported, fingerprint(), [*RECORDS, record(conv(8, 8), -1.0)])
    with pytest.raises(ValueError, match="JSON"):
        write_jsonl(exported, fingerprint(device={"clock": float("nan")}), RECORDS)
    assert exported.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [exported.name]
