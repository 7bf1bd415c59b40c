"""Masking, the oracle of shrinking: same shapes, removed channels contribute nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves

from edgeprune.errors import VerificationError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.trace import evaluating, failing_module
from edgeprune.models.precise import in_float64, widened
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.slices import Survivors, named_tensors, survivors


@dataclass(frozen=True, slots=True)
class Comparison:
    """Largest absolute difference of the outputs, and the largest absolute output of the masked network."""

    max_abs_diff: float
    scale: float


def mask(module: nn.Module, graph: ChannelGraph, plan: Plan) -> nn.Module:
    """A copy of ``module`` whose removed channels are written as zeros and read with zero weights.

    Running variances stay, so that zero over a variance is zero.

    Raises:
        PlanError: the plan does not fit the graph, or the graph does not fit the module.
    """
    alive = survivors(module, graph, plan)
    masked = copy.deepcopy(module)
    _silence(named_tensors(masked), alive)
    return masked


@contextmanager
def masking(module: nn.Module, graph: ChannelGraph, plan: Plan) -> Iterator[None]:
    """The module itself masked inside the ``with`` block, and bit for bit what it was after it.

    Raises:
        PlanError: as :func:`mask`.
    """
    alive, tensors = survivors(module, graph, plan), named_tensors(module)
    before = {name: tensors[name].detach().clone() for name in alive}
    try:
        _silence(tensors, alive)
        yield
    finally:
        with torch.no_grad():
            for name, values in before.items():
                tensors[name].copy_(values)


def _silence(tensors: Mapping[str, Tensor], alive: Survivors) -> None:
    with torch.no_grad():
        for name, dims in alive.items():
            if name.rpartition(".")[2] == "running_var":
                continue
            for dim, kept in dims.items():
                gone = (~kept).nonzero().flatten().to(tensors[name].device)
                tensors[name].index_fill_(dim, gone, 0)


def check_equal(
    masked: nn.Module,
    shrunk: nn.Module,
    example_inputs: tuple[Tensor, ...],
    *,
    graph: ChannelGraph,
    plan: Plan,
    atol_rel: float = 1e-5,
) -> Comparison:
    """Run both in evaluation mode; compare their outputs, and the kept outputs of every layer.

    Outputs agree if no difference exceeds ``atol_rel`` times the largest output. Layers are held
    to a wider tolerance that rounding does not reach: they tell where a fault lies, and show one
    that dead activations keep from the outputs. Where they disagree, both run again in float64, in which
    rounding is 2^29 times smaller and a fault as large as before: deep networks may amplify rounding beyond
    any tolerance that would still find faults.

    Returns:
        The comparison they agree in.

    Raises:
        VerificationError: they differ, or the shrunk network does not run; names the first module
            (convolution, linear, norm or embedding, in running order) whose kept outputs differ.
    """
    alive = survivors(masked, graph, plan)
    result, where = _compared(masked, shrunk, example_inputs, alive, atol_rel)
    if where is None:
        return result
    if (precise := _in_float64(masked, shrunk, example_inputs, alive)) is not None:
        return precise
    raise VerificationError(
        f"masked and pruned network differ by {result.max_abs_diff:.3g} on outputs of size {result.scale:.3g}; "
        + (
            f"module '{where}' is the first to differ" if where else "all layers agree, what lies between them does not"
        ),
        hint="this is a fault of edgeprune or of a network that reads sizes from its own code; report the module",
        module=where,
        max_abs_diff=result.max_abs_diff,
        scale=result.scale,
    )


def _compared(
    masked: nn.Module, shrunk: nn.Module, inputs: tuple[Tensor, ...], alive: Survivors, rtol: float
) -> tuple[Comparison, str | None]:
    """The comparison, and None if they agree, else the first module to differ or an empty name.

    Raises:
        VerificationError: the shrunk network does not run.
    """
    with evaluating(masked, shrunk), torch.no_grad():
        with _recorded(masked) as masked_trail:
            expected = tree_leaves(masked(*inputs))
        with _recorded(shrunk) as shrunk_trail:
            try:
                actual = tree_leaves(shrunk(*inputs))
            except Exception as error:
                name, line = failing_module(shrunk, error)
                raise VerificationError(
                    f"the pruned network does not run: {error} (module '{name}', {line})",
                    hint="a size is written in the network's code there; take it from the tensor's shape instead",
                    module=name,
                    source=line,
                ) from error
    result = _compare(expected, actual)
    agree = result.max_abs_diff <= rtol * result.scale
    name = _first_difference(masked_trail, shrunk_trail, masked, alive, _LAYER_RTOL if agree else rtol)
    return result, None if agree and not name else name


def _in_float64(
    masked: nn.Module, shrunk: nn.Module, inputs: tuple[Tensor, ...], alive: Survivors
) -> Comparison | None:
    """The comparison if they agree; None too where the network's code insists on another type."""
    try:
        with in_float64(masked, shrunk) as (large, small):
            result, where = _compared(large, small, widened(inputs), alive, _FLOAT64_RTOL)
    except Exception:
        return None
    return result if where is None else None


