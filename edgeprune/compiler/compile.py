"""Compile a network: lower, link, bundle. One call for the library and the CLI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves

from edgeprune.compiler.bundle import GoldenPair, write_bundle
from edgeprune.compiler.folding import State
from edgeprune.compiler.in_blocks import BlockSparse, choose_blocks
from edgeprune.compiler.lower import Lowered, lower
from edgeprune.compiler.manifest import Manifest
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.compiler.storage import AUTO, check_storage, share_of_zeros, stored
from edgeprune.graph.channels import Port
from edgeprune.graph.network import Network
from edgeprune.graph.trace import evaluating
from edgeprune.models.examples import noise_like
from edgeprune.models.precise import rounding
from edgeprune.progress import SILENT, Progress
from edgeprune.targets import Target


def golden_pair(network: Network, seed: int = 0) -> GoldenPair:
    """Seeded noise in the shape of the example inputs (or, of integers, these), and what torch makes of it.

    Noise is of the types of the program: a frame of noise, where it takes one.
    """
    generator = torch.Generator().manual_seed(seed)
    given = [
        _sample(x, port, generator) for x, port in zip(network.example_inputs, network.kernels.inputs, strict=True)
    ]
    inputs = [
        torch.from_numpy(g).to(x.dtype) if p.image is None else p.image.normalised(g)
        for g, x, p in zip(given, network.example_inputs, network.kernels.inputs, strict=True)
    ]
    with evaluating(network.module), torch.no_grad():
        # Copies: a network that begins with an in-place operator writes into what it is given.
        result = network.module(*(x.clone() for x in inputs))
    outputs = [y for y in tree_leaves(result) if isinstance(y, Tensor)]
    return GoldenPair(
        tuple(given),
        tuple(y.numpy().astype(port.dtype) for y, port in zip(outputs, network.kernels.outputs, strict=True)),
        rounding(network.module, inputs, outputs),
    )


def _sample(example: Tensor, port: Port, generator: torch.Generator) -> NDArray[Any]:
    if port.image is not None:
        return torch.randint(256, port.shape, dtype=torch.uint8, generator=generator).numpy()
    return noise_like(example, generator).numpy().astype(port.dtype)


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
    weight_storage: str = AUTO,
    ram_limited: bool = False,
    block_sparse: BlockSparse = "never",
    progress: Progress = SILENT,
) -> Manifest:
    """Compile into the bundle folder ``out``; returns its manifest.

    Args:
        weight_storage, ram_limited: see :func:`edgeprune.compiler.storage.stored`.

    Raises:
        UsageError: there is no such weight storage.
        KernelBuildError, LinkError: the compiler failed; UsageError: ``out`` is something else.
    """
    check_storage(weight_storage)
    lowered = lower_network(network, target, book, name=name, block_sparse=block_sparse, progress=progress)
    progress.stage("linking")
    share = share_of_zeros(weights_of(network))
    return write_bundle(
        lowered,
        target,
        golden_pair(network, seed),
        out,
        threads=threads,
        budget=budget or {},
        provenance=provenance or {},
        coded=stored(lowered.program, target, weight_storage, share, ram_limited=ram_limited),
    )


def lower_network(
    network: Network,
    target: Target,
    book: ScheduleBook | None = None,
    *,
    name: str,
    block_sparse: BlockSparse = "never",
    progress: Progress = SILENT,
) -> Lowered:
    """The network's kernels built and its memory laid out, nothing linked yet.

    Without a ``book`` each kernel gets its default schedule.

    Raises:
        TargetError, KernelBuildError: see :func:`edgeprune.compiler.lower.lower`.
        UsageError: see :func:`edgeprune.compiler.in_blocks.choose_blocks`.
    """
    weights = weights_of(network)
    graph, book = choose_blocks(network.kernels, weights, target, book or ScheduleBook(target), block_sparse)
    return lower(graph, weights, target, book, name=name, progress=progress)


def weights_of(network: Network) -> State:
    """All parameters and buffers by name, and what is computed from them."""
    module = network.module
    # Not the state_dict, which leaves out buffers that are not persistent.
    tensors = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    state = {name: t.detach().cpu().numpy() for name, t in tensors}
    return state | {name: recipe.values(state) for name, recipe in network.kernels.computed.items()}
