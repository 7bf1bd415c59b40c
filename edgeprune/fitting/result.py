"""Results of a fit as data: the report is drawn from them, and the command line prints them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, InstanceOf

from edgeprune.budget.problem import Budget
from edgeprune.budget.promise import Promise
from edgeprune.budget.verdict import Verdict
from edgeprune.compiler.manifest import Manifest
from edgeprune.deploy.flash import Deployment
from edgeprune.deploy.standard import Judgement
from edgeprune.deploy.timing import Timing
from edgeprune.devices.protocol import DeviceInfo
from edgeprune.fitting.search import Round
from edgeprune.graph.network import Network
from edgeprune.jsonable import Jsonable
from edgeprune.pruning.plan import Plan
from edgeprune.targets import Target


@dataclass(frozen=True, slots=True)
class VariantResult(Jsonable):
    """One network on the device: dense, pruned or uniform.

    Attributes:
        latency_ms: at the device's nominal clock: where it was timed in turns with the dense network, their ratio
            times the dense network's latency.
        accuracy: share of right labels from the program's own outputs; None without data.
        kernels_ms: median of each kernel by node, timed one by one; empty if that was not asked for.
    """

    name: str
    network: Annotated[InstanceOf[Network], Field(exclude=True)]  # its weights are kept apart
    manifest: Manifest
    timing: Timing
    latency_ms: float
    accuracy: float | None = None
    kernels_ms: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Tried(Jsonable):
    """A plan that was built and judged."""

    judgement: Judgement
    flash_bytes: int


FitRound = Round[Plan, Tried]


def correction(found: FitRound) -> float:
    """Correction factor from the profiled tables to the device, as known after this round."""
    return found.correction * float(found.proposal.plan.method["latency_correction"])


@dataclass(frozen=True, slots=True)
class FitResult:
    """The result of a fit: networks, rounds, verdicts, paths.

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
    rounds: tuple[FitRound, ...]
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
