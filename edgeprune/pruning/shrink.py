"""Shrinking: the pruned network as an ordinary module, in the class the user wrote."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from edgeprune.graph.channels import ChannelGraph, CodeSize
from edgeprune.pruning.empty import without_channels
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.slices import aliases, named_tensors, survivors


def shrink(module: nn.Module, graph: ChannelGraph, plan: Plan) -> nn.Module:
    """A copy of ``module`` without the channels that ``plan`` removes.

    Parameters and buffers keep their names, data type, device and ``requires_grad``; hooks,
    training flags and ties are kept; sizes that the standard layers remember are brought up to
    date, and so are the attributes that the graph lists. Layers of a block that goes whole stay where the
    network's code calls them, and do nothing (:mod:`edgeprune.pruning.empty`). Gradients are not carried over.
    Whatever else the network's own code remembers :func:`edgeprune.pruning.mask.check_equal` finds.

    Raises:
        PlanError: the plan does not fit the graph, or the graph does not fit the module.
    """
    alive = survivors(module, graph, plan)
    small = copy.deepcopy(module)
    tensors = named_tensors(small)
    for names in list(aliases(small)):
        if names[0] in alive:
            _replace(small, names, _selected(tensors[names[0]], alive[names[0]]))
    for layer in small.modules():
        for kind, update in _SIZES.items():
            if isinstance(layer, kind):
                update(layer)
        without_channels(layer)
    for size in graph.sizes:
        _update_attribute(small, size, plan)
    return small


def _selected(tensor: Tensor, dims: dict[int, Tensor]) -> Tensor:
    data = tensor.detach()
    for dim, mask in dims.items():
        data = data.index_select(dim, mask.nonzero().flatten().to(data.device))
    data = data.clone(memory_format=torch.contiguous_format)
    return nn.Parameter(data, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data


def _replace(module: nn.Module, names: tuple[str, ...], tensor: Tensor) -> None:
    for name in names:
        owner, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(owner), attribute, tensor)


def _update_attribute(module: nn.Module, size: CodeSize, plan: Plan) -> None:
    attribute = size.attribute
    owner = module.get_submodule(attribute.module)
    value: Any = size.axis.base + sum(plan.width(group) for group in size.axis.groups)
    if attribute.index is not None:
        entries = list(getattr(owner, attribute.name))
        entries[attribute.index] = value
        value = type(getattr(owner, attribute.name))(entries)
    setattr(owner, attribute.name, value)


def _update_convolution(layer: _ConvNd) -> None:
    first, second = layer.weight.shape[:2]
    if layer.transposed:
        if layer.in_channels == layer.groups > 1:  # depthwise, as below
            layer.groups = first
        layer.in_channels, layer.out_channels = first, second * layer.groups
        return
    if layer.in_channels == layer.groups > 1:  # depthwise; read before in_channels is brought up to date
        layer.groups = first * layer.groups // layer.out_channels
    layer.in_channels, layer.out_channels = second * layer.groups, first


def _update_norm(layer: _NormBase) -> None:
    for tensor in (layer.weight, layer.running_mean):
        if tensor is not None:
            layer.num_features = tensor.shape[0]


def _update_group_norm(layer: nn.GroupNorm) -> None:
    if layer.affine:
        layer.num_channels = layer.weight.shape[0]


def _update_embedding(layer: nn.Embedding) -> None:
    layer.embedding_dim = layer.weight.shape[1]


def _update_recurrent(layer: nn.RNNBase) -> None:
    sizes = [layer.get_parameter(name).shape[1] for name in ("weight_ih_l0", "weight_hh_l0")]
    layer.input_size, layer.hidden_size = sizes
    if layer.proj_size:
        layer.proj_size, layer.hidden_size = layer.get_parameter("weight_hr_l0").shape


def _update_linear(layer: nn.Linear) -> None:
    layer.out_features, layer.in_features = layer.weight.shape


def _update_prelu(layer: nn.PReLU) -> None:
    layer.num_parameters = layer.weight.shape[0]


_SIZES: dict[type[nn.Module], Callable[..., None]] = {
    _ConvNd: _update_convolution,
    _NormBase: _update_norm,
    nn.GroupNorm: _update_group_norm,
    nn.Embedding: _update_embedding,
    nn.RNNBase: _update_recurrent,
    nn.Linear: _update_linear,
    nn.PReLU: _update_prelu,
}
