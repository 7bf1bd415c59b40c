"""Figures of kernels that nobody has timed, and how well they are known: what a latency model asks of an estimator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeprune.graph.spec import KernelSpec

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimates:
    """Of n kernels, arrays of shape (n,); latencies are log-normal.

    Attributes:
        log_ns, deviation: mean and standard deviation of the latency's logarithm, the latency in ns.
        object_bytes, weight_bytes: as of :class:`~edgeprune.latency.records.KernelRecord`.
    """

    log_ns: Array
    deviation: Array
    object_bytes: Array
    weight_bytes: Array

    @property
    def latency_ns(self) -> Array:
        """Means; that of a log-normal one lies above its median."""
        found: Array = np.exp(self.log_ns + self.deviation**2 / 2)
        return found

    @property
    def spread_ns(self) -> Array:
        """Standard deviations."""
        found: Array = self.latency_ns * np.sqrt(np.expm1(self.deviation**2))
        return found


@dataclass(frozen=True, slots=True)
class Joint:
    """Of n kernels: logarithms of their latencies in ns, normal, with their covariance, shape (n, n)."""

    log_ns: Array
    covariance: Array

    @property
    def latency_ns(self) -> Array:
        """Means, shape (n,)."""
        found: Array = np.exp(self.log_ns + np.diag(self.covariance) / 2)
        return found

    def total(self, counts: Array) -> Total:
        """Of the sum in which each kernel comes as often as ``counts`` says."""
        means = self.latency_ns * counts
        variance = float(means @ np.expm1(self.covariance) @ means)
        return Total(float(means.sum()), float(np.sqrt(max(0.0, variance))))


@dataclass(frozen=True, slots=True)
class Total:
    """A sum of latencies: its mean and standard deviation in ns."""

    latency_ns: float
    spread_ns: float


class Estimator(Protocol):
    """Estimates from the measurements of one profile.

    Attributes:
        placed: whether they are of kernels in their places in a network, in place of kernels that are called alone.
    """

    @property
    def placed(self) -> bool: ...

    def estimate(self, specs: Sequence[KernelSpec]) -> Estimates:
        """Of each kernel with the schedule that the compiler would give it."""
        ...

    def total(self, specs: Sequence[KernelSpec]) -> Total:
        """Of their sum, repeats counted: what is not known of one kernel is not known of those that are like it."""
        ...
