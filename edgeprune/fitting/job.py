"""What every step of a fit needs, and what several of them do: compile, time, run, choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.budget.problem import Budget
from edgeprune.compiler.compile import Network, compile_network, read_network
from edgeprune.compiler.manifest import Manifest
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.deploy.checks import BenchResult
from edgeprune.deploy.steady import side_by_side
from edgeprune.devices.protocol import Device, DeviceInfo
from edgeprune.fitting.choose import Chosen, choose, shrunk
from edgeprune.fitting.result import VariantResult
from edgeprune.fitting.trial import Trial, Trials
from edgeprune.importance.criterion import Scores
from edgeprune.latency.model import LatencyModel
from edgeprune.models.loading import LoadedModel
from edgeprune.profiling.profile import ProfileOptions, ProfileResult
from edgeprune.progress import Progress
from edgeprune.pruning.plan import Plan
from edgeprune.targets import Target
from edgeprune.training.data import DataSet
from edgeprune.training.evaluate import accuracy_from_logits


@dataclass(frozen=True, slots=True)
class FitOptions:
    """Attributes:
    rounds: most passes of solve, compile, measure.
    margin: part of the latency budget kept free, against the noise of the final check.
    fill: part of a limit that a plan should use; below it in all of them another round is spent.
    epochs, lr, batch_size, distil_weight, temperature: fine-tuning (training/finetune.py).
    baseline: also make the uniform-width network of the same latency, for the report.
    """

    solver: str = "knapsack"
    criterion: str = "taylor"
    rounds: int = 3
    margin: float = 0.06
    fill: float = 0.90
    epochs: int = 3
    lr: float = 0.02
    batch_size: int = 64
    distil_weight: float = 0.5
    temperature: float = 4.0
    seed: int = 0
    baseline: bool = True
    allow_mismatch: bool = False
    profile: ProfileOptions = field(default_factory=ProfileOptions)


@dataclass(frozen=True, slots=True)
class Look:
    """A network timed beside the dense one.

    Attributes:
        timing: its quickest launches.
        dense: the dense network with its lowest latency so far.
        latency_ms: its latency where the device is as quick as it was for that.
    """

    timing: BenchResult
    dense: VariantResult
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Job:
    """One fit under way."""

    model: LoadedModel
    network: Network
    target: Target
    device: Device
    info: DeviceInfo
    data: DataSet | None
    options: FitOptions
    progress: Progress
    scratch: Path
    profiled: ProfileResult
    trials: Trials

    def compile(
        self, network: Network, out: Path, *, budget: Budget | None = None, plan: Plan | None = None
    ) -> Manifest:
        """Compile with the schedules of the profile; budget and widths go into the manifest."""
        limits = {} if budget is None else budget.to_json()
        provenance: dict[str, Any] = {
            "model": self.model.source,
            "seed": self.options.seed,
            "command": "fit",
            "widths": {} if plan is None else {g: len(k) for g, k in plan.keep.items()},
            "fingerprint": self.profiled.profile.fingerprint.to_json(),
        }
        return compile_network(
            network,
            self.target,
            out,
            book=ScheduleBook(self.target, self.profiled.profile.records()),
            name=self.model.name,
            threads=self.options.profile.threads,
            budget=limits,
            provenance=provenance,
            seed=self.options.seed,
            progress=self.progress,
        )

    def variant(self, network: Network, name: str, *, keep: bool = False) -> VariantResult:
        """Compile, check, time and run a network without installing it; ``keep`` one that will be timed again."""
        self.progress.stage(f"measuring the {name} network")
        bundle = self.scratch / name
        manifest = self.compile(network, bundle)
        with self.trials.open(bundle, keep=keep) as tried:
            tried.check()
            timing = tried.bench()
            return VariantResult(name, network, manifest, timing, self.accuracy(tried.run), tried.kernels_ms())

    def look(self, tried: Trial, dense: VariantResult) -> Look:
        """Time a network in turns with the dense one."""
        if self.info.counts:
            timing = tried.bench()
            return Look(timing, dense, timing.median_ms)
        with self.trials.open(self.scratch / dense.name, keep=True) as other:
            both = side_by_side(tried.launch, other.launch)
        if both.second.median_ms < dense.bench.median_ms:
            dense = replace(dense, bench=both.second)
        return Look(both.first, dense, both.ratio * dense.bench.median_ms)

    def timed_again(self, variant: VariantResult) -> VariantResult:
        """The variant with its lowest latency so far: that of now, if it is lower.

        A computer that is shared or warm runs faster or slower from minute to minute, and what disturbs it only
        adds time. A clock that counts has no minutes.
        """
        if self.info.counts:
            return variant
        with self.trials.open(self.scratch / variant.name) as tried:
            now = tried.bench()
        return replace(variant, bench=now) if now.median_ms < variant.bench.median_ms else variant

    def accuracy(self, run: Callable[[list[bytes], int], list[bytes]]) -> float | None:
        """Accuracy on the test half, from what the program on the device puts out."""
        if self.data is None:
            return None
        x, y = self.data.test
        outputs = run([np.ascontiguousarray(x.numpy()).tobytes()], len(x))
        shape = self.network.kernels.outputs[0].shape
        return accuracy_from_logits(np.frombuffer(outputs[0], np.float32).reshape(len(x), *shape[1:]), y)

    def choose(
        self,
        scores: Scores,
        model: LatencyModel,
        budget: Budget,
        *,
        solver: str,
        levels: Mapping[str, tuple[int, ...]] | None = None,
        program_bytes: float = 0.0,
    ) -> Chosen:
        """:func:`edgeprune.fitting.choose.choose` for this network; ``levels``: the profile's, if None."""
        return choose(
            self.network,
            scores,
            model,
            self.profiled.levels if levels is None else levels,
            budget,
            solver=solver,
            criterion_name=self.options.criterion,
            program_bytes=program_bytes,
            progress=self.progress,
        )

    def shrunk(self, plan: Plan) -> Network:
        """The smaller network, proven equal to the masked one."""
        return read_network(shrunk(self.network, plan), self.network.example_inputs)
