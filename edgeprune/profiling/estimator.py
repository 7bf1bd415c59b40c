"""Latencies of kernels that nobody has timed, from those that somebody has: a line through what kernels do, and a
Gaussian process for what that leaves.

Kernels count what they do (:mod:`edgeprune.compiler.kernels.work`); a latency is about a sum of these counts with
weights that are not negative, one set for each rule and family. Kernels depart from that alike, and the more alike the
closer their counts are: the logarithm of measured over expected is a Gaussian process over the logarithms of the counts
(Rasmussen and Williams, 2006, chapters 2 and 5), with a share that all kernels of a rule have in common, one of each
family, and one of each kernel, which measuring it alone tells. In its place in a network a kernel finds other caches
than when it is called again and again: what that changes is a share of its own, which kernels that were timed inside
networks have and those that were timed alone have not; estimates are of kernels in their places, if any was timed in
one. Leaving measured kernels out one by one (section 5.4.2) shows whether the spread is wide enough, and it is widened
where it is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize, nnls
from scipy.special import ndtri

from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.kernels.registry import rule_named
from edgeprune.compiler.kernels.work import FLOAT_BYTES, Work
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.errors import ProfileError, UnsupportedOperatorError
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.estimates import Array, Estimates, Joint, Total
from edgeprune.latency.networks import Placed
from edgeprune.latency.records import KernelRecord, canonical_json
from edgeprune.targets import Target

Indices = NDArray[np.int64]

WORTH = 0.5
"""How many kernels the prices of all rules count for in those of one, and those of a rule in those of a family."""
LEAST_NOISE, MOST_NOISE = 0.002, 0.1
"""Standard deviations of a measurement (of the logarithm) lie between these."""
OF_LAUNCHES = 0.4
"""A measurement's standard deviation over the interquartile range of its samples: it is a low quantile of launches."""
COVERED = 0.95
"""Share of the kernels left out one by one that lie within the spread's interval of this level, at least."""
LEARN_FROM = 400
"""Kernels that the process is fitted to at most: its settings change little beyond, and the time goes with the cube."""
CYCLES = [f.name for f in fields(Work)].index("cycles")
"""The count that speaks of time: a clock that counts instructions knows nothing of units that are busy."""
PART = 2048
"""Kernels that are estimated at once, which bounds the memory that this takes."""


@dataclass(frozen=True, slots=True)
class _Points:
    """Kernels as the process sees them.

    Attributes:
        counts: what they do, shape (n, counts of :class:`~edgeprune.compiler.kernels.work.Work`).
        rules, families, kernels: numbers of their rules, their families and themselves, shape (n,).
        placed: whether each is one in its place in a network, shape (n,).
    """

    counts: Array
    rules: Indices
    families: Indices
    kernels: Indices
    placed: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rules)

    @property
    def places(self) -> Array:
        found: Array = np.log1p(self.counts)
        return found

    def __getitem__(self, which: slice | Indices) -> _Points:
        kinds = (self.rules[which], self.families[which], self.kernels[which])
        return _Points(self.counts[which], *kinds, self.placed[which])


