"""A sampled profile: few measurements, a plan as good as that of all of them, and intervals that hold.

The clock counts, so what a network takes is known to the nanosecond, measured or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from idle_kernels import idle_kernels

from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.problem import Budget, Problem
from edgeprune.budget.registry import get_solver
from edgeprune.compiler.cost import virtual_cost_ns
from edgeprune.compiler.kernels.registry import schedules_for
from edgeprune.devices.fake import FakeDevice, FakeFaults
from edgeprune.devices.protocol import Completed
from edgeprune.errors import DeviceUnreachableError, ProfileError
from edgeprune.graph.network import Network, read_network
from edgeprune.graph.resized import at_widths
from edgeprune.importance.curves import Saliency
from edgeprune.importance.registry import criterion
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.problem import build_problem, kernels_to_measure
from edgeprune.latency.records import KernelRecord
from edgeprune.latency.store import ProfileStore
from edgeprune.models.zoo import build
from edgeprune.profiling.estimated import estimated_of
from edgeprune.profiling.measure import TimingOptions
from edgeprune.profiling.networks import random_widths
from edgeprune.profiling.profile import ProfileOptions, ProfileResult
from edgeprune.sampling import sampled as sampling
from edgeprune.sampling.asked import SHARES
from edgeprune.sampling.sampled import profiled

# One worker runs them all: they share a profile.
pytestmark = pytest.mark.xdist_group("sampled")

OPTIONS = ProfileOptions(points=8, step=4, tune=2, sampled=True, timing=TimingOptions(warmup=0, repeats=2))


@dataclass(frozen=True)
class Sampled:
    """A profile that all tests look at, with its store."""

    result: ProfileResult
    path: Path

    def model(self, network: Network, target) -> LatencyModel:
        with ProfileStore(self.path) as store:
            (profile,) = store.profiles()
            return estimated_of(profile, target, [n.spec for n in network.kernels.nodes])


@pytest.fixture(scope="module", autouse=True)
def nothing_to_compile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whether real kernels compile and run, other tests of sampled profiles see: on the command line, and of a fit."""
    with idle_kernels(tmp_path_factory.mktemp("home")):
        yield


@pytest.fixture(scope="module")
def once(network, target, tmp_path_factory) -> Sampled:
    folder = tmp_path_factory.mktemp("sampled")
    with ProfileStore(folder / "p.sqlite3") as store:
        return Sampled(profiled(network, target, FakeDevice(folder / "device"), store, OPTIONS), folder / "p.sqlite3")


def cost_ns(network: Network, widths: Mapping[str, int]) -> int:
    return sum(virtual_cost_ns(n.spec) for n in at_widths(network.kernels, widths).nodes)


def problem(network: Network, levels, model: LatencyModel) -> Problem:
    curves = Saliency.summed(criterion("l2").score(network, None)).curves
    return build_problem(network.kernels, network.channels, curves, levels, model, estimate=True)


def test_few_of_the_kernels_are_measured(once, network):
    every = kernels_to_measure(network.kernels, network.channels, once.result.levels)
    assert once.result.measured < len(every) / 20
    assert once.result.timings < len(every) * 2 / 3, "of which a complete profile times most with two schedules"
    assert (once.result.failed, once.result.reused) == ((), 0)


def test_the_plan_is_as_good_as_that_of_all_measurements(once, network, target):
    """At what the sampled plan really takes, the best plan of a complete table retains hardly more."""
    offered = once.result.levels
    complete = [
        KernelRecord(s, dict(schedules_for(s, target)[0]), "ok", virtual_cost_ns(s), 0.0, 1.0, 1)
        for s in kernels_to_measure(network.kernels, network.channels, offered)
    ]
    truth = problem(network, offered, LatencyModel(complete))
    guess = problem(network, offered, once.model(network, target))
    dense_ms = cost_ns(network, {g.name: g.size for g in network.channels.groups}) / 1e6
    for share in SHARES:
        plan = get_solver("exact").solve(guess, Budget(latency_ms=share * dense_ms))
        levels = [c.levels.index(w) for c, w in zip(truth.choices, plan.widths, strict=True)]
        really = Evaluator(truth).solution(levels, "exact")
        assert really.latency_ms == pytest.approx(plan.latency_ms, rel=0.02)
        best = get_solver("exact").solve(truth, Budget(latency_ms=really.latency_ms))
        assert plan.saliency >= 0.995 * best.saliency


