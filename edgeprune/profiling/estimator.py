"""Latencies of kernels that nobody has timed, from those that somebody has: a line through what kernels do, and a
Gaussian process for what that leaves.

Kernels count what they do (:mod:`edgeprune.compiler.kernels.work`); a latency is about a sum of these counts with
weights that are not negative, one set for each rule. Kernels depart from that alike, and the more alike the closer
their counts are: the logarithm of measured over expected is a Gaussian process over the logarithms of the counts
(Rasmussen and Williams, 2006, chapters 2 and 5), with a share that all kernels of a rule have in common, one of each
family, and one of each kernel, which measuring it alone tells. Leaving measured kernels out one by one (section 5.4.2)
shows whether its spread is wide enough, and it is widened where it is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize, nnls
from scipy.special import ndtri

from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.kernels.registry import rule_named
from edgeprune.compiler.kernels.work import FLOAT_BYTES
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.errors import ProfileError, UnsupportedOperatorError
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.estimates import Array, Estimates, Joint, Total
from edgeprune.latency.records import KernelRecord
from edgeprune.targets import Target

Indices = NDArray[np.int64]

WORTH = 0.1
"""How many of its kernels the weights of all rules count for in those of one."""
LEAST_NOISE, MOST_NOISE = 0.002, 0.1
"""Standard deviations of a measurement (of the logarithm) lie between these."""
OF_LAUNCHES = 0.4
"""A measurement's standard deviation over the interquartile range of its samples: it is a low quantile of launches."""
COVERED = 0.95
"""Share of the kernels left out one by one that lie within the spread's interval of this level, at least."""
LEARN_FROM = 400
"""Kernels that the process is fitted to at most: its settings change little beyond, and the time goes with the cube."""
PART = 2048
"""Kernels that are estimated at once, which bounds the memory that this takes."""


@dataclass(frozen=True, slots=True)
class _Points:
    """Kernels as the process sees them.

    Attributes:
        counts: what they do, shape (n, counts of :class:`~edgeprune.compiler.kernels.work.Work`).
        rules, families, kernels: numbers of their rules, their families and themselves, shape (n,).
    """

    counts: Array
    rules: Indices
    families: Indices
    kernels: Indices

    def __len__(self) -> int:
        return len(self.rules)

    @property
    def places(self) -> Array:
        found: Array = np.log1p(self.counts)
        return found

    def __getitem__(self, which: slice | Indices) -> _Points:
        return _Points(self.counts[which], self.rules[which], self.families[which], self.kernels[which])


