"""Compile a network: trace, cut, lower, link, bundle. One call for the library and the CLI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.compiler.bundle import GoldenPair, write_bundle
from edgeprune.compiler.lower import lower
from edgeprune.compiler.manifest import Manifest
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.graph.channels import ChannelGraph, KernelGraph
from edgeprune.graph.cut import cut
from edgeprune.graph.groups import analyse
from edgeprune.graph.trace import trace
from edgeprune.progress import SILENT, Progress
from edgeprune.targets import Target


@dataclass(frozen=True, slots=True)
class Network:
    """A module read once: what all later steps ask of it."""

    module: nn.Module
    example_inputs: tuple[Tensor, ...]
    channels: ChannelGraph
    kernels: KernelGraph


def read_network(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Network:
    """Trace a module into its channel graph and kernel graph.

    Raises:
        UnsupportedOperatorError, ModelLoadError: it cannot be traced or cut.
    """
    program = trace(module, example_inputs)
    analysis = analyse(program)
    return Network(module, example_inputs, analysis.graph, cut(program, analysis))


def golden_pair(module: nn.Module, example_inputs: tuple[Tensor, ...], seed: int = 0) -> GoldenPair:
    """Seeded noise in the shape of the example inputs, and what torch makes of it."""
    generator = torch.Generator().manual_seed(seed)
    inputs = tuple(torch.randn(x.shape, generator=generator) for x in example_inputs)
    training = module.training
    module.eval()
    with torch.no_grad():
        result = module(*inputs)
    module.train(training)
    outputs = (result,) if isinstance(result, Tensor) else tuple(result)
    return GoldenPair(tuple(x.numpy() for x in inputs), tuple(y.numpy().astype(np.float32) for y in outputs))


def compile_network(
    network: Network,
    target: Target,
    out: Path,
    *,
    book: ScheduleBook | None = None,
    name: str = "model",
    threads: int = 1,
    budget: Mapping[str, float] | None = None,
    provenance: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Manifest:
    """Compile into the bundle folder ``out``; returns its manifest.

    Raises:
        KernelBuildError, LinkError: the compiler failed; UsageError: ``out`` is something else.
    """
    state = {k: v.detach().cpu().numpy() for k, v in network.module.state_dict().items()}
    lowered = lower(network.kernels, state, target, book or ScheduleBook(target), name=name, progress=progress)
    progress.stage("linking")
    return write_bundle(
        lowered,
        target,
        golden_pair(network.module, network.example_inputs, seed),
        out,
        threads=threads,
        budget=budget or {},
        provenance=provenance or {},
    )