class WorkEstimator:
    """Estimates by what kernels do, from the records of one profile.

    Args:
        records: failed ones teach nothing, and neither do those with a schedule that no rule knows any more.
        placed: kernels that were timed inside networks, at the clock of ``records``.

    Attributes:
        placed: whether estimates are of kernels in their places in a network.

    Raises:
        ProfileError: nothing is left.
    """

    def __init__(self, records: Iterable[KernelRecord], target: Target, placed: Iterable[Placed] = ()) -> None:
        self._target, self._numbers = target, dict[str, int]()
        self._works: dict[tuple[str, str], tuple[float, ...]] = {}
        known = [r for r in records if r.ok and self._counted(r.spec, r.schedule)]
        if not known:
            raise ProfileError("nothing can be estimated from no measurement", hint="run: edgeprune profile MODEL")
        inside = [p for p in placed if self._counted(p.spec, p.schedule)]
        self.placed = bool(inside)
        self._book = ScheduleBook(target, known)
        self._alone = len(known)
        # Whether its clock tells of time; one that counts instructions is that of an emulated board.
        self._waits = any(r.evidence != "emulated" for r in known)
        measured: list[KernelRecord | Placed] = [*known, *inside]
        self._specs, schedules = [x.spec for x in measured], [x.schedule for x in measured]
        self._points = self._described(self._specs, schedules, np.arange(len(measured)) >= self._alone)
        self._object_bytes = np.array([r.object_bytes for r in known], dtype=np.float64)
        self._measured = np.array([*(r.median_ns for r in known), *(p.latency_ns for p in inside)])
        errors = np.array([*(OF_LAUNCHES * r.spread_ns for r in known), *(p.error_ns for p in inside)])
        self._noise = np.clip(errors / self._measured, LEAST_NOISE, MOST_NOISE)

    def _counted(self, spec: KernelSpec, schedule: Schedule) -> bool:
        """Whether what the kernel does can be counted."""
        try:
            self._work(spec, schedule)
        except (UnsupportedOperatorError, KeyError, TypeError, ValueError):
            return False
        return True

    def _work(self, spec: KernelSpec, schedule: Schedule) -> tuple[float, ...]:
        key = _key(spec, schedule)
        if key not in self._works:
            self._works[key] = rule_named(schedule).work(spec, schedule, self._target).counts()
        return self._works[key]

    @cached_property
    def _prices(self) -> _Prices:
        return _Prices(self._points, self._measured)

    @cached_property
    def _left(self) -> Array:
        """Logarithms of what was measured over what weights give."""
        found: Array = np.log(self._measured) - np.log(self._prices.expected(self._points))
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

        Those left out had their part in the prices, which took some of what there was to see.
        """
        count = len(self._points)
        freedom = count / (count - min(self._prices.freedom, 0.9 * count))
        found = float(np.quantile(np.abs(self._left_out), COVERED)) * float(np.sqrt(freedom))
        return max(1.0, found / float(ndtri((1 + COVERED) / 2)))

    @cached_property
    def _left_out(self) -> Array:
        """Of each measurement how far it lies above what those of other kernels say of it, in standard deviations."""
        precision, found = cho_solve(self._factor, np.eye(len(self._points))), np.empty(len(self._points))
        for kernel in np.unique(self._points.kernels):
            own = np.flatnonzero(self._points.kernels == kernel)
            covariance = np.linalg.inv(precision[np.ix_(own, own)])
            found[own] = covariance @ self._solved[own] / np.sqrt(np.diag(covariance))
        return found

    def slow(self, deviations: float) -> list[KernelSpec]:
        """Kernels whose measurement alone lies so many standard deviations above what the others say of them."""
        far = self._left_out[: self._alone]
        return [s for s, above in zip(self._specs, far, strict=False) if above > deviations]

    def estimate(self, specs: Sequence[KernelSpec]) -> Estimates:
        schedules = [self._book.choose(s).schedule for s in specs]
        points, measured = self._asked(specs, schedules), self._points[: self._alone]
        log_ns, variance, code = (np.empty(len(points)) for _ in range(3))
        for begin in range(0, len(points), PART):
            part = slice(begin, begin + PART)
            log_ns[part], half = self._posterior(points[part])
            variance[part] = _alone(self._settings, placed=self.placed) - (half**2).sum(axis=0)
            code[part] = self._object_bytes[_nearest(points[part], measured)]
        constants = [sum(rule_named(c).constants(s, c, self._target)) for s, c in zip(specs, schedules, strict=True)]
        weights = FLOAT_BYTES * np.array(constants, dtype=np.float64)
        return Estimates(log_ns, self.wider * np.sqrt(variance), code, weights)

    def total(self, specs: Sequence[KernelSpec]) -> Total:
        counts = Counter(s.key for s in specs)
        alike = {s.key: s for s in specs}
        return self.joint(list(alike.values())).total(np.array([counts[key] for key in alike], dtype=np.float64))

    def joint(self, specs: Sequence[KernelSpec]) -> Joint:
        """Of different kernels, with what they have in common; its size is the square of their number."""
        points = self._asked(specs, [self._book.choose(s).schedule for s in specs])
        log_ns, half = self._posterior(points)
        covariance = _Kinship.of(points, points).covariance(self._settings) - half.T @ half
        return Joint(log_ns, covariance * self.wider**2)

    def _posterior(self, points: _Points) -> tuple[Array, Array]:
        """Means of the logarithms, and what measurements take off the covariance, as the half of a product."""
        across = _Kinship.of(points, self._points).covariance(self._settings)
        mean: Array = np.log(self._prices.expected(points)) + across @ self._solved
        return mean, solve_triangular(self._factor[0], across.T, lower=True)

    def _asked(self, specs: Sequence[KernelSpec], schedules: Sequence[Schedule]) -> _Points:
        return self._described(specs, schedules, np.full(len(specs), self.placed))

    def _described(
        self, specs: Sequence[KernelSpec], schedules: Sequence[Schedule], placed: NDArray[np.bool_]
    ) -> _Points:
        numbers, pairs = self._numbers, list(zip(specs, schedules, strict=True))
        counts = np.array([self._work(*pair) for pair in pairs], dtype=np.float64)
        counts[:, CYCLES] *= self._waits
        rules = [numbers.setdefault(f"rule {schedule['rule']}", len(numbers)) for schedule in schedules]
        families = [numbers.setdefault(spec.family, len(numbers)) for spec in specs]
        kernels = [numbers.setdefault(" ".join(_key(*pair)), len(numbers)) for pair in pairs]
        return _Points(counts, np.array(rules), np.array(families), np.array(kernels), placed)


def _key(spec: KernelSpec, schedule: Schedule) -> tuple[str, str]:
    return spec.key, canonical_json(dict(schedule))


class _Prices:
    """What one of each count takes, none of it negative: least squares of the relative error, for all kernels, for
    those of each rule, and for those of each rule and family. Each of these is drawn towards the one before, as
    strongly as :data:`WORTH` of its kernels draw it elsewhere.

    Attributes:
        freedom: how many kernels' worth of what there was to see the prices took.
    """

    def __init__(self, points: _Points, measured: Array) -> None:
        relative = points.counts / measured[:, None]
        self._all, _ = nnls(relative, np.ones(len(measured)))
        self._rules: dict[int, Array] = {}
        self._families: dict[tuple[int, int], Array] = {}
        self.freedom = 0.0
        for rule in np.unique(points.rules):
            of_rule = points.rules == rule
            self._rules[int(rule)], _ = _drawn(relative[of_rule], self._all)
            for family in np.unique(points.families[of_rule]):
                own = relative[of_rule & (points.families == family)]
                self._families[int(rule), int(family)], freedom = _drawn(own, self._rules[int(rule)])
                self.freedom += freedom

    def expected(self, points: _Points) -> Array:
        """Latencies in ns of kernels, measured or not."""
        pairs = zip(points.rules, points.families, strict=True)
        prices = [self._families.get((r, f), self._rules.get(r, self._all)) for r, f in pairs]
        found: Array = np.maximum((points.counts * np.array(prices)).sum(axis=1), 1.0)
        return found


def _drawn(relative: Array, towards: Array) -> tuple[Array, float]:
    """Prices by which counts over latencies sum up to one, drawn towards others; and their degrees of freedom."""
    drawn = np.diag(np.sqrt(WORTH * (relative**2).mean(axis=0)))
    prices, _ = nnls(np.vstack([relative, drawn]), np.concatenate([np.ones(len(relative)), drawn @ towards]))
    used = relative[:, prices > 0]
    if not used.size:
        return prices, 0.0
    gram = used.T @ used
    return prices, float(np.trace(np.linalg.pinv(gram + drawn[np.ix_(prices > 0, prices > 0)] ** 2) @ gram))


class _Share(IntEnum):
    """What kernels that have something in common depart by together from what their counts say: those of a rule, of a
    family, and each by itself; and those in their places again. The first ones change with what kernels do.
    """

    RULE = 0
    WIDTHS = 1
    PLACED_RULE = 2
    FAMILY = 3
    KERNEL = 4
    PLACED = 5
    PLACED_KERNEL = 6


@dataclass(frozen=True, slots=True)
class _Kinship:
    """How alike the kernels of two lists are, arrays of shape (n, m).

    Attributes:
        apart: squared distances of what they do.
        placed: whether both are kernels in their places in networks.
    """

    apart: Array
    same_rule: NDArray[np.bool_]
    same_family: NDArray[np.bool_]
    same: NDArray[np.bool_]
    placed: NDArray[np.bool_]

    @classmethod
    def of(cls, a: _Points, b: _Points) -> _Kinship:
        ours, theirs = a.places, b.places
        apart = (ours**2).sum(axis=1)[:, None] + (theirs**2).sum(axis=1)[None, :] - 2 * ours @ theirs.T
        pairs = ((a.rules, b.rules), (a.families, b.families), (a.kernels, b.kernels))
        both = a.placed[:, None] & b.placed[None, :]
        rule, family, kernel = (x[:, None] == y[None, :] for x, y in pairs)
        return cls(np.maximum(apart, 0.0), rule, family, kernel, both)

    def shares(self, settings: Array) -> tuple[Array, ...]:
        """Covariances of what weights leave, in the order of :class:`_Share`.

        Args:
            settings: logarithms of the deviations of these, and of the distances over which the first of them change.
        """
        of, reach = np.exp(settings[: len(_Share)]) ** 2, np.exp(settings[len(_Share) :])
        near = [np.exp(-self.apart / (2 * r**2)) for r in reach]
        return (
            of[_Share.RULE] * near[_Share.RULE] * self.same_rule,
            of[_Share.WIDTHS] * near[_Share.WIDTHS] * self.same_family,
            of[_Share.PLACED_RULE] * near[_Share.PLACED_RULE] * (self.same_rule & self.placed),
            of[_Share.FAMILY] * self.same_family,
            of[_Share.KERNEL] * self.same,
            of[_Share.PLACED] * self.placed,
            of[_Share.PLACED_KERNEL] * (self.same & self.placed),
        )

    def covariance(self, settings: Array) -> Array:
        found: Array = np.sum(self.shares(settings), axis=0)
        return found


def _alone(settings: Array, *, placed: bool) -> float:
    """Variance of a kernel before anything is measured, alone or in its place."""
    shares = [s for s in _Share if placed or s not in (_Share.PLACED, _Share.PLACED_RULE, _Share.PLACED_KERNEL)]
    return float((np.exp(settings[shares]) ** 2).sum())


def _nearest(a: _Points, b: _Points) -> Indices:
    """Of each kernel of ``a`` the one of ``b`` that is most alike: of its family where that has any, else its rule."""
    kin = _Kinship.of(a, b)
    found: Indices = (kin.apart + 1e6 * ~kin.same_family + 1e3 * ~kin.same_rule).argmin(axis=1)
    return found


START = np.log([0.15, 0.08, 0.04, 0.08, 0.02, 0.04, 0.02, 2.0, 0.7, 2.0])
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
        reaches = [share * kin.apart / np.exp(2 * r) for share, r in zip(shares, settings[len(_Share) :], strict=False)]
        gradient = np.array([(slope * change).sum() for change in (*(2 * share for share in shares), *reaches)])
        drawn = (settings - START) / DRAWN
        return fit + float(0.5 * (drawn**2).sum()), gradient + drawn / DRAWN

    found: Array = minimize(loss, START, jac=True, method="L-BFGS-B", options={"maxiter": 40}).x
    return found
