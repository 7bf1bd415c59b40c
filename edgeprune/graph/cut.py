"""Cutting a traced network into kernels. Fusion is decided here, once, and nowhere else.

Each anchor operator (convolution, dense, pooling, …) opens a draft; batch norm, bias, activations
and residual additions that follow it, with no other reader in between, join the draft's epilogue.
What the cutter yields is what latency tables are keyed by and what the compiler builds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Node

from edgeprune.errors import UnsupportedOperatorError
from edgeprune.graph.channels import AxisBinding, KernelGraph, KernelNode, Port, WeightRef
from edgeprune.graph.flow import arguments
from edgeprune.graph.groups import Analysis
from edgeprune.graph.mutation import stale_read
from edgeprune.graph.spec import Attr, KernelSpec, TensorSpec
from edgeprune.graph.trace import (
    describe,
    module_path,
    parameter_names,
    shape_of,
    source_line,
    user_inputs,
    user_outputs,
)

aten = torch.ops.aten


@dataclass(eq=False)
class _Draft:
    """A kernel being put together; ``node`` is the fx node whose value it yields so far."""

    op: str
    node: Node
    anchor: Node
    spec: TensorSpec
    sources: list[_Value] = field(default_factory=list)
    operands: list[_Value] = field(default_factory=list)
    attrs: dict[str, Attr] = field(default_factory=dict)
    epilogue: list[str] = field(default_factory=list)
    weights: WeightRef = field(default_factory=WeightRef)
    order: int = 0
    closed: bool = False


@dataclass(frozen=True)
class _Value:
    """What an fx node yields: the result of a draft or a network input (``draft`` None).

    ``flat``: seen as (N, C*H*W) although the board keeps the image.
    ``axis``: the fx node that knows how the channels are made up.
    """

    node: Node
    axis: Node
    spec: TensorSpec
    draft: _Draft | None = None
    flat: bool = False

    @property
    def tensor(self) -> str:
        return self.draft.node.name if self.draft else self.node.name


def cut(program: ExportedProgram, analysis: Analysis) -> KernelGraph:
    """Kernels of a traced network, with their width axes bound to the groups of ``analysis``.

    Raises:
        UnsupportedOperatorError: an operator that no kernel computes; names node, module and line.
    """
    return _Cutter(program, analysis).run()


class _Cutter:
    def __init__(self, program: ExportedProgram, analysis: Analysis) -> None:
        self.program = program
        self.analysis = analysis
        self.parameters = parameter_names(program)
        self.values: dict[Node, _Value] = {}
        self.drafts: list[_Draft] = []

    def run(self) -> KernelGraph:
        inputs = []
        for node in user_inputs(self.program):
            spec = TensorSpec(_shape(node), "plain")
            if len(spec.shape) not in (2, 4):
                raise _unsupported(
                    node, f"a network input of {len(spec.shape)} dimensions", "give (N, C, H, W) or (N, F)"
                )
            self.values[node] = _Value(node, node, spec)
            inputs.append(Port(node.name, spec.shape, node.name))
        if stale := stale_read(self.program.graph):
            node, name, reader = stale
            why = f"it changes '{name.name}' in place, which '{reader.name}' reads afterwards"
            raise _unsupported(node, why, "use the operator that is not in place (inplace=False)")
        for order, node in enumerate(self.program.graph.nodes):
            if node.op != "call_function":
                continue
            handler = HANDLERS.get(node.target)
            if handler is None:
                raise _unsupported(node, "no kernel computes it", "see docs/OPERATORS.md for the operators that do")
            handler(self, node)
            draft = self.values[node].draft
            if draft is not None and draft.node is node:
                draft.order = order
        outputs = [self._output(node) for node in user_outputs(self.program)]
        drafts = sorted(self.drafts, key=lambda d: d.order)
        tensors = {p.tensor: TensorSpec(p.shape, "plain") for p in inputs}
        tensors |= {d.node.name: d.spec for d in drafts}
        return KernelGraph(tuple(self._nodes(drafts)), tensors, tuple(inputs), tuple(outputs))

    # -- reading arguments ----------------------------------------------------------------

    def value(self, node: Any, reader: Node) -> _Value:
        if not isinstance(node, Node) or node not in self.values:
            raise _unsupported(reader, f"its operand {node} is not an activation", "use a module with this parameter")
        return self.values[node]

    def parameter(self, node: Any, reader: Node) -> str:
        if node is None:
            return ""
        name = self.parameters.get(node.name, "") if isinstance(node, Node) else ""
        if not name:
            raise _unsupported(reader, f"its weight {node} is computed, not a parameter", "fold it into a parameter")
        return name

    def image(self, node: Any, reader: Node, *, plain: bool = False) -> _Value:
        """The operand as an image in blocked layout (or as it is, where ``plain`` will do)."""
        value = self.value(node, reader)
        if value.flat or len(value.spec.shape) != 4:
            raise _unsupported(reader, f"its operand {node} is not an image", "keep it (N, C, H, W)")
        if value.spec.layout == "plain" and not plain:
            value = self._convert(value, "blocked")
        return value

    def _convert(self, value: _Value, layout: str) -> _Value:
        """Insert (or find) the kernel that changes the layout of an image."""
        for draft in self.drafts:
            if draft.op == "layout" and draft.sources[0].tensor == value.tensor and draft.spec.layout == layout:
                return _Value(value.node, value.axis, draft.spec, draft, value.flat)
        graph = self.program.graph
        # The conversion yields a value of its own; a detached fx node names it.
        # A dot: no other node can have this name.
        node = Node(graph, f"{value.tensor}.{layout}", "call_function", aten.clone.default, (), {})
        order = value.draft.order if value.draft else -1
        draft = _Draft(
            "layout", node, value.node, TensorSpec(value.spec.shape, layout), [value], closed=True, order=order
        )
        if value.draft:
            value.draft.closed = True
        self.drafts.append(draft)
        return _Value(value.node, value.axis, draft.spec, draft, value.flat)

    def row(self, node: Any, reader: Node) -> _Value:
        """The operand as a plain (N, F) row."""
        value = self.value(node, reader)
        if len(value.spec.shape) == 4 and value.flat:
            if value.spec.layout == "blocked":
                value = self._convert(value, "plain")
            spec = TensorSpec((value.spec.shape[0], value.spec.channels * value.spec.pixels), "plain")
            return _Value(value.node, value.node, spec, value.draft)
        if len(value.spec.shape) != 2:
            raise _unsupported(reader, f"its operand {node} is not a row of features", "flatten it first")
        return value

    # -- building drafts --------------------------------------------------------------------

    def open(self, op: str, node: Node, spec: TensorSpec, sources: Iterable[_Value], **attrs: Attr) -> _Draft:
        draft = _Draft(op, node, node, spec, list(sources), attrs=attrs)
        self.drafts.append(draft)
        self.values[node] = _Value(node, node, spec, draft)
        return draft

    def extend(self, value: _Value, node: Node, *, can_be_flat: bool = False) -> _Draft | None:
        """The draft behind ``value`` if ``node`` may join its epilogue."""
        draft = value.draft
        if draft is None or draft.closed or draft.node is not value.node or draft.op in ("concat", "layout"):
            return None
        if len(value.node.users) != 1 or (value.flat and not can_be_flat):
            return None
        return draft

    def grow(self, draft: _Draft, node: Node, *steps: str) -> None:
        draft.epilogue.extend(steps)
        draft.node = node
        self.values[node] = _Value(node, node, draft.spec, draft)

    def alias(self, node: Node, source: _Value, *, flat: bool) -> None:
        """``node`` is the same data; later operators may still join where it is the only reader."""
        if source.draft and not source.draft.closed and source.draft.node is source.node:
            if flat or len(source.node.users) != 1:
                source.draft.closed = True
            else:
                source.draft.node = node
        axis = source.axis if flat else node
        self.values[node] = _Value(node, axis, source.spec, source.draft, flat)

    # -- finishing ----------------------------------------------------------------------------

    def _output(self, node: Node) -> Port:
        value = self.value(node, node)
        if value.draft is None:
            raise _unsupported(node, "the network returns its own input", "return something it computes")
        if value.spec.layout == "blocked":
            value = self._convert(value, "plain")
        return Port(node.name, _shape(node), value.tensor)

    def _nodes(self, drafts: list[_Draft]) -> Iterable[KernelNode]:
        used: dict[str, int] = {}
        for draft in drafts:
            path = module_path(draft.anchor) or draft.anchor.name
            base = path if draft.weights.weight or draft.weights.norm else f"{path}.{draft.anchor.name}"
            base = f"{draft.sources[0].tensor}.{draft.spec.layout}" if draft.op == "layout" else base
            used[base] = used.get(base, 0) + 1
            values = (*draft.sources, *draft.operands)
            spec = KernelSpec(
                draft.op,
                tuple(v.spec for v in values),
                draft.spec,
                tuple(sorted(draft.attrs.items())),
                tuple(draft.epilogue),
            )
            axes = {"out": self._binding(draft, draft.sources[0].axis if draft.op == "layout" else draft.anchor)}
            if "in" in spec.widths:
                axes["in"] = self._binding(draft, draft.sources[0].axis)
            yield KernelNode(
                name=base if used[base] == 1 else f"{base}.{used[base]}",
                spec=spec,
                inputs=tuple(v.tensor for v in values),
                output=draft.node.name,
                weights=draft.weights,
                axes=axes,
                module=module_path(draft.anchor),
                source=source_line(draft.anchor),
            )

    def _binding(self, draft: _Draft, node: Node) -> AxisBinding:
        return self.analysis.axes[node.name]


def _shape(node: Node) -> tuple[int, ...]:
    shape = shape_of(node)
    if shape is None:
        raise _unsupported(node, "it yields no tensor", "take the tensor out of the tuple in the network")
    return shape


def _unsupported(node: Node, why: str, hint: str) -> UnsupportedOperatorError:
    return UnsupportedOperatorError(
        f"{describe(node)} cannot be compiled: {why}",
        hint=hint,
        node=node.name,
        operator=str(node.target),
        module=module_path(node),
        source=source_line(node),
    )


def _argument(node: Node, index: int, name: str, default: Any = None) -> Any:
    return node.args[index] if len(node.args) > index else node.kwargs.get(name, default)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return (value, value)
    numbers = tuple(int(v) for v in value)
    return (numbers[0], numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


# -- handlers: one an operator ---------------------------------------------------------------------

Handler = Callable[[_Cutter, Node], None]
HANDLERS: dict[Any, Handler] = {}


def _handles(*operators: Any) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        for operator in operators:
            if operator in HANDLERS:
                raise ValueError(f"{operator} has two handlers")
            HANDLERS[operator] = handler
        return handler

    return register


@_handles(aten.conv2d.default, aten.conv2d.padding)
def _conv2d(cutter: _Cutter, node: Node) -> None:
    kernel = _pair(_shape(node.args[1])[2:])  # type: ignore[arg-type]
    dilation = _pair(_argument(node, 5, "dilation", 1))
    padding = _argument(node, 4, "padding", 0)
    if padding == "valid":
        padding = 0
    elif padding == "same":
        whole = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        if any(n % 2 for n in whole):
            raise _unsupported(node, "padding that differs from side to side", "pad by a number, or use an odd kernel")
        padding = [n // 2 for n in whole]
    groups = int(_argument(node, 6, "groups", 1))
    x = cutter.image(node.args[0], node, plain=groups == 1)
    if groups == x.spec.channels != _shape(node)[1] and groups != 1:
        raise _unsupported(
            node,
            f"{groups} groups between {x.spec.channels} and {_shape(node)[1]} channels",
            "use one filter per channel (depthwise), or more than one channel in each group",
        )
    draft = cutter.open(
        "conv2d",
        node,
        TensorSpec(_shape(node)),
        [x],
        kernel=kernel,
        stride=_pair(_argument(node, 3, "stride", 1)),
        padding=_pair(padding),
        dilation=dilation,
        groups=groups,
    )
    draft.weights = WeightRef(cutter.parameter(node.args[1], node), cutter.parameter(_argument(node, 2, "bias"), node))
    draft.epilogue.append("bias")  # always: a folded batch norm brings one


@_handles(aten.linear.default)
def _linear(cutter: _Cutter, node: Node) -> None:
    x = cutter.value(node.args[0], node)
    # A flattened blocked image is read in place; weights are packed to match.
    if not (x.flat and x.spec.layout == "blocked"):
        x = cutter.row(node.args[0], node)
    draft = cutter.open("dense", node, TensorSpec(_shape(node), "plain"), [x])
    draft.weights = WeightRef(cutter.parameter(node.args[1], node), cutter.parameter(_argument(node, 2, "bias"), node))
    draft.epilogue.append("bias")


@_handles(aten.batch_norm.default)
def _batch_norm(cutter: _Cutter, node: Node) -> None:
    names = [cutter.parameter(a, node) for a in node.args[1:5]]
    if not (names[2] and names[3]):
        raise _unsupported(node, "a batch norm without running statistics", "set track_running_stats=True and train")
    norm, eps = (names[0], names[1], names[2], names[3]), float(node.args[7])  # type: ignore[arg-type]
    x = cutter.value(node.args[0], node)
    draft = cutter.extend(x, node)
    if draft and draft.op == "conv2d" and draft.epilogue == ["bias"] and draft.weights.norm is None:
        draft.weights = WeightRef(draft.weights.weight, draft.weights.bias, norm, eps)
        cutter.grow(draft, node)
        return
    # A batch norm with nothing to fold into is a 1x1 depthwise convolution.
    x = cutter.image(node.args[0], node)
    unit = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    draft = cutter.open("conv2d", node, TensorSpec(_shape(node)), [x], groups=x.spec.channels, **unit)
    draft.weights = WeightRef("", "", norm, eps)
    draft.epilogue.append("bias")


ACTIVATIONS: dict[Any, str] = {
    aten.relu.default: "relu",
    aten.relu_.default: "relu",
    aten.relu6.default: "relu6",
    aten.relu6_.default: "relu6",
    aten.hardswish.default: "hardswish",
    aten.hardswish_.default: "hardswish",
    aten.hardsigmoid.default: "hardsigmoid",
    aten.hardsigmoid_.default: "hardsigmoid",
    aten.sigmoid.default: "sigmoid",
    aten.sigmoid_.default: "sigmoid",
    aten.silu.default: "silu",
    aten.silu_.default: "silu",
    aten.tanh.default: "tanh",
    aten.tanh_.default: "tanh",
}


@_handles(*ACTIVATIONS)
def _activation(cutter: _Cutter, node: Node) -> None:
    _unary(cutter, node, ACTIVATIONS[node.target])


@_handles(aten.hardtanh.default, aten.hardtanh_.default, aten.clamp.default, aten.clamp_.default)
def _clip(cutter: _Cutter, node: Node) -> None:
    default = -1.0 if "hardtanh" in str(node.target) else None
    low = _argument(node, 1, "min_val", node.kwargs.get("min", default))
    high = _argument(node, 2, "max_val", node.kwargs.get("max", None if default is None else 1.0))
    bounds = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    _unary(cutter, node, {(0.0, 6.0): "relu6", (0.0, math.inf): "relu"}.get(bounds) or step("clip", *bounds))


@_handles(aten.leaky_relu.default, aten.leaky_relu_.default)
def _leaky_relu(cutter: _Cutter, node: Node) -> None:
    _unary(cutter, node, step("leaky_relu", _argument(node, 1, "negative_slope", 0.01)))


@_handles(aten.elu.default, aten.elu_.default)
def _elu(cutter: _Cutter, node: Node) -> None:
    if _argument(node, 2, "scale", 1) != 1 or _argument(node, 3, "input_scale", 1) != 1:
        raise _unsupported(node, "an ELU with scales", "use nn.ELU")
    _unary(cutter, node, step("elu", _argument(node, 1, "alpha", 1.0)))


@_handles(aten.gelu.default)
def _gelu(cutter: _Cutter, node: Node) -> None:
    _unary(cutter, node, "gelu_tanh" if node.kwargs.get("approximate", "none") == "tanh" else "gelu")


def step(name: str, *numbers: float) -> str:
    """An epilogue step with numbers, as the kernel rules read it."""
    return f"{name}:{','.join(repr(float(n)) for n in numbers)}"


def _unary(cutter: _Cutter, node: Node, name: str) -> None:
    value = cutter.value(node.args[0], node)
    if draft := cutter.extend(value, node):
        cutter.grow(draft, node, name)
        return
    value = cutter.image(node.args[0], node) if len(_shape(node)) == 4 else cutter.row(node.args[0], node)
    cutter.open("elementwise", node, value.spec, [value]).epilogue.append(name)


@_handles(aten.add.Tensor, aten.add_.Tensor, aten.mul.Tensor, aten.mul_.Tensor)
def _binary(cutter: _Cutter, node: Node) -> None:
    name = "add" if "add" in str(node.target) else "mul"
    if name == "add" and node.kwargs.get("alpha", 1) != 1:
        raise _unsupported(node, "an addition with alpha", "write the factor as a separate layer")
    if isinstance(node.args[1], int | float):
        _unary(cutter, node, step("plus" if name == "add" else "times", node.args[1]))
        return
    read = cutter.image if len(_shape(node)) == 4 else cutter.row
    values = [read(a, node) for a in node.args[:2]]
    whole = [v for v in values if v.spec.shape == _shape(node)]
    if not whole:
        raise _unsupported(node, f"broadcasting {[v.spec.shape for v in values]}", "give one operand the full shape")
    for value in whole:
        other = values[1] if value is values[0] else values[0]
        if other.spec.shape != value.spec.shape and not _one_per_channel(other.spec, value.spec):
            raise _unsupported(node, f"broadcasting {other.spec.shape}", "use (N, C, 1, 1) or the full shape")
        draft = cutter.extend(value, node)
        if draft and other.draft is not draft:
            draft.operands.append(other)
            cutter.grow(draft, node, name)
            return
    first = whole[0]
    second = values[1] if first is values[0] else values[0]
    draft = cutter.open("elementwise", node, first.spec, [first])
    draft.operands.append(second)
    draft.epilogue.append(name)


@_handles(aten.sub.Tensor, aten.sub_.Tensor, aten.div.Tensor, aten.div_.Tensor)
def _number(cutter: _Cutter, node: Node) -> None:
    number, name = node.args[1], "sub" if "sub" in str(node.target) else "div"
    if not isinstance(number, int | float) or node.kwargs:
        why = "a difference of values" if name == "sub" else "a division: by a number only"
        raise _unsupported(node, why, "write it with add and mul")
    _unary(cutter, node, step("plus", -number) if name == "sub" else step("times", 1 / number))


def _one_per_channel(gate: TensorSpec, image: TensorSpec) -> bool:
    return gate.shape[:2] == image.shape[:2] and gate.pixels == 1


@_handles(aten.max_pool2d.default)
def _max_pool(cutter: _Cutter, node: Node) -> None:
    if _pair(_argument(node, 4, "dilation", 1)) != (1, 1):
        raise _unsupported(node, "a dilated pooling window", "use dilation 1")
    kernel = _pair(node.args[1])
    stride = _pair(_argument(node, 2, "stride") or kernel)
    padding = _pair(_argument(node, 3, "padding", 0))
    x = cutter.image(node.args[0], node)
    cutter.open("max_pool2d", node, TensorSpec(_shape(node)), [x], kernel=kernel, stride=stride, padding=padding)


@_handles(aten.avg_pool2d.default)
def _avg_pool(cutter: _Cutter, node: Node) -> None:
    kernel = _pair(node.args[1])
    stride = _pair(_argument(node, 2, "stride") or kernel)
    if _argument(node, 4, "ceil_mode", False) or _argument(node, 6, "divisor_override") is not None:
        raise _unsupported(node, "ceil_mode or divisor_override in an average", "use the defaults")
    cutter.open(
        "avg_pool2d",
        node,
        TensorSpec(_shape(node)),
        [cutter.image(node.args[0], node)],
        kernel=kernel,
        stride=stride,
        padding=_pair(_argument(node, 3, "padding", 0)),
        count_include_pad=bool(_argument(node, 5, "count_include_pad", True)),
    )


@_handles(aten.adaptive_avg_pool2d.default)
def _adaptive_pool(cutter: _Cutter, node: Node) -> None:
    x = cutter.image(node.args[0], node)
    size, out = x.spec.shape[2:], _shape(node)[2:]
    if out == size:
        cutter.alias(node, x, flat=False)
    elif out == (1, 1):
        cutter.open("global_avg_pool", node, TensorSpec(_shape(node)), [x])
    elif all(s % o == 0 for s, o in zip(size, out, strict=True)):
        kernel = (size[0] // out[0], size[1] // out[1])
        window: dict[str, Attr] = {"kernel": kernel, "stride": kernel, "padding": (0, 0), "count_include_pad": True}
        cutter.open("avg_pool2d", node, TensorSpec(_shape(node)), [x], **window)
    else:
        raise _unsupported(node, f"adaptive pooling from {size} to {out}", "choose an input size that divides evenly")


@_handles(aten.mean.dim)
def _mean(cutter: _Cutter, node: Node) -> None:
    x = cutter.image(node.args[0], node)
    dims = sorted(int(d) % 4 for d in node.args[1])  # type: ignore[union-attr, arg-type]
    if dims != [2, 3]:
        raise _unsupported(node, f"a mean over dimensions {dims}", "only (2, 3), the mean of the image, has a kernel")
    n, c = x.spec.shape[:2]
    draft = cutter.open("global_avg_pool", node, TensorSpec((n, c, 1, 1)), [x])
    if len(_shape(node)) == 2:
        draft.closed = True
        cutter.values[node] = _Value(node, node, draft.spec, draft, flat=True)


@_handles(aten.cat.default)
def _concat(cutter: _Cutter, node: Node) -> None:
    if int(_argument(node, 1, "dim", 0)) % len(_shape(node)) != 1 or len(_shape(node)) != 4:
        raise _unsupported(node, "concatenation of anything but image channels", "concatenate along dimension 1")
    parts = [cutter.image(a, node) for a in node.args[0]]  # type: ignore[union-attr]
    for part in parts:
        if part.draft:
            part.draft.closed = True
    cutter.open("concat", node, TensorSpec(_shape(node)), parts)


@_handles(
    aten.upsample_nearest2d.vec,
    aten.upsample_nearest2d.default,
    aten.upsample_bilinear2d.vec,
    aten.upsample_bilinear2d.default,
)
def _upsample(cutter: _Cutter, node: Node) -> None:
    bilinear = "bilinear" in str(node.target)
    x = cutter.image(node.args[0], node)
    named = arguments(node)
    factors = named.get("scale_factors") or (named.get("scales_h"), named.get("scales_w"))
    for size, out, factor in zip(x.spec.shape[2:], _shape(node)[2:], factors, strict=True):
        if factor is not None and size * factor != out:
            # torch would sample with the factor, the kernel with the ratio of the sizes.
            raise _unsupported(node, f"resizing {size} by {factor}", "give the output size instead of a factor")
    corners = bool(_argument(node, 2, "align_corners", False)) if bilinear else False
    mode = "bilinear" if bilinear else "nearest"
    cutter.open("resize2d", node, TensorSpec(_shape(node)), [x], mode=mode, align_corners=corners)


@_handles(
    aten.dropout.default,
    aten.dropout_.default,
    aten.feature_dropout.default,
    aten.alias.default,
    aten.contiguous.default,
    aten.clone.default,
    aten.detach.default,
)
def _identity(cutter: _Cutter, node: Node) -> None:
    value = cutter.value(node.args[0], node)
    cutter.alias(node, value, flat=value.flat)


@_handles(
    aten.flatten.using_ints,
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.squeeze.default,
)
def _reshape(cutter: _Cutter, node: Node) -> None:
    value, shape = cutter.value(node.args[0], node), _shape(node)
    before = _shape(value.node)
    if shape == before:
        cutter.alias(node, value, flat=value.flat)
    elif len(before) == 4 and shape == (before[0], value.spec.channels * value.spec.pixels):
        cutter.alias(node, value, flat=True)
    elif value.flat and shape == value.spec.shape:
        # An image that was flattened is seen as an image again.
        cutter.values[node] = _Value(node, value.axis, value.spec, value.draft)
    else:
        raise _unsupported(node, f"a reshape from {before} to {shape}", "only flattening (N, C, H, W) has a kernel")
