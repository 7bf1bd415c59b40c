"""Rewriting of ONNX graphs: several nodes that an exporter wrote for one layer become that layer again.

A bias added after its convolution or matrix product, hard-swish as ``x * clip(x + 3, 0, 6) / 6``, and hard-sigmoids
of another slope than torch's: common in networks from PaddlePaddle, TensorFlow and older PyTorch. As single layers
they prune, fuse and compile well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping, Sequence

import torch
from torch import Tensor, nn

from edgeprune.models.onnx_layers import Binary, HardSigmoid

Step = tuple[str, tuple[str, ...], str]
"""Layer, names of its inputs, name of its output."""


def simplify(
    steps: Sequence[Step],
    layers: MutableMapping[str, nn.Module],
    constants: Mapping[str, Tensor],
    outputs: Sequence[str],
) -> list[Step]:
    """The steps that remain; layers that are no longer used leave ``layers``."""
    graph = _Steps(steps, layers, constants, outputs)
    for step in list(graph.steps):
        graph.add_bias(step)
    for step in list(graph.steps):
        graph.hard_swish(step)
    for step in graph.steps:
        graph.hard_sigmoid(step)
    for name in layers.keys() - {s[0] for s in graph.steps}:
        del layers[name]
    return graph.steps


class _Steps:
    def __init__(
        self,
        steps: Sequence[Step],
        layers: MutableMapping[str, nn.Module],
        constants: Mapping[str, Tensor],
        outputs: Sequence[str],
    ) -> None:
        self.steps = list(steps)
        self.layers, self.constants, self.outputs = layers, constants, outputs

    def add_bias(self, step: Step) -> None:
        """``step`` adds a constant to the result of a convolution or matrix product without bias."""
        added = self._with_constant(step, torch.add)
        source = self._only_source(added[0]) if added else None
        layer = self.layers[source[0]] if source else None
        if added is None or source is None or not isinstance(layer, nn.Conv2d | nn.Linear) or layer.bias is not None:
            return
        channels = layer.weight.shape[0]
        trailing = (1, 1) if isinstance(layer, nn.Conv2d) else ()
        constant = added[1]
        if tuple(constant.shape) in ((channels, *trailing), (1, channels, *trailing)):
            layer.bias = nn.Parameter(constant.flatten().clone())
            self._replace(source, (source[0], source[1], step[2]), gone=[step])

    def hard_swish(self, step: Step) -> None:
        """``step`` divides ``x * clip(x + 3, 0, 6)`` by 6, or multiplies it by a sixth."""
        divided = self._with_constant(step, torch.div) or self._with_constant(step, torch.mul)
        if divided is None or divided[1].numel() != 1:
            return
        factor = float(divided[1])
        if not math.isclose(factor if self._is(step, torch.div) else 1 / factor if factor else 0, 6, rel_tol=1e-5):
            return
        product = self._only_source(divided[0])
        if product is None or not self._is(product, torch.mul):
            return
        for x, gate in (product[1], product[1][::-1]):
            clip = self._only_source(gate)
            shifted = self._only_source(clip[1][0]) if clip and isinstance(self.layers[clip[0]], nn.ReLU6) else None
            added = self._with_constant(shifted, torch.add) if shifted else None
            if clip and shifted and added and added[0] == x and added[1].numel() == 1 and float(added[1]) == 3:
                self.layers[step[0]] = nn.Hardswish()
                self._replace(step, (step[0], (x,), step[2]), gone=[shifted, clip, product])
                return

    def hard_sigmoid(self, step: Step) -> None:
        """``clip(a x + 1/2, 0, 1)`` of a convolution: scaled by ``6 a``, it is torch's ``clip(z / 6 + 1/2, 0, 1)``."""
        layer = self.layers[step[0]]
        if not isinstance(layer, HardSigmoid) or layer.beta != 0.5:
            return
        source = self._only_source(step[1][0])
        scaled = self.layers[source[0]] if source else None
        if source is None or not isinstance(scaled, nn.Conv2d | nn.Linear):
            return
        with torch.no_grad():
            for parameter in scaled.parameters():
                parameter.mul_(6 * layer.alpha)
        self.layers[step[0]] = nn.Hardsigmoid()

    def _is(self, step: Step, function: object) -> bool:
        layer = self.layers[step[0]]
        return isinstance(layer, Binary) and layer.function is function

    def _with_constant(self, step: Step, function: object) -> tuple[str, Tensor] | None:
        """The other operand and the constant, where ``step`` is that function of the two."""
        if not self._is(step, function):
            return None
        a, b = step[1]
        if b in self.constants:
            return a, self.constants[b]
        return (b, self.constants[a]) if a in self.constants and function is not torch.div else None

    def _only_source(self, value: str) -> Step | None:
        """The step that computes ``value``, where nothing else needs it."""
        uses = sum(s[1].count(value) for s in self.steps) + (value in self.outputs)
        return next((s for s in self.steps if s[2] == value), None) if uses == 1 else None

    def _replace(self, old: Step, new: Step, *, gone: Sequence[Step]) -> None:
        self.steps = [new if s == old else s for s in self.steps if s not in gone]
