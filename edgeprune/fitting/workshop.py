"""The workshop of a run: it builds networks, tries them on the device, and keeps the results as stages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.compiler.manifest import read_manifest
from edgeprune.deploy.placed import Placed
from edgeprune.deploy.standard import Judgement
from edgeprune.deploy.timing import timed
from edgeprune.deploy.trials import Trials
from edgeprune.fitting.build import Builder
from edgeprune.fitting.densities import planned_blocks
from edgeprune.fitting.judging import device_score
from edgeprune.fitting.options import FitOptions
from edgeprune.fitting.planner import Planner, shrunk
from edgeprune.fitting.reference import Accept, Reference
from edgeprune.fitting.result import FitRound, Tried, VariantResult
from edgeprune.fitting.search import Proposal, Search
from edgeprune.fitting.sparse import expected
from edgeprune.fitting.stages import Stages
from edgeprune.graph.network import Network
from edgeprune.pruning.plan import Plan
from edgeprune.training.data import DataSet
from edgeprune.training.tasks.task import Score, Task


@dataclass(frozen=True, slots=True)
class Workshop:
    """Builder and timer of the networks of one run.

    Attributes:
        network: the dense one, as it was read.
        scratch: a folder for bundles that are only tried.
        data: its test half measures what programs are worth; None: that is not measured.
        task: whose metric it is; None without data.
    """

    network: Network
    builder: Builder
    trials: Trials
    stages: Stages
    scratch: Path
    data: DataSet | None
    task: Task | None
    options: FitOptions

    def search(
        self,
        name: str,
        network: Network,
        planner: Planner,
        reference: Reference,
        accept: Accept,
        *,
        margin: float,
    ) -> tuple[FitRound | None, list[FitRound]]:
        """:class:`Search` with real builds and launches; each round is a stage ``name-N``."""

        def measure(number: int, proposal: Proposal[Plan]) -> Tried:
            # The plan is part of the name: a finished round counts for the plan that it tried and for no other.
            digest = hashlib.sha256(repr(proposal.key).encode()).hexdigest()[:12]
            found = self.stages.once(
                f"{name}-{number}-{digest}",
                lambda: self._tried(network, proposal.plan, reference, self.scratch / f"{name}-{number}"),
                Tried,
            )
            reference.learn(found.judgement)
            for verdict in found.judgement.verdicts:
                self.builder.progress.note(f"{name} {number}: {verdict}")
            return found

        search = Search(planner.propose, measure, lambda t: accept(t.judgement), planner.between, planner.finer)
        return search.run(reference.budget, rounds=self.options.rounds, margin=margin, fill=self.options.fill)

    def variant(
        self, name: str, network: Network, bundle: Path, judgement: Judgement | None = None, *, keep: bool = False
    ) -> VariantResult:
        """A network compiled, checked, timed and run on the device, not installed; a stage of that name.

        Args:
            bundle: where it is compiled to.
            judgement: of this very network with other weights, if it was judged already: it is not timed again.
            keep: leave it on the device for as long as trials last: it will be timed again.
        """

        def make() -> VariantResult:
            self.builder.progress.stage(f"measuring the {name} network")
            manifest = self.builder.build(network, bundle)
            with nullcontext(self.trials.keep(bundle)) if keep else self.trials.open(bundle) as placed:
                placed.check()
                found = judgement or Judgement((), timed(placed))
                metric, kernels = self.score(placed), placed.kernels_ms()
            return VariantResult(name, network, manifest, found.timing, found.latency_ms, metric, kernels)

        def load(said: Mapping[str, Any]) -> VariantResult:
            return VariantResult.from_json({**said, "network": network})

        return self.stages.once(name, make, save=VariantResult.to_json, load=load)

    def score(self, placed: Placed) -> Score | None:
        """The figure of the task's metric on the test half, computed from the outputs of the program on the device."""
        if self.data is None or self.task is None:
            return None
        return device_score(self.trials, placed, self.network, self.data.test, self.task)

    def _tried(self, network: Network, plan: Plan, reference: Reference, bundle: Path) -> Tried:
        small = shrunk(network, plan)
        for zeros in (*planned_blocks(plan), *expected(self.options.sparsity)):
            zeros.at_once(small.module)
        self.builder.build(small, bundle)
        with self.trials.open(bundle) as placed:
            placed.check()
            return Tried(reference.judge(placed), read_manifest(bundle).memory.flash)
