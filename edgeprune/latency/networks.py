"""Whole networks that were measured: what the sum of their kernels misses, which a profile keeps beside the kernels.

A network takes longer than its kernels, or less long: caches hold what the last kernel wrote, or do not; calls, threads
and the clock under load have their part. On one device that is alike from network to network.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from edgeprune.errors import ProfileError
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.estimates import Estimator, Total
from edgeprune.latency.records import EVIDENCE, canonical_json, checked_fields, checked_spec


def network_key(kernels: Iterable[KernelSpec]) -> str:
    """The key of a network of these kernels, in the order in which they run."""
    return hashlib.sha256(" ".join(s.key for s in kernels).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Placed:
    """A kernel as it was timed inside a network, with the caches as those before it leave them.

    Attributes:
        latency_ns: the mean over its places in the network, at the clock of the network's own latency. Times the places
            of each these add up to that, but for what is not done in kernels.
        error_ns: its standard error.
    """

    spec: KernelSpec
    schedule: Mapping[str, Any]
    latency_ns: float
    error_ns: float

    def to_json(self) -> dict[str, Any]:
        """Without the spec, which the record of the network has."""
        figures = {"latency_ns": float(self.latency_ns), "error_ns": float(self.error_ns)}
        return {"schedule": dict(self.schedule), **figures}


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """The measurement of one network on one device.

    Attributes:
        kernels: in the order in which they run.
        latency_ns: at the clock at which the reference loop takes ``reference_ns``; 0 where there is none.
        spread_ns: interquartile range of its samples.
        placed: its different kernels, in the order in which each comes first; none where they were not timed.
    """

    kernels: tuple[KernelSpec, ...]
    latency_ns: float
    spread_ns: float
    samples: int
    evidence: str = "measured"
    reference_ns: float = 0.0
    placed: tuple[Placed, ...] = ()

    @property
    def key(self) -> str:
        """Of these kernels in this order (16 hex digits)."""
        return network_key(self.kernels)

    def at_clock(self, reference_ns: float) -> float:
        """The latency in ns at the clock at which the reference loop takes ``reference_ns``."""
        return self.latency_ns * (reference_ns / self.reference_ns if reference_ns and self.reference_ns else 1.0)

    @property
    def beyond_ns(self) -> float:
        """What it takes beside its kernels: inputs are brought in, results out. 0 where they were not timed in it."""
        if not self.placed:
            return 0.0
        count = Counter(s.key for s in self.kernels)
        return self.latency_ns - math.fsum(count[p.spec.key] * p.latency_ns for p in self.placed)

    def placed_at(self, reference_ns: float) -> list[Placed]:
        """Its kernels in their places, at the clock at which the reference loop takes ``reference_ns``."""
        by = self.at_clock(reference_ns) / self.latency_ns
        return [replace(p, latency_ns=by * p.latency_ns, error_ns=by * p.error_ns) for p in self.placed]

    def to_json(self) -> dict[str, Any]:
        """Each spec once: many kernels of a network are equal."""
        specs = {s.key: s.to_json() for s in self.kernels}
        places = {key: place for place, key in enumerate(specs)}
        return {
            "specs": list(specs.values()),
            "network": [places[s.key] for s in self.kernels],
            "latency_ns": float(self.latency_ns),
            "spread_ns": float(self.spread_ns),
            "samples": int(self.samples),
            "evidence": self.evidence,
            "reference_ns": float(self.reference_ns),
            "placed": [p.to_json() for p in self.placed],
        }

    @classmethod
    def from_json(cls, data: Any) -> NetworkRecord:
        """A checked record.

        Raises:
            ProfileError: a field is missing, unknown or of the wrong type, or :func:`check_network` refuses it.
        """
        # Those of earlier versions have no kernels that were timed in their places.
        said = {"placed": [], **data} if isinstance(data, dict) else data
        fields = {**checked_fields(said, _FIELDS, "record of a network")}
        specs, places = [checked_spec(s) for s in fields.pop("specs")], fields.pop("network")
        if not all(type(i) is int for i in places) or set(places) != set(range(len(specs))):
            raise ProfileError("the kernels of a network cannot be read: its places are not those of its specs")
        timed = [checked_fields(p, _PLACED, "kernel of a network") for p in fields.pop("placed")]
        if timed and len(timed) != len(specs):
            raise ProfileError(f"{len(timed)} of the {len(specs)} kernels of a network were timed in their places")
        placed = tuple(Placed(s, **p) for s, p in zip(specs, timed, strict=bool(timed)))
        record = cls(tuple(specs[i] for i in places), placed=placed, **fields)
        check_network(record)
        return record


_FIELDS: dict[str, type | tuple[type, ...]] = {
    "specs": list,
    "network": list,
    "latency_ns": (int, float),
    "spread_ns": (int, float),
    "samples": int,
    "evidence": str,
    "reference_ns": (int, float),
    "placed": list,
}
_PLACED: dict[str, type | tuple[type, ...]] = {
    "schedule": dict,
    "latency_ns": (int, float),
    "error_ns": (int, float),
}


def check_network(record: NetworkRecord) -> None:
    """Raises ProfileError, naming every fault, for a record that cannot be a measurement of a network."""
    if faults := list(_faults(record)):
        raise ProfileError(
            f"the record of a network of {len(record.kernels)} kernels cannot be used: {'; '.join(faults)}",
            hint="profile the model again",
            faults=faults,
        )


def _faults(record: NetworkRecord) -> Iterator[str]:
    if not record.kernels:
        yield "it has no kernels"
    if record.evidence not in EVIDENCE:
        yield f"evidence {record.evidence!r} is none of {', '.join(EVIDENCE)}"
    for name in ("latency_ns", "spread_ns", "samples", "reference_ns"):
        if not 0 <= getattr(record, name) < 2**63:
            yield f"{name} is {getattr(record, name)}"
    if not record.latency_ns > 0 or record.samples == 0:
        yield "it was not timed"
    for p in record.placed:
        if not (0 < p.latency_ns < 2**63 and 0 <= p.error_ns < 2**63):
            yield f"{p.spec} took {p.latency_ns} ns in it, with an error of {p.error_ns}"
    try:
        canonical_json(record.to_json())
    except (TypeError, ValueError) as e:
        yield f"it is no JSON: {e}"


class Surplus:
    """What whole networks take over the sums of their kernels: a constant, for what is not done in kernels, and a
    factor, which networks scatter around.

    The logarithm of measured over summed is normal, with a mean of which :data:`OFFSET` is known beforehand and a
    deviation of which :data:`SCATTER` is (Bishop, 2006, section 2.3.6). One factor for all sizes: plans are sums, and
    stay such.

    Args:
        sums: of the kernels of each measured network.
        measured: latencies of the same, in ns, without the constant of each.
        beyond_ns: the constant of the networks that are asked for.
        session: standard deviation, relative, by which figures of one network differ from one session to another.
            Networks of the same session do not show it.
    """

    OFFSET = 0.1
    """Standard deviation of the factor's logarithm before anything is measured."""
    SCATTER, WORTH = 0.008, 4.0
    """Standard deviation of networks around it before anything is measured, and how many networks that counts for."""
    SESSION = 0.011
    """Deviation between two sessions on a device whose clock is of time, beside what all networks have in common."""

    def __init__(
        self, sums: Sequence[Total], measured: Sequence[float], beyond_ns: float = 0.0, session: float = 0.0
    ) -> None:
        self.beyond_ns = beyond_ns
        left = np.array([np.log(m / t.latency_ns) for t, m in zip(sums, measured, strict=True)])
        known = np.array([t.spread_ns / t.latency_ns for t in sums]) ** 2
        scatter = self.SCATTER**2
        # What they scatter by decides how much each tells of the factor, and the factor what they scatter by.
        for _ in range(10):
            weights = 1 / (known + scatter)
            variance = 1 / (self.OFFSET**-2 + float(weights.sum()))
            offset = variance * float(weights @ left)
            # A network whose sum is not well known says little of the scatter; and what the factor took of their
            # freedom is not left for them to scatter by.
            says = (scatter * weights) ** 2
            apart = float(says @ ((left - offset) ** 2 - known))
            freedom = self.WORTH + float(says @ (1 - variance * weights))
            scatter = (self.WORTH * self.SCATTER**2 + max(0.0, apart)) / freedom
        self.factor, self._variance = float(np.exp(offset)), variance + scatter + session**2

    def of(self, total: Total) -> Total:
        """The network whose kernels have this sum."""
        own = (total.spread_ns / total.latency_ns) ** 2
        latency_ns = total.latency_ns * self.factor
        return Total(latency_ns + self.beyond_ns, latency_ns * float(np.sqrt(self._variance + own)))


