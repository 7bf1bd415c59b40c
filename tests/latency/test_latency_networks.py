"""Whole networks: records that are kept with a profile, and what they say of networks that were not measured."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
from latency_samples import conv, depthwise, fingerprint, record

from edgeprune.errors import ProfileError
from edgeprune.latency import ProfileStore
from edgeprune.latency.estimates import Total
from edgeprune.latency.jsonl import read_jsonl, write_jsonl
from edgeprune.latency.networks import NetworkRecord, Placed, Surplus, network_key, surplus_of

PLACED = (Placed(conv(8, 16), {"rule": "a"}, 2000.0, 20.0), Placed(depthwise(16), {"rule": "b", "n": 4}, 900.0, 9.0))
NETWORK = NetworkRecord(
    (conv(8, 16), depthwise(16), conv(8, 16)), 5000.0, 50.0, 40, "measured", 20_000.0, placed=PLACED
)


def said(**changes) -> dict:
    return {**json.loads(json.dumps(NETWORK.to_json())), **changes}


def test_a_record_is_read_as_it_was_written():
    assert NetworkRecord.from_json(said()) == NETWORK
    assert len(said()["specs"]) == 2, "each kernel once"
    assert NETWORK.key == network_key([conv(8, 16), depthwise(16), conv(8, 16)])
    assert NETWORK.key != network_key([depthwise(16), conv(8, 16), conv(8, 16)])


@pytest.mark.parametrize(
    "changes",
    [
        {"latency_ns": 0.0},
        {"latency_ns": -1.0},
        {"latency_ns": float("inf")},
        {"samples": 0},
        {"network": []},
        {"network": [0, 2]},
        {"network": [0, 0]},
        {"network": [[0], 1]},
        {"network": [True]},
        {"network": [-1]},
        {"specs": [{}]},
        {"specs": [{**conv(8, 16).to_json(), "more": 1}, depthwise(16).to_json()]},
        {"specs": [{**conv(8, 16).to_json(), "inputs": []}, depthwise(16).to_json()]},
        {"evidence": "hearsay"},
        {"latency_ns": "7"},
        {"placed": [PLACED[0].to_json()]},
        {"placed": [PLACED[0].to_json(), {**PLACED[1].to_json(), "latency_ns": 0.0}]},
        {"placed": [PLACED[0].to_json(), {**PLACED[1].to_json(), "latency_ns": float("nan")}]},
        {"placed": [PLACED[0].to_json(), {**PLACED[1].to_json(), "more": 1}]},
        {"placed": [PLACED[0].to_json(), {**PLACED[1].to_json(), "schedule": "b"}]},
        {"placed": {}},
        {"more": 1},
    ],
)
def test_what_is_no_measurement_is_refused(changes):
    with pytest.raises(ProfileError):
        NetworkRecord.from_json(said(**changes))


def test_one_of_before_has_no_kernels_in_their_places():
    before = said()
    del before["placed"]
    assert NetworkRecord.from_json(before) == replace(NETWORK, placed=())


def test_kernels_in_their_places_are_brought_to_a_clock():
    assert [(p.latency_ns, p.error_ns) for p in NETWORK.placed_at(10_000.0)] == [(1000.0, 10.0), (450.0, 4.5)]
    assert NETWORK.placed_at(0.0) == list(PLACED)


def test_a_record_is_brought_to_a_clock():
    assert NETWORK.at_clock(10_000.0) == 2500.0
    assert NETWORK.at_clock(0.0) == replace(NETWORK, reference_ns=0.0).at_clock(10_000.0) == 5000.0


def test_a_store_keeps_networks(tmp_path):
    path = tmp_path / "p.sqlite3"
    with ProfileStore(path) as store:
        profile = store.open_profile(fingerprint())
        profile.add_network(NETWORK)
        profile.add_network(replace(NETWORK, latency_ns=4000.0))
        with pytest.raises(ProfileError, match="not timed"):
            profile.add_network(replace(NETWORK, latency_ns=0.0))
    with ProfileStore(path) as store:
        assert store.open_profile(fingerprint()).networks() == (replace(NETWORK, latency_ns=4000.0),)
        assert store.open_profile(fingerprint(threads=3)).networks() == ()


def test_a_store_of_an_earlier_version_gets_the_tables(tmp_path):
    path = tmp_path / "p.sqlite3"
    with ProfileStore(path) as store:
        store.open_profile(fingerprint()).add(record(conv(8, 8)))
    with sqlite3.connect(path) as old:
        old.execute("DROP TABLE networks")
        old.execute("DROP TABLE conditions")
        old.execute("UPDATE schema_version SET version = 1")
    with ProfileStore(path) as store:
        profile = store.open_profile(fingerprint())
        assert (len(profile), profile.networks()) == (1, ())
        profile.add_network(NETWORK)
    with ProfileStore(path) as store:
        assert store.open_profile(fingerprint()).networks() == (NETWORK,)


def test_a_file_has_them_and_an_import_keeps_its_own(tmp_path):
    file = tmp_path / "p.profile.jsonl"
    write_jsonl(file, fingerprint(), [record(conv(8, 8))], [NETWORK])
    found = read_jsonl(file)
    assert (len(found.records), found.networks) == (1, (NETWORK,))
    with ProfileStore(tmp_path / "p.sqlite3") as store:
        own = replace(NETWORK, latency_ns=1.0)
        store.open_profile(fingerprint()).add_network(own)
        done = store.merge(*found)
        assert (done.added, done.profile.networks()) == (1, (own,))
    with ProfileStore(tmp_path / "other.sqlite3") as store:
        assert store.merge(*found).profile.networks() == (NETWORK,)


def test_a_bad_network_is_refused_with_its_line(tmp_path):
    file = tmp_path / "p.profile.jsonl"
    write_jsonl(file, fingerprint(), [record(conv(8, 8))], [NETWORK])
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, lines[-1], json.dumps(said(latency_ns=0))]) + "\n")
    with pytest.raises(ProfileError, match=r"line 4: .*twice; line 5: .*not timed"):
        read_jsonl(file)


# -- what whole networks take over their kernels --------------------------------------------------


def sums(*ns: float, spread: float = 0.001) -> list[Total]:
    return [Total(n, n * spread) for n in ns]


def test_nothing_measured_is_no_surplus_and_little_known():
    found = Surplus([], []).of(Total(1e6, 1e4))
    assert found.latency_ns == 1e6
    assert found.spread_ns / 1e6 == pytest.approx(np.sqrt(0.1**2 + Surplus.SCATTER**2 + 0.01**2), rel=0.05)


@pytest.mark.parametrize("factor", [0.93, 1.0, 1.12])
def test_a_surplus_that_is_the_same_for_all_is_found(factor):
    known = sums(1e6, 2e6, 4e6, 8e6)
    surplus = Surplus(known, [factor * t.latency_ns for t in known])
    found = surplus.of(Total(3e6, 3e3))
    assert found.latency_ns == pytest.approx(3e6 * factor, rel=0.005)
    assert found.spread_ns / found.latency_ns < 0.015


@pytest.mark.parametrize(("scatter", "least"), [(Surplus.SCATTER, 0.93), (2 * Surplus.SCATTER, 0.8)])
def test_intervals_hold_as_often_as_they_say(scatter, least):
    """And not much less where networks scatter twice as widely as was thought before, and four of them show it."""
    random, inside = np.random.default_rng(0), []
    for _ in range(400):
        truth = random.normal(0.05, 0.03)
        ns = random.uniform(1e6, 1e7, 5)
        known = [Total(n, 0.01 * n) for n in ns]
        took = ns * np.exp(truth + random.normal(0, scatter, 5) + random.normal(0, 0.01, 5))
        found = Surplus(known[:4], list(took[:4])).of(known[4])
        inside.append(abs(np.log(took[4] / found.latency_ns)) < 1.96 * found.spread_ns / found.latency_ns)
    assert least <= np.mean(inside) <= 0.99


def test_what_a_network_takes_beside_its_kernels_is_a_constant():
    """60 ns in the network of 5000 that has 2000 twice and 900, at the clock of the others: half of that."""
    kernels = replace(PLACED[0], latency_ns=2020.0), PLACED[1]
    network = replace(NETWORK, placed=kernels)
    assert (network.beyond_ns, replace(NETWORK, placed=()).beyond_ns) == (60.0, 0.0)

    class Known:
        def total(self, specs) -> Total:
            return Total(2470.0, 1.0)

    surplus = surplus_of([network], Known(), 10_000.0, [s.with_widths(**s.widths) for s in network.kernels])
    assert surplus.beyond_ns == pytest.approx(30.0)
    assert surplus.factor == pytest.approx(1.0, abs=1e-4)
    assert surplus.of(Total(0.001, 0.0)).latency_ns == pytest.approx(30.0, rel=1e-3)
    other = surplus_of([network], Known(), 10_000.0, network.kernels[:1])
    assert (other.beyond_ns, other.factor) == (0.0, surplus.factor), "another network brings in other inputs"


def test_networks_that_scatter_are_less_well_known():
    known = sums(1e6, 2e6, 4e6, 8e6)
    alike = Surplus(known, [1.05 * t.latency_ns for t in known]).of(Total(3e6, 0.0))
    apart = Surplus(known, [t.latency_ns * f for t, f in zip(known, (1.0, 1.2, 0.95, 1.1), strict=True)])
    assert apart.of(Total(3e6, 0.0)).spread_ns > 2 * alike.spread_ns
