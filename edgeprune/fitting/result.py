"""Results of a fit as data: the report is drawn from them, and the command line prints them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, InstanceOf

from edgeprune.budget.problem import Budget
from edgeprune.budget.promise import Promise
from edgeprune.budget.solving import Solved
from edgeprune.budget.verdict import Verdict
from edgeprune.compiler.manifest import Manifest
from edgeprune.deploy.flash import Deployment
from edgeprune.deploy.standard import Judgement
from edgeprune.deploy.timing import Timing
from edgeprune.devices.protocol import DeviceInfo
from edgeprune.fitting.fleet import Member
from edgeprune.fitting.search import Round
from edgeprune.graph.network import Network
from edgeprune.jsonable import Jsonable
from edgeprune.latency.tables import LatencyTable
from edgeprune.pruning.plan import Plan
from edgeprune.targets import Target
from edgeprune.training.data import DataSet
from edgeprune.training.robustness import Robustness
from edgeprune.training.tasks.classification import ACCURACY
from edgeprune.training.tasks.task import Score, Task


@dataclass(frozen=True, slots=True)
class VariantResult(Jsonable):
    """One network on the device: dense, pruned or uniform.

    Attributes:
        latency_ms: at the device's nominal clock: where it was timed in turns with the dense network, their ratio
            times the dense network's latency.
        metric: the figure of the task's metric, from the program's own outputs; None without data.
        kernels_ms: median of each kernel by node, timed one by one; empty if that was not asked for.
    """

    name: str
    network: Annotated[InstanceOf[Network], Field(exclude=True)]  # its weights are kept apart
    manifest: Manifest
    timing: Timing
    latency_ms: float
    metric: Score | None = None
    kernels_ms: Mapping[str, float] | None = None

    @property
    def cost(self) -> Budget:
        """What it takes, as limits that it just keeps."""
        memory = self.manifest.memory
        return Budget(self.latency_ms, memory.flash, memory.peak_ram)

    @property
    def accuracy(self) -> float | None:
        """Share of right labels, where that is the metric."""
        return None if self.metric is None or self.metric.name != ACCURACY else self.metric.value


@dataclass(frozen=True, slots=True)
class Measured(Jsonable):
    """What the installed program was found to be worth: the metric, and the median of each kernel by node, in ms."""

    metric: Score | None
    kernels_ms: dict[str, float]


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
        task, data: what the network was judged by, and on; None without data.
        fleet: the other boards that it was installed on, with what was found there.
        solved: the question that the plan before any further shrinking answers, and the answer.
        robustness: the dense and the pruned network under noise and on either half of the data; empty without data.
        tables: by node, what the profile knows of the kernels that weigh most.
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
    task: Task | None = None
    data: DataSet | None = None
    solved: Solved | None = None
    fleet: tuple[Member, ...] = ()
    robustness: Mapping[str, Robustness] = field(default_factory=dict)
    tables: Mapping[str, LatencyTable] = field(default_factory=dict)

    @property
    def evidence(self) -> str:
        return self.pruned.timing.evidence

    @property
    def met(self) -> bool:
        """Whether the installed network keeps every limit that was asked for, on every board."""
        others = [v for member in self.fleet for v in member.deployment.verdicts]
        return all(v.kept for v in (*self.verdicts, *others))