def surplus_of(
    networks: Sequence[NetworkRecord],
    estimator: Estimator,
    reference_ns: float,
    network: Sequence[KernelSpec],
) -> Surplus:
    """The surplus of measured networks over what an estimator says of their kernels.

    Those whose kernels were timed in their places count alone, if there are any: others are figures of another kind.

    Args:
        reference_ns: the reference loop's time at the clock that the estimator's latencies are at.
        network: kernels of the network that is asked for, at any widths. Another one brings in other inputs.
    """
    placed = [n for n in networks if n.placed] or list(networks)
    measured = [n.at_clock(reference_ns) for n in placed]
    beside = [n.beyond_ns * m / n.latency_ns for n, m in zip(placed, measured, strict=True)]
    shape = _shape(network)
    own = [b for n, b in zip(placed, beside, strict=True) if n.placed and _shape(n.kernels) == shape]
    sums = [estimator.total(n.kernels) for n in placed]
    inside = [m - b for m, b in zip(measured, beside, strict=True)]
    session = Surplus.SESSION if any(n.evidence == "measured" for n in placed) else 0.0
    return Surplus(sums, inside, max(0.0, median(own)) if own else 0.0, session)


def _shape(kernels: Sequence[KernelSpec]) -> list[tuple[str, int]]:
    """What networks of the same layers have in common, whatever their widths."""
    return [(s.op, s.output.pixels) for s in kernels]
