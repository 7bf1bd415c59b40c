"""From finished drafts to the kernel graph: names, width axes, outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch.fx import Node

from edgeprune.graph.analysis import Analysis
from edgeprune.graph.channels import AxisBinding, KernelGraph, KernelNode, Port
from edgeprune.graph.cutting.constants import Constants
from edgeprune.graph.cutting.cutter import Cutter
from edgeprune.graph.cutting.values import Draft
from edgeprune.graph.nodes import module_path, source_line, static_shape, unsupported
from edgeprune.graph.ops.walked import FEATURES
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.graph.walks import kept_shape


def output(cutter: Cutter, constants: Constants, node: Node, dtype: str) -> Port:
    """A result of the network, in row-major order.

    Raises:
        UnsupportedOperatorError: a parameter or buffer, which loses channels as layers do.
    """
    numbers = cutter.numbers(node)
    if numbers is not None and numbers.dtype != torch.float32:
        value = cutter.constant(node, "numbers", numbers.float())
    else:
        value = cutter.plain(node)
    if value.draft is None and constants.named(value.tensor):
        which = constants.said(value.tensor)
        hint = "take what never changes from the module, not from a board"
        raise unsupported(node, f"the network returns {which}", hint)
    if value.draft is None:  # an input, or a constant: a program has buffers of its own for what it returns
        value = cutter.returned(node, value)
    return Port(node.name, static_shape(node), value.tensor, dtype)


def assemble(
    drafts: Sequence[Draft], constants: Constants, analysis: Analysis, inputs: Sequence[Port], outputs: Sequence[Port]
) -> KernelGraph:
    """The kernel graph of ``drafts``, which come in running order."""
    nodes = tuple(_nodes(drafts, _Axes(analysis)))
    held, kept = constants.read({t for n in nodes for t in n.inputs})
    ready = {p.tensor for p in inputs} | set(held)
    for node in nodes:
        assert ready.issuperset(node.inputs), f"{node.name} runs before {set(node.inputs) - ready} is there"
        ready.add(node.output)
    tensors = {p.tensor: TensorSpec(kept_shape(p.shape), "plain") for p in inputs}
    tensors |= {d.node.name: d.spec for d in drafts} | kept
    names = [what for what in held.values() if isinstance(what, str)]
    computed = constants.recipes_of(names, [n.weights for n in nodes])
    return KernelGraph(nodes, tensors, tuple(inputs), tuple(outputs), held, computed)


def _nodes(drafts: Iterable[Draft], axes: _Axes) -> Iterable[KernelNode]:
    used: Counter[str] = Counter()
    for draft in drafts:
        used[name := _name(draft)] += 1
        values = (*draft.sources, *draft.operands)
        attrs = {**draft.attrs, **({FEATURES: True} if axes.has_features(draft) else {})}
        spec = KernelSpec(
            draft.op,
            tuple(v.spec for v in values),
            draft.spec,
            tuple(sorted(attrs.items())),
            tuple(draft.epilogue),
        )
        yield KernelNode(
            name=name if used[name] == 1 else f"{name}.{used[name]}",
            spec=spec,
            inputs=tuple(v.tensor for v in values),
            output=draft.node.name,
            weights=draft.weights,
            axes=axes.of(draft, spec),
            module=module_path(draft.anchor),
            source=source_line(draft.anchor),
        )


def _name(draft: Draft) -> str:
    """The module's, where that has weights; else the operator's in its module."""
    if draft.op == "layout":
        return f"{draft.sources[0].tensor}.{draft.spec.layout}"
    path = module_path(draft.anchor) or draft.anchor.name
    return path if draft.weights.weight or draft.weights.norm else f"{path}.{draft.anchor.name}"


class _Axes:
    """How the width axes of kernels are made up of groups."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._sizes = {g.name: g.size for g in analysis.graph.groups}

    def of(self, draft: Draft, spec: KernelSpec) -> dict[str, AxisBinding]:
        if draft.axes:
            owned = {axis: self._owned(*said) for axis, said in draft.axes.items()}
            return {axis: self._made_up(found, spec.widths[axis]) for axis, found in owned.items()}
        known = self._analysis.features if draft.features or FEATURES in dict(spec.attrs) else self._analysis.axes
        source = draft.sources[0]
        knowing = {"out": source.axis if draft.op == "layout" else draft.anchor}
        if "in" in spec.widths:
            knowing["in"] = source.axis
        return {name: self._made_up(known.get(node.name), spec.widths[name]) for name, node in knowing.items()}

    def has_features(self, draft: Draft) -> bool:
        """Whether the channels of three dimensions that are moved are the last of them."""
        if draft.op not in ("strided", "join") or len(draft.spec.shape) != 3:
            return False
        name, nobody = draft.anchor.name, AxisBinding(())
        first, last = (x.get(name, nobody).groups for x in (self._analysis.axes, self._analysis.features))
        return bool(draft.axes or (last and not first))

    def _owned(self, weight: str, dim: int, times: int) -> AxisBinding:
        """The groups that own a dimension of a weight, in the order of its indices, so many times."""
        found = [
            (member.start, group.name, member.repeat)
            for group in self._analysis.graph.groups
            for member in group.members
            if (member.param, member.dim) == (weight, dim)
        ]
        return AxisBinding(tuple(name for _, name, repeat in sorted(found) for _ in range(repeat)) * times)

    def _made_up(self, known: AxisBinding | None, width: int) -> AxisBinding:
        """A kernel on the way may have other dimensions; what does not add up to its ``width`` stays."""
        if known and known.base + sum(self._sizes[g] for g in known.groups) == width:
            return known
        return AxisBinding((), base=width)