def test_networks_that_nobody_measured_take_what_is_predicted(once, network, target):
    model, generator = once.model(network, target), np.random.default_rng(99)
    errors, inside, widths = [], [], []
    for _ in range(40):
        drawn = random_widths(network.channels, generator)
        found = model.network(n.spec for n in at_widths(network.kernels, drawn).nodes)
        took = cost_ns(network, drawn) / 1e6
        low, high = found.interval_ms
        errors.append(abs(found.latency_ms / took - 1))
        inside.append(low <= took <= high)
        widths.append((high - low) / found.latency_ms)
    assert np.mean(errors) < 0.02
    assert np.quantile(errors, 0.95) < 0.05
    assert np.mean(inside) >= 0.9
    assert np.median(widths) < 0.1


def test_whole_networks_are_kept(once, network):
    with ProfileStore(once.path) as store:
        networks = store.profiles()[0].networks()
    assert len(networks) > sampling.MORE
    assert tuple(n.spec for n in network.kernels.nodes) in {n.kernels for n in networks}
    for found in networks:
        assert found.latency_ns == sum(map(virtual_cost_ns, found.kernels))
        assert [p.latency_ns for p in found.placed] == [virtual_cost_ns(p.spec) for p in found.placed]


def test_it_says_how_sure_plans_are(once):
    assert [s.share for s in once.result.sureness] == list(SHARES)
    for found in once.result.sureness:
        assert 0 <= found.spread < 0.02
        assert 0 <= found.worth < 0.02


def test_again_measures_nothing(once, network, target, tmp_path):
    with ProfileStore(once.path) as store:
        again = profiled(network, target, FakeDevice(tmp_path / "device"), store, OPTIONS)
    assert (again.measured, again.timings, again.sureness) == (0, 0, once.result.sureness)
    assert again.reused >= len({n.spec.key for n in network.kernels.nodes})


def test_a_link_that_drops_loses_nothing_that_was_stored(once, network, target, store, tmp_path):
    """Each kernel is stored once its batch is there, and the next run goes on from it."""
    calls = FakeDevice(tmp_path / "counted").calls
    device = FakeDevice(tmp_path / "device", faults=FakeFaults(drop_before_call=calls + 14))
    with pytest.raises(DeviceUnreachableError):
        profiled(network, target, device, store, OPTIONS)
    (profile,) = store.profiles()
    kept = profile.records()
    assert kept
    done = profiled(network, target, FakeDevice(tmp_path / "other"), store, OPTIONS)
    assert done.measured <= once.result.measured - len(kept)
    assert {r.spec.key for r in kept} <= {r.spec.key for r in profile.records()}


def test_heavy_kernels_are_tuned_once_whatever_was_interrupted(network, target, device, store):
    """By what is stored, not by what this run measured."""
    first = replace(OPTIONS, seconds=1e-6, tune=1)
    untuned = profiled(network, target, device, store, first)
    assert {r.flags for r in untuned.profile.records()} == {()}
    late = replace(OPTIONS, seconds=1e-6)
    tuned = profiled(network, target, device, store, late)
    heavy = {r.spec.key for r in tuned.profile.records() if "tuned" in r.flags}
    assert 3 < tuned.measured == len(heavy) < len(tuned.profile)
    assert profiled(network, target, device, store, late).measured == 0


