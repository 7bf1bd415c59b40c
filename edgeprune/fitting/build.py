"""Builds of a fit: every network of one run is compiled with the schedules that were timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.compiler.compile import compile_network
from edgeprune.compiler.in_blocks import BlockSparse
from edgeprune.compiler.manifest import Manifest
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.compiler.storage import AUTO
from edgeprune.graph.network import Network
from edgeprune.progress import Progress
from edgeprune.pruning.plan import Plan
from edgeprune.targets import Target


@dataclass(frozen=True, slots=True)
class Builder:
    """Compiles the networks of one run.

    Attributes:
        provenance: what all their manifests say of where they come from.
        weight_storage, ram_limited: see :func:`edgeprune.compiler.storage.stored`.
        block_sparse: see :func:`edgeprune.compiler.in_blocks.choose_blocks`.
    """

    target: Target
    book: ScheduleBook
    name: str
    threads: int
    seed: int
    provenance: Mapping[str, Any]
    progress: Progress
    weight_storage: str = AUTO
    ram_limited: bool = False
    block_sparse: BlockSparse = "never"

    def build(
        self, network: Network, out: Path, *, budget: Mapping[str, Any] | None = None, plan: Plan | None = None
    ) -> Manifest:
        """The bundle of a network in ``out``; budget, widths and what is proven of them go into its manifest."""
        widths = {} if plan is None else {g: len(k) for g, k in plan.keep.items()}
        densities = {} if plan is None or not plan.in_blocks else {"densities": plan.in_blocks}
        proven = {} if plan is None else {k: v for k, v in plan.certificate.items() if k != "witness"}
        return compile_network(
            network,
            self.target,
            out,
            book=self.book,
            name=self.name,
            threads=self.threads,
            budget=budget or {},
            provenance={**self.provenance, "widths": widths, **densities, "certificate": proven},
            seed=self.seed,
            weight_storage=self.weight_storage,
            ram_limited=self.ram_limited,
            block_sparse=self.block_sparse,
            progress=self.progress,
        )
