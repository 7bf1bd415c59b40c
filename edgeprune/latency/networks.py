"""Whole networks that were measured: what the sum of their kernels misses, which a profile keeps beside the kernels.

A network takes longer than its kernels, or less long: caches hold what the last kernel wrote, or do not; calls, threads
and the clock under load have their part. On one device that is alike from network to network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import ProfileError
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.estimates import Estimator, Total
from edgeprune.latency.records import EVIDENCE, canonical_json, checked_fields


def network_key(kernels: Iterable[KernelSpec]) -> str:
    """The key of a network of these kernels, in the order in which they run."""
    return hashlib.sha256(" ".join(s.key for s in kernels).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """The measurement of one network on one device.

    Attributes:
        kernels: in the order in which they run.
        latency_ns: at the clock at which the reference loop takes ``reference_ns``; 0 where there is none.
        spread_ns: interquartile range of its samples.
    """

    kernels: tuple[KernelSpec, ...]
    latency_ns: float
    spread_ns: float
    samples: int
    evidence: str = "measured"
    reference_ns: float = 0.0

    @property
    def key(self) -> str:
        """Of these kernels in this order (16 hex digits)."""
        return network_key(self.kernels)

    def at_clock(self, reference_ns: float) -> float:
        """The latency in ns at the clock at which the reference loop takes ``reference_ns``."""
        return self.latency_ns * (reference_ns / self.reference_ns if reference_ns and self.reference_ns else 1.0)

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
        }

    @classmethod
    def from_json(cls, data: Any) -> NetworkRecord:
        """A checked record.

        Raises:
            ProfileError: a field is missing, unknown or of the wrong type, or :func:`check_network` refuses it.
        """
        fields = {**checked_fields(data, _FIELDS, "record of a network")}
        try:
            specs = [KernelSpec.from_json(s) for s in fields.pop("specs")]
            kernels = tuple(specs[_place(i, len(specs))] for i in fields.pop("network"))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as e:
            raise ProfileError(f"the kernels of a network cannot be read: {e!r}") from e
        record = cls(kernels, **fields)
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
}


def _place(index: Any, count: int) -> int:
    if type(index) is not int or not 0 <= index < count:
        raise IndexError(f"there is no spec {index}")
    return index


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
    try:
        canonical_json(record.to_json())
    except (TypeError, ValueError) as e:
        yield f"it is no JSON: {e}"


Array = NDArray[np.float64]


class Surplus:
    """What whole networks take over the sum of their kernels: a factor that changes a little with the network's size.

    The logarithm of measured over summed is a line over the logarithm of the sum, by Bayesian linear regression
    (Bishop, 2006, section 3.3). Where little was measured it is what :data:`OFFSET`, :data:`SLOPE` and
    :data:`SCATTER` say.

    Args:
        sums: of the kernels of each measured network.
        measured: latencies of the same, in ns.
    """

    OFFSET, SLOPE = 0.1, 0.05
    """Standard deviations of the line's offset and slope before anything is measured."""
    SCATTER, WORTH = 0.015, 4.0
    """Standard deviation of networks around the line before anything is measured, and how many networks that counts
    for."""

    def __init__(self, sums: Sequence[Total], measured: Sequence[float]) -> None:
        self._origin = float(np.mean([np.log(t.latency_ns) for t in sums])) if sums else None
        self._design = np.stack([self._row(t) for t in sums]) if sums else np.zeros((0, 2))
        self._left = np.array([np.log(m / t.latency_ns) for t, m in zip(sums, measured, strict=True)])
        self._known = np.array([t.spread_ns / t.latency_ns for t in sums]) ** 2
        self._prior = np.diag([self.OFFSET**-2, self.SLOPE**-2])
        self._scatter = self.SCATTER**2
        # What networks scatter by decides how much the line trusts each, and the line what they scatter by.
        for _ in range(10):
            self._line, self._covariance = self._fitted()
            weights = 1 / (self._known + self._scatter)
            apart = (self._left - self._design @ self._line) ** 2 - self._known
            found = self.WORTH * self.SCATTER**2 + max(0.0, float(apart.sum()))
            # What the line took of the networks' freedom is not left for them to scatter by.
            taken = float(((self._design @ self._covariance) * self._design).sum(axis=1) @ weights)
            self._scatter = found / (self.WORTH + len(self._left) - taken)

    def of(self, total: Total) -> Total:
        """The network whose kernels have this sum."""
        row = self._row(total)
        own = (total.spread_ns / total.latency_ns) ** 2
        variance = float(row @ self._covariance @ row) + self._scatter + own
        latency = total.latency_ns * float(np.exp(row @ self._line))
        return Total(latency, latency * float(np.sqrt(variance)))

    def _row(self, total: Total) -> Array:
        return np.array([1.0, 0.0 if self._origin is None else np.log(total.latency_ns) - self._origin])

    def _fitted(self) -> tuple[Array, Array]:
        weights = 1 / (self._known + self._scatter)
        covariance = np.asarray(np.linalg.inv(self._prior + (self._design.T * weights) @ self._design), np.float64)
        line = np.asarray(covariance @ (self._design.T @ (weights * self._left)), np.float64)
        return line, covariance


def surplus_of(networks: Sequence[NetworkRecord], estimator: Estimator, reference_ns: float) -> Surplus:
    """The surplus of measured networks over what an estimator says of their kernels.

    Args:
        reference_ns: the reference loop's time at the clock that the estimator's latencies are at.
    """
    sums = [estimator.total(n.kernels) for n in networks]
    return Surplus(sums, [n.at_clock(reference_ns) for n in networks])