def test_where_no_kernel_runs_the_profile_says_which_failed(network, target, device, store, monkeypatch):
    run = device.run

    def dies(argv, *, timeout_s=60.0):
        return Completed(139, "", "Illegal instruction\n") if "kernels" in argv else run(argv, timeout_s=timeout_s)

    monkeypatch.setattr(device, "run", dies)
    done = profiled(network, target, device, store, OPTIONS)
    assert {r.spec.key for r in done.failed} >= {n.spec.key for n in network.kernels.nodes}
    assert "Illegal instruction" in done.failed[0].error
    assert done.sureness == ()


def test_no_time_leaves_the_network_as_it_is(once, network, target, device, store):
    done = profiled(network, target, device, store, replace(OPTIONS, seconds=1e-6))
    assert done.measured == len({n.spec.key for n in network.kernels.nodes})
    assert done.profile.networks() == ()
    late, sure = (max(s.spread for s in r.sureness) for r in (done, once.result))
    assert late > 3 * sure, "and it says that it is not sure"


def test_a_profile_of_another_board_is_used_as_it_is(once, network, target, tmp_path):
    class Other(FakeDevice):
        def describe(self):
            return replace(super().describe(), cpu="another")

    with ProfileStore(once.path) as store:
        done = profiled(network, target, Other(tmp_path / "device"), store, OPTIONS, allow_mismatch=True)
        assert (done.measured, len(store.profiles())) == (0, 1)
        assert done.sureness == once.result.sureness


def test_weights_that_are_worth_nothing_are_no_obstacle(once, network, target, tmp_path, monkeypatch):
    def nothing(self, network, batches=None, loss_fn=None):
        return {g.name: np.zeros(g.size) for g in network.channels.prunable}

    monkeypatch.setattr("edgeprune.importance.magnitude.L2.score", nothing)
    with ProfileStore(once.path) as store:
        done = profiled(network, target, FakeDevice(tmp_path / "device"), store, replace(OPTIONS, seconds=1e-6))
    assert len(done.sureness) == len(SHARES)


def test_without_sampling_all_kernels_are_measured(network, target, device, store):
    few = replace(OPTIONS, sampled=False, points=1, tune=1)
    done = profiled(network, target, device, store, few)
    assert (done.sureness, done.profile.networks()) == ((), ())
    assert done.measured == len(kernels_to_measure(network.kernels, network.channels, done.levels))


def test_a_target_of_another_kind_of_board_is_refused(network, device, store):
    from edgeprune.errors import TargetError
    from edgeprune.targets import load_target

    with pytest.raises(TargetError):
        profiled(network, load_target("rpi4"), device, store, OPTIONS)
    assert not store.profiles()


def test_a_profile_that_lacks_the_network_says_so(network, target, device, store, once):
    """A stored profile of the target that knows none of its kernels, taken as it is."""
    with ProfileStore(once.path) as known:
        fingerprint = known.profiles()[0].fingerprint
    store.open_profile(replace(fingerprint, threads=7))
    with pytest.raises(ProfileError):
        profiled(network, target, device, store, OPTIONS, allow_mismatch=True)


def test_a_second_network_with_more_weights_uses_what_the_first_taught(network, once, target, tmp_path):
    """Its profile is another one, but the kernels that both have are not tuned again."""
    deep = read_network(build("resnet20", seed=0).eval(), (torch.zeros(1, 3, 32, 32),))
    both = {n.spec.key for n in network.kernels.nodes} & {n.spec.key for n in deep.kernels.nodes}
    assert len(both) > len({n.spec.key for n in deep.kernels.nodes}) / 2
    with ProfileStore(once.path) as store:
        (first,) = store.profiles()
        heavier = replace(first.fingerprint, weight_span=2 * first.fingerprint.weight_span)
        with ProfileStore(tmp_path / "p.sqlite3") as other:
            own = other.open_profile(heavier)
            for record in first.records():
                own.add(record)
            late = replace(OPTIONS, seconds=1e-6)
            done = profiled(deep, target, FakeDevice(tmp_path / "device"), other, late)
            assert len(other.profiles()) == 2
    assert done.reused >= len(both)
    assert done.measured == len({n.spec.key for n in deep.kernels.nodes} - both)
