"""The latency model: predicted latency and bytes of any kernel, and of any network, on one device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.clock import nominal
from edgeprune.errors import ProfileError
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.estimates import Estimator
from edgeprune.latency.networks import Surplus
from edgeprune.latency.records import EVIDENCE, KernelRecord, check_record
from edgeprune.latency.tables import QUANTITIES, Array, Filling, LatencyTable, Prediction, table_from_records

LEVEL = 0.95
"""Share of networks that take what :attr:`NetworkPrediction.interval_ms` says."""
QUARTILES = 1.349
"""Interquartile range of a normal distribution, in standard deviations."""


def nominal_ns(records: Iterable[KernelRecord]) -> float:
    """The reference's time at a profile's nominal clock: of those that its sessions met the quickest that is no
    exception. 0 if nothing is known of clocks.
    """
    return nominal([r.reference_ns for r in records if r.reference_ns])


def at_one_clock(records: Iterable[KernelRecord]) -> list[KernelRecord]:
    """Records of one profile with their latencies at its nominal clock."""
    found = list(records)
    clock = nominal_ns(found)
    return [r.at_clock(clock) for r in found]


@dataclass(frozen=True, slots=True)
class NetworkPrediction:
    """Sums over kernels, and what whole networks take beyond them where that is known.

    ``spread_ms`` is the interquartile range of what the latency may be. Without an estimator those of the kernels add
    up: what disturbs one kernel of a board tends to disturb the next. ``interpolated`` counts the kernels whose figure
    was not measured. ``flash_bytes`` counts the code of equal kernels each time, so the program is never larger.
    """

    latency_ms: float
    spread_ms: float
    flash_bytes: float
    kernels: int
    interpolated: int

    @property
    def interval_ms(self) -> tuple[float, float]:
        """Where the latency lies in :data:`LEVEL` of all cases; log-normal, so never below 0."""
        if not self.latency_ms:
            return 0.0, 0.0
        factor = math.exp(NormalDist().inv_cdf((1 + LEVEL) / 2) * self.spread_ms / QUARTILES / self.latency_ms)
        return self.latency_ms / factor, self.latency_ms * factor


class LatencyModel:
    """Predicts from the records of one profile.

    Args:
        records: all of one fingerprint; the last of a spec counts.
        correction: latency factor learnt from a measurement of the whole network (:meth:`corrected`);
            every latency and spread the model gives is multiplied with it.
        beyond_ms: what a network takes beside its kernels.
        estimator: of widths that were not measured, from these records at one clock (:func:`at_one_clock`). None:
            widths between measured ones are interpolated, and others refused.
        stored_share: of the bytes of weights those that are stored (:meth:`storing`).
        surplus: of whole networks over the sums of that estimator: its factor is part of the correction, its constant
            of ``beyond_ms``, and what networks scatter by is part of what is not known of one, until a measurement
            corrects the model.

    Raises:
        ProfileError: a record does not check, or the correction is not positive and finite.
    """

    def __init__(
        self,
        records: Iterable[KernelRecord],
        *,
        correction: float = 1.0,
        beyond_ms: float = 0.0,
        estimator: Estimator | None = None,
        surplus: Surplus | None = None,
        stored_share: float = 1.0,
    ) -> None:
        if not (math.isfinite(correction) and correction > 0):
            raise ProfileError(f"a latency correction of {correction} makes no sense")
        self.correction = correction if surplus is None else correction * surplus.factor
        self.beyond_ms = beyond_ms if surplus is None else beyond_ms + correction * surplus.beyond_ns * 1e-6
        self._estimator, self._surplus, self.stored_share = estimator, surplus, stored_share
        found: dict[str, KernelRecord] = {}
        for record in records:
            check_record(record)
            found[record.spec.key] = record
        self._by_key = dict(zip(found, at_one_clock(found.values()), strict=True))
        self._by_family: dict[str, list[KernelRecord]] = {}
        for record in self._by_key.values():
            self._by_family.setdefault(record.spec.family, []).append(record)

    @property
    def evidence(self) -> str:
        """The weakest level among the records: that of every figure that is made of them."""
        return max((r.evidence for r in self._by_key.values()), key=EVIDENCE.index, default=EVIDENCE[-1])

    def record(self, spec: KernelSpec) -> KernelRecord | None:
        """The record of this very spec, failed ones included."""
        return self._by_key.get(spec.key)

    def family(self, spec: KernelSpec) -> list[KernelRecord]:
        """Records of this kernel at any width, failed ones included."""
        records = list(self._by_family.get(spec.family, ()))
        smallest = spec.operator.smallest(spec)
        if smallest and smallest.family != spec.family and (one := self.record(smallest)) is not None:
            records.append(one)
        return records

    def table(
        self, spec: KernelSpec, *, grids: tuple[NDArray[np.int64], ...] | None = None, estimate: bool = False
    ) -> LatencyTable:
        """The latency table of a kernel's family, **uncorrected**; see :func:`table_from_records`.

        Raises:
            ProfileError: the family was not profiled, or cells are missing.
        """
        same = self.family(spec)
        if not same:
            raise ProfileError(
                f"the profile has no record of {spec} at any width",
                hint="run: edgeprune profile on this model, then try again",
                spec_key=spec.key,
                family=spec.family,
            )
        axes = tuple(spec.widths)
        filling: bool | Filling = estimate
        if estimate and self._estimator is not None and any(r.ok for r in same):
            filling = partial(_fill, spec, self._estimator)
        made = table_from_records(same, axes=axes, grids=grids, estimate=filling)
        shares = [self.stored_share if name == "weight_bytes" else 1.0 for name in QUANTITIES]
        return replace(made, values=made.values * shares)

    def _only_looks_new(self, spec: KernelSpec) -> bool:
        """Whether it is the smallest of a family that is known, which looks like one of another family."""
        if spec.family in self._by_family:
            return False
        smallest = (r[0].spec.operator.smallest(r[0].spec) for r in self._by_family.values())
        return any(s is not None and s.family == spec.family for s in smallest)

    def predict_kernel(self, spec: KernelSpec) -> Prediction:
        """Measured if this very spec was, else estimated from measured widths of its family.

        Raises:
            ProfileError: neither is possible, or the kernel failed on the device (the error says why).
        """
        record = self.record(spec)
        if record is not None and not record.ok:
            raise ProfileError(
                f"{spec} failed while it was profiled: {record.error}",
                hint="choose other widths, or see why it failed and profile it again",
                spec_key=spec.key,
            )
        placed = self._estimator is not None and self._estimator.placed
        if record is not None and not placed:
            ms = self.correction * 1e-6
            latency, spread = record.median_ns * ms, record.spread_ns * ms
            weight_bytes = record.weight_bytes * self.stored_share
            return Prediction(latency, spread, record.object_bytes, weight_bytes, "table")
        if record is None and self._estimator is not None and self._only_looks_new(spec):
            said = self._estimator.estimate([spec])
            figures = (said.latency_ns[0], said.spread_ns[0] * QUARTILES)
            latency, spread = (float(ns) * 1e-6 * self.correction for ns in figures)
            weight_bytes = float(said.weight_bytes[0]) * self.stored_share
            return Prediction(latency, spread, float(said.object_bytes[0]), weight_bytes, "interpolated")
        here = tuple(np.array([w], dtype=np.int64) for w in spec.widths.values())
        cell = self.table(spec, grids=here, estimate=True).predict(spec.widths)
        latency, spread = cell.latency_ms * self.correction, cell.spread_ms * self.correction
        return Prediction(latency, spread, cell.object_bytes, cell.weight_bytes, cell.source)

    def network(self, specs: Iterable[KernelSpec]) -> NetworkPrediction:
        """The sum over a network's kernels, and what it takes beside them.

        Raises:
            What :meth:`predict_kernel` raises.
        """
        specs = list(specs)
        by_key = {s.key: self.predict_kernel(s) for s in {s.key: s for s in specs}.values()}
        parts = [by_key[s.key] for s in specs]
        latency_ms, spread_ms = (math.fsum(getattr(p, name) for p in parts) for name in ("latency_ms", "spread_ms"))
        latency_ms += self.beyond_ms
        unsure = self._surplus is not None or any(p.source == "interpolated" for p in parts)
        if self._estimator is not None and parts and unsure:
            total = self._estimator.total(specs)
            whole = total if self._surplus is None else self._surplus.of(total)
            spread_ms = QUARTILES * latency_ms * whole.spread_ns / whole.latency_ns
        return NetworkPrediction(
            latency_ms=latency_ms,
            spread_ms=spread_ms,
            flash_bytes=math.fsum(p.flash_bytes for p in parts),
            kernels=len(parts),
            interpolated=sum(p.source == "interpolated" for p in parts),
        )

    def corrected(self, measured_ms: float, predicted_ms: float) -> LatencyModel:
        """A new model that would have predicted ``measured_ms`` where this one predicted ``predicted_ms``.

        One factor for all kernels: a network's surplus over its kernels (caches, the driver, the clock
        under sustained load) is not any single kernel's.

        Raises:
            ProfileError: either figure is not positive and finite.
        """
        for name, value in (("measured", measured_ms), ("predicted", predicted_ms)):
            if not (math.isfinite(value) and value > 0):
                raise ProfileError(f"a {name} latency of {value} ms cannot correct the latency model")
        by = measured_ms / predicted_ms
        correction, beyond_ms = by * self.correction, by * self.beyond_ms
        return LatencyModel(
            self._by_key.values(),
            correction=correction,
            beyond_ms=beyond_ms,
            estimator=self._estimator,
            stored_share=self.stored_share,
        )

    def storing(self, share: float) -> LatencyModel:
        """The same of programs whose files have this share of the bytes of weights: without their zeros, say."""
        found = copy(self)
        found.stored_share = share
        return found


def _fill(spec: KernelSpec, estimator: Estimator, grids: Sequence[NDArray[np.int64]], values: Array) -> None:
    """Gives estimates to the cells of a table of ``spec`` without values; none where no kernel is that wide. Latencies
    that were measured are those of kernels alone: where the estimator knows better, they are replaced as well.
    """
    cells, specs = [], []
    wanted = np.isnan(values[..., 0]) | estimator.placed
    for cell in map(tuple, np.argwhere(wanted)):
        widths = {axis: int(grid[i]) for axis, grid, i in zip(spec.widths, grids, cell, strict=True)}
        with suppress(ValueError):
            specs.append(spec.with_widths(**widths))
            cells.append(cell)
    if specs:
        found = estimator.estimate(specs)
        figures = (found.latency_ns * 1e-6, found.spread_ns * QUARTILES * 1e-6, found.object_bytes, found.weight_bytes)
        at, said = tuple(np.array(cells).T), np.stack(figures, axis=-1)
        measured = ~np.isnan(values[(*at, 0)])
        said[measured, 2:] = values[at][measured, 2:]
        values[at] = said
