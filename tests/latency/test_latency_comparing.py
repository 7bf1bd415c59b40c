"""What a profile holds, and in what two differ: at one clock each, whatever their boards' clocks did."""

from __future__ import annotations

from dataclasses import replace

import pytest
from latency_samples import conv, failed, fingerprint, record

from edgeprune.latency.comparing import difference_of, families_of
from edgeprune.latency.jsonl import ProfileFile
from edgeprune.latency.networks import NetworkRecord, Placed


def profile(*records, networks=(), **fields) -> ProfileFile:
    return ProfileFile(fingerprint(**fields), tuple(records), tuple(networks))


def took(spec, ns: float, **fields):
    return replace(record(spec), median_ns=ns, spread_ns=1.0, min_ns=ns, **fields)


def network(*specs, ns=(), **fields) -> NetworkRecord:
    placed = tuple(Placed(s, {"rule": "direct"}, n, 1.0) for s, n in zip(specs, ns, strict=True))
    return NetworkRecord(tuple(specs), float(sum(ns)), 1.0, 9, placed=placed, **fields)


def test_a_kernel_at_all_its_widths_is_one_line():
    inside = network(conv(32, 8), conv(8, 8), ns=(9000.0, 900.0))
    found = families_of(
        profile(took(conv(8, 8), 1000.0), took(conv(16, 8), 2000.0), failed(conv(24, 8)), networks=[inside])
    )
    (only,) = found
    assert (only.kernels, only.placed, only.failed) == (2, 2, 1)
    assert only.widths == {"in": (8, 32), "out": (8, 8)}
    assert only.latency_ms == (0.001, 0.009), "where it was measured alone, that is its figure"
    assert only.kernel == str(conv(32, 8))
    assert conv(8, 8).family.startswith(only.family)


def test_what_takes_longest_comes_first():
    small, large = took(conv(8, 8), 10.0), took(replace(conv(8, 8), epilogue=("bias",)), 20.0)
    assert [f.latency_ms[1] for f in families_of(profile(small, large))] == [2e-5, 1e-5]


def test_a_kernel_that_failed_everywhere_has_no_latency():
    (found,) = families_of(profile(failed(conv(8, 8))))
    assert (found.latency_ms, found.failed, found.kernels) == (None, 1, 0)


def test_ratios_are_of_the_second_over_the_first_each_at_its_own_clock():
    first = profile(*(took(conv(8 * i, 8), 100.0 * i, reference_ns=50.0) for i in range(1, 40)))
    slow_clock = took(conv(8, 8), 360.0, reference_ns=150.0)
    others = [took(conv(8 * i, 8), 110.0 * i, reference_ns=50.0) for i in range(2, 40)]
    found = difference_of(first, profile(slow_clock, *others, threads=2))
    assert found.kernels is not None
    assert (found.kernels.count, found.kernels.median) == (39, pytest.approx(1.1))
    assert found.kernels.high == pytest.approx(1.2), "a third of 360 over 100"
    assert found.fields == {"threads": (1, 2)}
    assert (found.only_first, found.only_second, found.networks) == (0, 0, None)


def test_kernels_of_one_alone_are_counted_and_failures_are_none():
    first = profile(took(conv(8, 8), 100.0), took(conv(16, 8), 100.0), failed(conv(24, 8)))
    second = profile(took(conv(8, 8), 50.0, schedule={"rule": "other"}), took(conv(24, 8), 9.0))
    found = difference_of(first, second)
    assert (found.only_first, found.only_second, found.schedules) == (1, 1, 1)
    assert found.kernels is not None
    assert (found.kernels.count, found.kernels.low, found.kernels.high) == (1, 0.5, 0.5)
    nothing = difference_of(first, profile())
    assert (nothing.kernels, nothing.families, nothing.only_first) == (None, (), 2)


def test_whole_networks_are_compared_too():
    first, second = (profile(networks=[network(conv(8, 8), ns=(ns,))]) for ns in (100.0, 130.0))
    found = difference_of(first, second).networks
    assert found is not None
    assert (found.count, found.median) == (1, pytest.approx(1.3))