class WorkEstimator:
    """Estimates by what kernels do, from the records of one profile.

    Args:
        records: failed ones teach nothing, and neither do those with a schedule that no rule knows any more.

    Raises:
        ProfileError: nothing is left.
    """

    def __init__(self, records: Iterable[KernelRecord], target: Target) -> None:
        self._target, self._numbers = target, dict[str, int]()
        self._works: dict[str, tuple[float, ...]] = {}
        known = [r for r in records if r.ok and self._counted(r)]
        if not known:
            raise ProfileError("nothing can be estimated from no measurement", hint="run: edgeprune profile MODEL")
        self._book = ScheduleBook(target, known)
        self._specs = [r.spec for r in known]
        self._points = self._described(self._specs, [r.schedule for r in known])
        self._object_bytes = np.array([r.object_bytes for r in known], dtype=np.float64)
        self._measured = np.array([r.median_ns for r in known])
        spread = np.array([r.spread_ns for r in known]) / self._measured
        self._noise = np.clip(OF_LAUNCHES * spread, LEAST_NOISE, MOST_NOISE)

    def _counted(self, record: KernelRecord) -> bool:
        """Whether what the kernel does can be counted; it is then."""
        try:
            rule = rule_named(record.schedule)
            self._works[record.spec.key] = rule.work(record.spec, record.schedule, self._target).counts()
        except (UnsupportedOperatorError, KeyError, TypeError, ValueError):
            return False
        return True

    @cached_property
    def _weights(self) -> dict[int, Array]:
        return _weights(self._points, self._measured)

    @cached_property
    def _left(self) -> Array:
        """Logarithms of what was measured over what weights give."""
        found: Array = np.log(self._measured) - np.log(self._expected(self._points))
        return found

    @cached_property
    def _settings(self) -> Array:
        return _fitted(self._points, self._left, self._noise)

    @cached_property
    def _factor(self) -> tuple[Array, bool]:
        covariance = _Kinship.of(self._points, self._points).covariance(self._settings)
        covariance[np.diag_indices_from(covariance)] += self._noise**2
        factor, lower = cho_factor(covariance, lower=True)
        return factor, bool(lower)

    @cached_property
    def _solved(self) -> Array:
        found: Array = cho_solve(self._factor, self._left)
        return found

    @cached_property
    def wider(self) -> float:
        """By how much spreads are widened: kernels left out one by one lie within them as often as they say.

        Those left out had their part in the weights, each of which takes one kernel's worth of what there was to see.
        """
        count, weights = len(self._points), sum(np.count_nonzero(w) for rule, w in self._weights.items() if rule >= 0)
        freedom = count / max(1.0, count - min(weights, 0.9 * count))
        found = float(np.quantile(np.abs(self._left_out), COVERED)) * float(np.sqrt(freedom))
        return max(1.0, found / float(ndtri((1 + COVERED) / 2)))

    @cached_property
    def _left_out(self) -> Array:
        """Of each kernel how far it lies above what the others say of it, in standard deviations."""
        precision = np.diag(cho_solve(self._factor, np.eye(len(self._points))))
        found: Array = self._solved / np.sqrt(precision)
        return found

    def slow(self, deviations: float) -> list[KernelSpec]:
        """Kernels whose measurement lies so many standard deviations above what the others say of them."""
        return [s for s, far in zip(self._specs, self._left_out, strict=True) if far > deviations]

    def estimate(self, specs: Sequence[KernelSpec]) -> Estimates:
        schedules = [self._book.choose(s).schedule for s in specs]
        points = self._described(specs, schedules)
        log_ns, variance, code = (np.empty(len(points)) for _ in range(3))
        for begin in range(0, len(points), PART):
            part = slice(begin, begin + PART)
            log_ns[part], half = self._posterior(points[part])
            variance[part] = _alone(self._settings) - (half**2).sum(axis=0)
            code[part] = self._object_bytes[_nearest(points[part], self._points)]
        constants = [sum(rule_named(c).constants(s, c, self._target)) for s, c in zip(specs, schedules, strict=True)]
        weights = FLOAT_BYTES * np.array(constants, dtype=np.float64)
        return Estimates(log_ns, self.wider * np.sqrt(variance), code, weights)

    def total(self, specs: Sequence[KernelSpec]) -> Total:
        counts = Counter(s.key for s in specs)
        alike = {s.key: s for s in specs}
        return self.joint(list(alike.values())).total(np.array([counts[key] for key in alike], dtype=np.float64))

    def joint(self, specs: Sequence[KernelSpec]) -> Joint:
        """Of different kernels, with what they have in common; its size is the square of their number."""
        points = self._described(specs, [self._book.choose(s).schedule for s in specs])
        log_ns, half = self._posterior(points)
        covariance = _Kinship.of(points, points).covariance(self._settings) - half.T @ half
        return Joint(log_ns, covariance * self.wider**2)

    def _posterior(self, points: _Points) -> tuple[Array, Array]:
        """Means of the logarithms, and what measurements take off the covariance, as the half of a product."""
        across = _Kinship.of(points, self._points).covariance(self._settings)
        mean: Array = np.log(self._expected(points)) + across @ self._solved
        return mean, solve_triangular(self._factor[0], across.T, lower=True)

    def _described(self, specs: Sequence[KernelSpec], schedules: Sequence[Schedule]) -> _Points:
        counts, numbers = [], self._numbers
        for spec, schedule in zip(specs, schedules, strict=True):
            if spec.key not in self._works:
                self._works[spec.key] = rule_named(schedule).work(spec, schedule, self._target).counts()
            counts.append(self._works[spec.key])
        rules = [numbers.setdefault(f"rule {schedule['rule']}", len(numbers)) for schedule in schedules]
        families = [numbers.setdefault(spec.family, len(numbers)) for spec in specs]
        kernels = [numbers.setdefault(spec.key, len(numbers)) for spec in specs]
        return _Points(np.array(counts, dtype=np.float64), np.array(rules), np.array(families), np.array(kernels))

    def _expected(self, points: _Points) -> Array:
        weights = np.array([self._weights.get(int(rule), self._weights[-1]) for rule in points.rules])
        found: Array = np.maximum((points.counts * weights).sum(axis=1), 1.0)
        return found


