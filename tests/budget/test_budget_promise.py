"""Budgets as text."""

from __future__ import annotations

import pytest

from edgeprune.budget import Limit, parse_bytes, parse_latency
from edgeprune.errors import UsageError


@pytest.mark.parametrize(
    ("text", "ms"),
    [("12ms", 12), ("800us", 0.8), ("800µs", 0.8), ("0.5s", 500), (" 7.25 ms ", 7.25), ("3MS", 3), (".5ms", 0.5)],
)
def test_latency(text, ms):
    assert parse_latency(text) == Limit(pytest.approx(ms), relative=False)


@pytest.mark.parametrize(
    ("text", "size"),
    [("2MB", 2e6), ("512KiB", 524288), ("1.5kB", 1500), ("900B", 900), ("1 MiB", 1048576), ("1GiB", 2**30)],
)
def test_bytes(text, size):
    assert parse_bytes(text) == Limit(pytest.approx(size), relative=False)


@pytest.mark.parametrize("parse", [parse_latency, parse_bytes])
def test_a_percentage_waits_for_the_dense_network(parse):
    limit = parse("50%")
    assert limit.relative
    assert limit.resolve(20.0) == 10.0


def test_an_absolute_limit_does_not_care_about_the_dense_network():
    assert parse_latency("12ms").resolve(999.0) == 12.0


NONSENSE = [
    "",
    "12",
    "ms",
    "-3ms",
    "0ms",
    "0%",
    "nan ms",
    "inf s",
    "1e400s",
    "12 parsecs",
    "1,5ms",
    "12ms;rm",
    "٣ms",
    "--",
]


@pytest.mark.parametrize("text", [*NONSENSE, "2MB"])
def test_what_is_no_latency_is_refused_with_examples(text):
    with pytest.raises(UsageError) as caught:
        parse_latency(text)
    assert repr(text) in caught.value.message
    assert "12ms" in caught.value.hint


@pytest.mark.parametrize("text", [*NONSENSE, "2ms", "2M", "9" * 400 + "GB"])
def test_what_is_no_size_is_refused_with_examples(text):
    with pytest.raises(UsageError) as caught:
        parse_bytes(text)
    assert "512KiB" in caught.value.hint
