"""The latency model of a profile, with estimates of the widths that were not measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.model import LatencyModel, at_one_clock, nominal_ns
from edgeprune.latency.networks import NetworkRecord, surplus_of
from edgeprune.latency.records import KernelRecord
from edgeprune.latency.store import Profile
from edgeprune.profiling.estimator import WorkEstimator
from edgeprune.targets import Target


def estimated(
    records: Iterable[KernelRecord],
    target: Target,
    networks: Sequence[NetworkRecord] = (),
    around: Sequence[KernelSpec] = (),
) -> LatencyModel:
    """A latency model of all widths of the families that were measured on a device of this target.

    Args:
        networks: whole ones that were measured there.
        around: the kernels of a network: what whole networks take over the sums of their kernels at its size corrects
            the model.
    """
    found = list(records)
    clock, steady = nominal_ns(found), at_one_clock(found)
    if not any(r.ok for r in steady):
        return LatencyModel(steady)
    estimator = WorkEstimator(steady, target)
    if not networks:
        return LatencyModel(steady, estimator=estimator)
    surplus = surplus_of(networks, estimator, clock)
    correction = 1.0
    if around:
        total = estimator.total(around)
        correction = surplus.of(total).latency_ns / total.latency_ns
    return LatencyModel(steady, correction=correction, estimator=estimator, surplus=surplus)


def estimated_of(profile: Profile, target: Target, around: Sequence[KernelSpec] = ()) -> LatencyModel:
    """The same of all that a profile holds."""
    return estimated(profile.records(), target, profile.networks(), around)
