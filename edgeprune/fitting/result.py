"""What a fit found out, as data: the report is drawn from it and the CLI prints it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.budget.problem import Budget
from edgeprune.compiler.compile import Network
from edgeprune.compiler.manifest import Manifest
from edgeprune.deploy.checks import BenchResult
from edgeprune.deploy.flash import Deployment
from edgeprune.devices.protocol import DeviceInfo
from edgeprune.pruning.plan import Plan
from edgeprune.targets import Target


@dataclass(frozen=True, slots=True)
class VariantResult:
    """One network on the device: dense, pruned or uniform.

    Attributes:
        accuracy: share of right labels from the program's own outputs; None without data.
        kernels_ms: median of each kernel by node, timed one by one; empty if that was not asked for.
    """

    name: str
    network: Network
    manifest: Manifest
    bench: BenchResult
    accuracy: float | None = None
    kernels_ms: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class RoundResult:
    """One pass of solve, compile, measure. ``correction``: the latency model's factor after it."""

    round: int
    predicted_ms: float
    measured: BenchResult
    correction: float
    accepted: bool


@dataclass(frozen=True, slots=True)
class FitResult:
    """Everything a fit did. ``paths`` names what it wrote."""

    model_name: str
    model_source: str
    target: Target
    device_url: str
    info: DeviceInfo
    budget: Budget
    threads: int
    seed: int
    dense: VariantResult
    pruned: VariantResult
    uniform: VariantResult | None
    predicted_kernels_ms: Mapping[str, float]
    rounds: tuple[RoundResult, ...]
    plan: Plan
    deployment: Deployment
    fingerprint: Mapping[str, Any]
    evidence: str
    paths: Mapping[str, Path]
    history: Mapping[str, Any]

    @property
    def met(self) -> bool:
        """Whether the installed network keeps every limit that was asked for."""
        latency = self.budget.latency_ms
        flash = self.budget.flash_bytes
        return (latency is None or self.pruned.bench.median_ms <= latency) and (
            flash is None or self.pruned.manifest.memory.flash <= flash
        )
