"""Invalid latencies (docs/FAULTS.md, 6), row by row: they do not pass, and JSON keeps the valid ones."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from latency_samples import concat, conv, depthwise, failed, fingerprint, record

from edgeprune.errors import ProfileError
from edgeprune.latency import Fingerprint, KernelRecord, check_record, difference
from edgeprune.latency.records import canonical_json, parse_json


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0, 0.0])
def test_a_latency_that_is_none_is_refused_by_kernel(bad):
    with pytest.raises(ProfileError, match="median_ns") as caught:
        check_record(record(conv(16, 24), bad, spread_ns=1.0, min_ns=1.0))
    assert str(conv(16, 24)) in caught.value.message
    assert caught.value.details["spec_key"] == conv(16, 24).key


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"spread_ns": float("nan")}, "spread_ns"),
        ({"min_ns": -1.0}, "min_ns"),
        ({"samples": 0}, "no samples"),
        ({"object_bytes": -1}, "object_bytes"),
        ({"weight_bytes": 10**400}, "weight_bytes"),
        ({"evidence": "guessed"}, "guessed"),
        ({"status": "maybe"}, "maybe"),
        ({"status": "failed"}, "without saying why"),
        ({"status": "failed", "error": "crashed"}, "yet has a latency"),
        ({"schedule": {"rule": "direct", "score": float("nan")}}, "its schedule is no JSON"),
        ({"schedule": {"columns": 4}}, "names no rule"),
        ({"schedule": {"rule": 7}}, "names no rule"),
    ],
)
def test_a_record_that_cannot_be_is_refused(changes, says):
    with pytest.raises(ProfileError, match=says):
        check_record(record(conv(4, 4), **changes))


def test_a_failure_that_says_why_is_a_record():
    check_record(failed(conv(4, 4)))


@pytest.mark.parametrize("r", [record(conv(3, 16)), record(depthwise(8)), record(concat(3, 5)), failed(conv(1, 1))])
def test_json_keeps_a_record(r):
    assert KernelRecord.from_json(parse_json(canonical_json(r.to_json()))) == r


def test_json_keeps_a_fingerprint():
    fp = fingerprint()
    again = Fingerprint.from_json(parse_json(canonical_json(fp.to_json())))
    assert again.digest == fp.digest
    assert difference(fp, again) == {}


def test_records_of_earlier_versions_know_nothing_of_the_clock():
    data = record(conv(3, 16)).to_json()
    del data["reference_ns"]
    assert KernelRecord.from_json(data).reference_ns == 0.0


def test_a_record_at_another_clock_has_all_its_latencies_there():
    measured = replace(record(conv(3, 16)), median_ns=100.0, spread_ns=8.0, min_ns=90.0, reference_ns=40.0)
    moved = measured.at_clock(20.0)
    assert (moved.median_ns, moved.spread_ns, moved.min_ns, moved.reference_ns) == (50.0, 4.0, 45.0, 20.0)
    assert moved.at_clock(40.0) == measured
    assert measured.at_clock(0.0) == measured
    assert replace(measured, reference_ns=0.0).at_clock(20.0).median_ns == 100.0


@pytest.mark.parametrize("missing", sorted(record(conv(1, 1)).to_json().keys() - {"reference_ns"}))
def test_every_field_of_a_record_is_needed(missing):
    data = record(conv(3, 16)).to_json()
    del data[missing]
    with pytest.raises(ProfileError, match=f"{missing} is missing"):
        KernelRecord.from_json(data)


@pytest.mark.parametrize("value", [None, "1000", True, [1]])
def test_a_latency_of_another_type_is_refused(value):
    with pytest.raises(ProfileError, match="median_ns is a"):
        KernelRecord.from_json({**record(conv(3, 16)).to_json(), "median_ns": value})


def test_an_unknown_field_is_refused():
    with pytest.raises(ProfileError, match="latency is unknown"):
        KernelRecord.from_json({**record(conv(3, 16)).to_json(), "latency": 3})


@pytest.mark.parametrize(
    "spec",
    [{}, {"op": "conv2d"}, {**conv(3, 4).to_json(), "inputs": []}, {**conv(3, 4).to_json(), "attrs": {}}, {"x": 1}],
)
def test_a_spec_that_is_none_is_refused(spec):
    with pytest.raises(ProfileError, match="spec cannot be read"):
        KernelRecord.from_json({**record(conv(3, 16)).to_json(), "spec": spec})


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "{", "", "[" * 100_000])
def test_what_is_no_strict_json_is_refused(text):
    with pytest.raises(ProfileError):
        parse_json(text)


def test_nan_is_never_written():
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"device": {**fingerprint().device, "cpu": "Cortex-A76"}}, "device.cpu"),
        ({"device": {**fingerprint().device, "features": ("fp",)}}, "device.features"),
        ({"compiler": {"apache-tvm": "0.28.0", "ziglang": "0.15.1"}}, "compiler.apache-tvm"),
        ({"compiler": {"apache-tvm": "0.27.0"}}, "compiler.ziglang"),
        ({"schedules": "4"}, "schedules"),
        ({"threads": 4}, "threads"),
        ({"clock": "virtual"}, "clock"),
        ({"target_hash": "cd34"}, "target_hash"),
    ],
)
def test_every_difference_of_two_fingerprints_is_named_and_changes_the_digest(changes, field):
    other = fingerprint(**changes)
    assert list(difference(fingerprint(), other)) == [field]
    assert other.digest != fingerprint().digest


def test_the_digest_does_not_depend_on_the_order_of_fields():
    device = dict(reversed(fingerprint().device.items()))
    assert fingerprint(device=device).digest == fingerprint().digest
    assert json.loads(canonical_json(fingerprint().to_json()))["device"]["features"] == ["asimd", "fp"]