_FLOAT64_RTOL = 1e-9


_LAYER_RTOL = 1e-3
_LAYER_ATOL = 1e-6
Trail = list[tuple[str, Tensor]]
_COMPUTED = ("weight_orig", "weight_v", "parametrizations.weight.original", "parametrizations.weight.original1")
"""Parameters of the weight's shape that hooks and parametrizations of torch compute it from."""
_FOLLOWED = (_ConvNd, _NormBase, nn.GroupNorm, nn.Linear, nn.Embedding)


@contextmanager
def _recorded(module: nn.Module) -> Iterator[Trail]:
    """Outputs of the layers whose kept channels are known, in running order."""
    trail: Trail = []

    def recorder(name: str) -> Any:
        return lambda _layer, _inputs, output: trail.append((name, output.clone()))

    handles = [
        layer.register_forward_hook(recorder(name))
        for name, layer in module.named_modules()
        if isinstance(layer, _FOLLOWED) and any(True for _ in chain(layer.parameters(), layer.buffers()))
    ]
    try:
        yield trail
    finally:
        for handle in handles:
            handle.remove()


def _first_difference(expected: Trail, actual: Trail, masked: nn.Module, alive: Survivors, rtol: float) -> str:
    for (name, a), (other, b) in zip(expected, actual, strict=False):
        layer = masked.get_submodule(name)
        kept = _kept_outputs(name, layer, alive)
        axis = a.dim() - 1 if isinstance(layer, (nn.Linear, nn.Embedding)) else 1
        if name == other and kept is None and a.shape != b.shape:
            continue  # its filters are computed from parameters in a way that says nothing here of their channels
        if kept is not None:
            a = a.index_select(axis, kept.nonzero().flatten().to(a.device))
        difference = _compare([a], [b])
        if name != other or not difference.max_abs_diff <= rtol * difference.scale + _LAYER_ATOL:
            return name
    return ""


def _kept_outputs(name: str, layer: nn.Module, alive: Survivors) -> Tensor | None:
    transposed = isinstance(layer, _ConvNd) and layer.transposed
    dim = 1 if transposed or isinstance(layer, nn.Embedding) else 0
    for attribute in ("weight", *_COMPUTED, "running_mean"):
        dims = alive.get(f"{name}.{attribute}" if name else attribute, {})
        if isinstance(layer, _ConvNd) and transposed and layer.groups > 1 and dims:
            if layer.in_channels == layer.groups:
                return dims[0].repeat_interleave(layer.weight.shape[1])
            return dims[1].repeat(layer.groups) if 1 in dims else None
        if dim in dims:
            return dims[dim]
    return None


def _compare(expected: list[Any], actual: list[Any]) -> Comparison:
    """Unequal numbers or shapes of tensors, and NaN, count as an infinite difference."""
    a = [t.double() for t in expected if isinstance(t, Tensor)]
    b = [t.double() for t in actual if isinstance(t, Tensor)]
    scale = max((t.abs().max().item() for t in a if t.numel()), default=0.0)
    if [t.shape for t in a] != [t.shape for t in b]:
        return Comparison(float("inf"), scale)
    diffs = [(s - t).abs().max().item() for s, t in zip(a, b, strict=True) if s.numel()]
    worst = max(diffs, default=0.0)
    return Comparison(worst if all(d == d for d in diffs) else float("inf"), scale)