def _weights(points: _Points, measured: Array) -> dict[int, Array]:
    """Of each rule, and with -1 of rules without a measurement: least squares of the relative error, none negative.

    Those of a rule are drawn towards those of all, as strongly as :data:`WORTH` of its kernels draw them elsewhere.
    """
    relative = points.counts / measured[:, None]
    common, _ = nnls(relative, np.ones(len(measured)))
    weights: dict[int, Array] = {-1: common}
    for rule in np.unique(points.rules):
        own = relative[points.rules == rule]
        drawn = np.diag(np.sqrt(WORTH * (own**2).mean(axis=0)))
        weights[int(rule)], _ = nnls(np.vstack([own, drawn]), np.concatenate([np.ones(len(own)), drawn @ common]))
    return weights


@dataclass(frozen=True, slots=True)
class _Kinship:
    """How alike the kernels of two lists are, arrays of shape (n, m).

    Attributes:
        apart: squared distances of what they do.
    """

    apart: Array
    same_rule: NDArray[np.bool_]
    same_family: NDArray[np.bool_]
    same: NDArray[np.bool_]

    @classmethod
    def of(cls, a: _Points, b: _Points) -> _Kinship:
        ours, theirs = a.places, b.places
        apart = (ours**2).sum(axis=1)[:, None] + (theirs**2).sum(axis=1)[None, :] - 2 * ours @ theirs.T
        pairs = ((a.rules, b.rules), (a.families, b.families), (a.kernels, b.kernels))
        return cls(np.maximum(apart, 0.0), *(x[:, None] == y[None, :] for x, y in pairs))

    def shares(self, settings: Array) -> tuple[Array, ...]:
        """Covariances of what weights leave: those of a rule, of a family as a whole, of its kernels, and of each.

        Args:
            settings: logarithms of the deviations of these four, and of the distances over which the first and the
                third change.
        """
        of_rule, of_family, of_place, of_kernel, rule_reach, place_reach = np.exp(settings)
        shared = of_rule**2 * np.exp(-self.apart / (2 * rule_reach**2)) * self.same_rule
        whole = of_family**2 * self.same_family
        near = of_place**2 * np.exp(-self.apart / (2 * place_reach**2)) * self.same_family
        return shared, whole, near, of_kernel**2 * self.same

    def covariance(self, settings: Array) -> Array:
        found: Array = np.sum(self.shares(settings), axis=0)
        return found


def _alone(settings: Array) -> float:
    """Variance of a kernel before anything is measured."""
    return float((np.exp(settings[:4]) ** 2).sum())


def _nearest(a: _Points, b: _Points) -> Indices:
    """Of each kernel of ``a`` the one of ``b`` that is most alike: of its family where that has any, else its rule."""
    kin = _Kinship.of(a, b)
    found: Indices = (kin.apart + 1e6 * ~kin.same_family + 1e3 * ~kin.same_rule).argmin(axis=1)
    return found


START = np.log([0.15, 0.08, 0.08, 0.02, 2.0, 0.7])
"""Settings before anything is known, and what fitted ones are drawn towards."""
DRAWN = 0.7
"""Standard deviation of the logarithm of each around that."""


def _fitted(points: _Points, left: Array, noise: Array) -> Array:
    """Settings of the largest posterior, by its gradient (Rasmussen and Williams, equation 5.9)."""
    if len(points) > LEARN_FROM:
        some = np.random.default_rng(0).permutation(len(points))[:LEARN_FROM]
        points, left, noise = points[some], left[some], noise[some]
    kin, unit = _Kinship.of(points, points), np.eye(len(points))

    def loss(settings: Array) -> tuple[float, Array]:
        shares = kin.shares(settings)
        try:
            factor = cho_factor(np.sum(shares, axis=0) + unit * noise**2, lower=True)
        except np.linalg.LinAlgError:
            return 1e12, np.zeros_like(settings)
        solved = cho_solve(factor, left)
        fit = float(0.5 * left @ solved + np.log(np.diag(factor[0])).sum())
        slope = 0.5 * (cho_solve(factor, unit) - np.outer(solved, solved))
        reaches = [share * kin.apart / np.exp(2 * of) for share, of in zip(shares[::2], settings[4:], strict=True)]
        gradient = np.array([(slope * change).sum() for change in (*(2 * share for share in shares), *reaches)])
        drawn = (settings - START) / DRAWN
        return fit + float(0.5 * (drawn**2).sum()), gradient + drawn / DRAWN

    found: Array = minimize(loss, START, jac=True, method="L-BFGS-B", options={"maxiter": 40}).x
    return found
