"""From a plan to tensor slices: which positions of which parameters and buffers survive."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from edgeprune.errors import PlanError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.pruning.plan import Plan, check_plan

Survivors = dict[str, dict[int, Tensor]]


def survivors(module: nn.Module, graph: ChannelGraph, plan: Plan) -> Survivors:
    """Parameter or buffer name -> dimension -> bool tensor over its positions, False where removed.

    Only tensors that lose something are listed, a tied one under each of its names.

    Raises:
        PlanError: the plan does not fit the graph, or the graph does not fit the module.
    """
    check_plan(plan, graph)
    tensors = named_tensors(module)
    alive: Survivors = {}
    for name, indices in plan.keep.items():
        group = graph[name]
        if len(indices) == group.size:
            continue
        kept = torch.zeros(group.size, dtype=torch.bool)
        kept[list(indices)] = True
        for m in group.members:
            tensor = tensors.get(m.param)
            stop = m.start + group.size * m.repeat
            if tensor is None or m.dim >= tensor.dim() or stop > tensor.shape[m.dim]:
                there = "no such parameter" if tensor is None else f"shape {tuple(tensor.shape)}"
                raise PlanError(
                    f"width group '{name}' owns dimension {m.dim} of '{m.param}' up to {stop}, the network has {there}",
                    hint="trace this very network and make the plan again",
                    group=name,
                    parameter=m.param,
                )
            dims = alive.setdefault(m.param, {})
            mask = dims.setdefault(m.dim, torch.ones(tensor.shape[m.dim], dtype=torch.bool))
            mask[m.start : stop] &= kept.repeat_interleave(m.repeat)
    for names in aliases(module):
        if found := [alive[n] for n in names if n in alive]:
            alive.update(dict.fromkeys(names, found[0]))
    return alive


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by qualified name; a tied tensor stands under each of its names."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def aliases(module: nn.Module) -> Iterator[tuple[str, ...]]:
    """The names of each distinct parameter or buffer."""
    names: dict[int, list[str]] = {}
    for name, tensor in named_tensors(module).items():
        names.setdefault(id(tensor), []).append(name)
    yield from (tuple(n) for n in names.values())
