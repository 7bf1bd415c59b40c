"""What a fit found out, as data: the report is drawn from it and the CLI prints it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.budget.problem import Budget
from edgeprune.budget.promise import Promise
from edgeprune.budget.verdict import Verdict
from edgeprune.compiler.compile import Network
from edgeprune.compiler.manifest import Manifest
from edgeprune.deploy.flash import Deployment
from edgeprune.deploy.standard import Judgement
from edgeprune.deploy.timing import Timing
from edgeprune.devices.protocol import DeviceInfo
from edgeprune.pruning.plan import Plan
from edgeprune.targets import Target


@dataclass(frozen=True, slots=True)
class VariantResult:
    """One network on the device: dense, pruned or uniform.

    Attributes:
        latency_ms: at the device's nominal clock: where it was timed in turns with the dense network, their ratio
            times the dense network's latency.
        accuracy: share of right labels from the program's own outputs; None without data.
        kernels_ms: median of each kernel by node, timed one by one; empty if that was not asked for.
    """

    name: str
    network: Network
    manifest: Manifest
    timing: Timing
    latency_ms: float
    accuracy: float | None = None
    kernels_ms: Mapping[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """All but the network, which is read back from its weights."""
        return {
            "name": self.name,
            "manifest": self.manifest.to_json(),
            "timing": self.timing.to_json(),
            "latency_ms": self.latency_ms,
            "accuracy": self.accuracy,
            "kernels_ms": None if self.kernels_ms is None else dict(self.kernels_ms),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], network: Network) -> VariantResult:
        manifest, timing = Manifest.from_json(data["manifest"]), Timing.from_json(data["timing"])
        return cls(**{**data, "network": network, "manifest": manifest, "timing": timing})


@dataclass(frozen=True, slots=True)
class RoundResult:
    """One pass of solve, compile, measure. ``correction``: the factor between tables and device after it."""

    round: int
    predicted_ms: float
    latency_ms: float
    judgement: Judgement
    flash_bytes: int
    correction: float
    accepted: bool


@dataclass(frozen=True, slots=True)
class FitResult:
    """Everything a fit did.

    Attributes:
        verdicts: on the installed program, one for each limit.
        margin: part of the latency limit that the first plan left free, from the noise that the device showed.
        dropped: group -> width -> why it was not offered.
        paths: what was written, by name.
    """

    model_name: str
    model_source: str
    target: Target
    device_url: str
    info: DeviceInfo
    promise: Promise
    budget: Budget
    verdicts: tuple[Verdict, ...]
    threads: int
    seed: int
    margin: float
    dense: VariantResult
    pruned: VariantResult
    uniform: VariantResult | None
    predicted_kernels_ms: Mapping[str, float]
    rounds: tuple[RoundResult, ...]
    plan: Plan
    dropped: Mapping[str, Mapping[int, str]]
    deployment: Deployment
    fingerprint: Mapping[str, Any]
    paths: Mapping[str, Path]
    history: Mapping[str, Any]

    @property
    def evidence(self) -> str:
        return self.pruned.timing.evidence

    @property
    def met(self) -> bool:
        """Whether the installed network keeps every limit that was asked for."""
        return all(v.kept for v in self.verdicts)
