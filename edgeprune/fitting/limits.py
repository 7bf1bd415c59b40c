"""What a fit was asked to keep, and what that means in milliseconds and bytes."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.budget.problem import Budget
from edgeprune.budget.promise import Limit
from edgeprune.fitting.result import VariantResult


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits as they were given, absolute or relative to the dense network; None: not limited."""

    latency: Limit | None = None
    flash: Limit | None = None

    def budget(self, dense: VariantResult) -> Budget:
        """The limits in ms and bytes, given what the dense network was last measured to cost."""
        return Budget(
            None if self.latency is None else self.latency.resolve(dense.bench.median_ms),
            None if self.flash is None else self.flash.resolve(dense.manifest.memory.flash),
        )
