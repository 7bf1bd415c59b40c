"""The latency model: predicted latency and bytes of any kernel, and of any network, on one device."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.clock import nominal
from edgeprune.errors import ProfileError
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.records import EVIDENCE, KernelRecord, check_record
from edgeprune.latency.tables import LatencyTable, Prediction, table_from_records


def nominal_ns(records: Iterable[KernelRecord]) -> float:
    """The reference's time at a profile's nominal clock: of those that its sessions met the quickest that is no
    exception. 0 if nothing is known of clocks.
    """
    return nominal([r.reference_ns for r in records if r.reference_ns])


@dataclass(frozen=True, slots=True)
class NetworkPrediction:
    """Sums over kernels. Spreads add up: what disturbs one kernel of a board tends to disturb the next.

    ``interpolated`` counts the kernels whose figure was not measured. ``flash_bytes`` counts the code
    of equal kernels each time, so the program is never larger.
    """

    latency_ms: float
    spread_ms: float
    flash_bytes: float
    kernels: int
    interpolated: int


class LatencyModel:
    """Predicts from the records of one profile.

    Args:
        records: all of one fingerprint; the last of a spec counts.
        correction: latency factor learnt from a measurement of the whole network (:meth:`corrected`);
            every latency and spread the model gives is multiplied with it.

    Raises:
        ProfileError: a record does not check, or the correction is not positive and finite.
    """

    def __init__(self, records: Iterable[KernelRecord], *, correction: float = 1.0) -> None:
        if not (math.isfinite(correction) and correction > 0):
            raise ProfileError(f"a latency correction of {correction} makes no sense")
        self.correction = correction
        found: dict[str, KernelRecord] = {}
        for record in records:
            check_record(record)
            found[record.spec.key] = record
        clock = nominal_ns(found.values())
        self._by_key = {key: record.at_clock(clock) for key, record in found.items()}
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
        return table_from_records(same, axes=tuple(spec.widths), grids=grids, estimate=estimate)

    def predict_kernel(self, spec: KernelSpec) -> Prediction:
        """Measured if this very spec was, else interpolated between measured widths of its family.

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
        if record is not None:
            ms = self.correction * 1e-6
            latency, spread = record.median_ns * ms, record.spread_ns * ms
            return Prediction(latency, spread, record.object_bytes, record.weight_bytes, "table")
        here = tuple(np.array([w], dtype=np.int64) for w in spec.widths.values())
        cell = self.table(spec, grids=here, estimate=True).predict(spec.widths)
        latency, spread = cell.latency_ms * self.correction, cell.spread_ms * self.correction
        return Prediction(latency, spread, cell.object_bytes, cell.weight_bytes, "interpolated")

    def network(self, specs: Iterable[KernelSpec]) -> NetworkPrediction:
        """The sum over a network's kernels. Raises what :meth:`predict_kernel` raises."""
        parts = [self.predict_kernel(s) for s in specs]
        return NetworkPrediction(
            latency_ms=math.fsum(p.latency_ms for p in parts),
            spread_ms=math.fsum(p.spread_ms for p in parts),
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
        return LatencyModel(self._by_key.values(), correction=self.correction * measured_ms / predicted_ms)
