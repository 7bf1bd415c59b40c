"""The cutter: kernels being drafted while a traced network is walked through.

An anchor operator (convolution, dense, pooling, …) opens a draft; batch norm, bias, activations and
residual additions that follow it, with no other reader in between, join the draft's epilogue. What
an operator asks of the cutter is in graph/operators/.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.node import map_arg

from edgeprune.errors import UnsupportedOperatorError
from edgeprune.graph.channels import AxisBinding, KernelGraph, KernelNode, Port, WeightRef
from edgeprune.graph.computed import Computed, Recipes, is_view
from edgeprune.graph.groups import Analysis
from edgeprune.graph.mutation import stale_read
from edgeprune.graph.nodes import describe, module_path, shape_of, source_line
from edgeprune.graph.ops.table import OPERATORS
from edgeprune.graph.spec import Attr, KernelSpec, TensorSpec
from edgeprune.graph.tables import filling
from edgeprune.graph.trace import parameter_names, user_inputs, user_outputs
from edgeprune.graph.walks import View


@dataclass(eq=False)
class Draft:
    """A kernel being put together; ``node`` is the fx node whose value it yields so far."""

    op: str
    node: Node
    anchor: Node
    spec: TensorSpec
    sources: list[Value] = field(default_factory=list)
    operands: list[Value] = field(default_factory=list)
    attrs: dict[str, Attr] = field(default_factory=dict)
    epilogue: list[str] = field(default_factory=list)
    weights: WeightRef = field(default_factory=WeightRef)
    order: int = 0
    closed: bool = False
    features: bool = False  # the width axes are the last dimensions, not dimension 1


@dataclass(frozen=True)
class Value:
    """What an fx node yields: the result of a draft or a network input (``draft`` None).

    ``spec``: the data as the board keeps it. ``view``: how ``node`` finds its values in the data's row-major
    order (also where the board keeps blocks), None for as it is.
    ``axis``: the fx node that knows how the channels of the data are made up.
    ``origin``: the network input or constant that the data is, where ``node`` only looks at it.
    """

    node: Node
    axis: Node
    spec: TensorSpec
    draft: Draft | None = None
    view: View | None = None
    origin: Node | None = None

    @property
    def tensor(self) -> str:
        """The name of the data."""
        return (self.draft.node if self.draft else self.origin or self.node).name

    def of(self, node: Node) -> Value:
        """The same data, as what ``node`` yields."""
        return replace(self, node=node, origin=self.origin or (None if self.draft else self.node))

    @property
    def shape(self) -> tuple[int, ...]:
        """As ``node`` sees it."""
        return self.view.shape if self.view else self.spec.shape

    @property
    def seen(self) -> View:
        """How ``node`` finds its values in the row-major order of the data."""
        return self.view or View.whole(self.spec.shape)

    @property
    def first_channel(self) -> int | None:
        """Where the view begins if it shows some channels of an image, one after the other; else None."""
        if len(self.spec.shape) != 4 or len(self.shape) != 4:
            return None
        n, channels, height, width = self.spec.shape
        count, steps = self.shape[1], self.seen.walk.steps(self.seen.base, len(self.shape))
        start, rest = divmod(self.seen.walk.offset(self.seen.base), height * width)
        expected = (channels * height * width, height * width, width, 1)
        same = all(a == b or size == 1 for a, b, size in zip(steps, expected, self.shape, strict=True))
        return start if self.shape == (n, count, height, width) and same and not rest else None

    @property
    def flat(self) -> bool:
        """An image seen as one row a sample."""
        n, *rest = self.spec.shape
        return self.view is not None and len(rest) == 3 and self.view == View.whole((n, math.prod(rest)))


_ELEMENTWISE = tuple(
    overload
    for name in ("add", "sub", "mul", "div")
    for overload in (getattr(torch.ops.aten, name).Tensor, getattr(torch.ops.aten, f"{name}_").Tensor)
)

Handler = Callable[["Cutter", Node], None]
HANDLERS: dict[Any, Handler] = {}
"""ATen overload -> what makes kernels of it; filled by the modules in graph/operators/."""


handles = filling(HANDLERS, "handler")
"""Enter a handler for overloads."""


class Cutter:
    """The values of a program and the kernels drafted so far; handlers read and write it."""

    def __init__(self, program: ExportedProgram, analysis: Analysis) -> None:
        self.program = program
        self.analysis = analysis
        self.parameters = parameter_names(program)
        self.values: dict[Node, Value] = {}
        self.drafts: list[Draft] = []
        self.order = 0  # of the node at hand
        self.sizes = {g.name: g.size for g in analysis.graph.groups}
        self.constants: dict[str, str | NDArray[np.float32]] = {}
        self.literals: dict[str, Tensor] = {}  # of any type; those that are written in the network's code at first
        for name, constant in program.graph_signature.inputs_to_lifted_tensor_constants.items():
            self.literals[name] = program.constants[constant]
        self.recipes = Recipes(self.parameters, {**program.constants, **program.state_dict}, self.literals)
        self.computed: dict[str, Computed] = {}
        self.parts: dict[Node, list[tuple[Value, View]]] = {}  # of nodes that yield several tensors

    def run(self) -> KernelGraph:
        inputs = []
        for node in user_inputs(self.program):
            spec = TensorSpec(static_shape(node), "plain")
            if len(spec.shape) < 2:
                raise unsupported(node, f"a network input of {len(spec.shape)} dimensions", "give it a batch dimension")
            self.values[node] = Value(node, node, spec)
            inputs.append(Port(node.name, spec.shape, node.name))
        if stale := stale_read(self.program.graph):
            node, name, reader = stale
            why = f"it changes '{name.name}' in place, which '{reader.name}' reads afterwards"
            raise unsupported(node, why, "use the operator that is not in place (inplace=False)")
        for order, node in enumerate(self.program.graph.nodes):
            self.order = order
            if node.op != "call_function":
                continue
            if self._literal(node) or self.recipes.add(node):
                continue
            handler = HANDLERS.get(node.target)
            if handler is None:
                raise unsupported(node, "no kernel computes it", "see docs/OPERATORS.md for the operators that do")
            handler(self, node)
            value = self.values.get(node)
            if value is not None and value.draft is not None and value.draft.node is node:
                value.draft.order = order
        outputs = [self._output(node) for node in user_outputs(self.program)]
        drafts = sorted(self.drafts, key=lambda d: d.order)
        tensors = {p.tensor: TensorSpec(p.shape, "plain") for p in inputs}
        tensors |= {d.node.name: d.spec for d in drafts}
        nodes = tuple(self._nodes(drafts))
        read = {t for n in nodes for t in n.inputs}
        constants = {t: c for t, c in self.constants.items() if t in read}
        tensors |= {v.tensor: v.spec for v in self.values.values() if v.node.name in constants}
        refs = [n.weights for n in nodes]
        used = {c for c in constants.values() if isinstance(c, str)}.union(
            *((r.weight, r.bias, *(r.norm or ())) for r in refs)
        )
        computed = {name: recipe for name, recipe in self.computed.items() if name in used}
        return KernelGraph(nodes, tensors, tuple(inputs), tuple(outputs), constants, computed)

    def _literal(self, node: Node) -> bool:
        """Compute a node that depends on nothing but literals; whether it was one. What is drawn at random is none."""
        value = node.meta.get("val")
        if all(
            isinstance(t, Tensor) and not t.numel() for t in (value if isinstance(value, tuple | list) else [value])
        ):
            # What holds nothing depends on nothing.
            if isinstance(value, Tensor):
                self.literals[node.name] = torch.zeros(value.shape, dtype=value.dtype)
            return True
        if not all(n.name in self.literals for n in node.all_input_nodes) or not isinstance(node.target, OpOverload):
            return False
        if torch.Tag.nondeterministic_seeded in node.target.tags:
            return False
        given, named = map_arg((node.args, node.kwargs), lambda n: self.literals[n.name])
        result = node.target(*given, **{k: v for k, v in named.items() if k != "pin_memory"})
        if not isinstance(result, Tensor):
            return False
        self.literals[node.name] = result.contiguous()
        self._keep_literal(node)
        return True

    def _keep_literal(self, node: Node) -> None:
        literal = self.literals[node.name]
        if literal.dtype == torch.float32:
            self.constants[node.name] = literal.contiguous().numpy()
            self.values[node] = Value(node, node, TensorSpec(tuple(literal.shape), "plain"))

    # -- reading arguments ----------------------------------------------------------------

    def value(self, node: Any, reader: Node) -> Value:
        """What ``node`` yields; a parameter that is an operand like any other becomes a constant of the program."""
        if isinstance(node, Node) and node not in self.values and node.name in self.literals:
            self._keep_literal(node)
        if isinstance(node, Node) and node not in self.values and node in self.recipes:
            self._compute(node, reader)
        if isinstance(node, Node) and node not in self.values and node.name in self.parameters:
            if node.meta["val"].dtype != torch.float32:
                raise unsupported(
                    reader, f"'{self.parameters[node.name]}' is not in float32", "convert it once and for all"
                )
            self.constants[node.name] = self.parameters[node.name]
            self.values[node] = Value(node, node, TensorSpec(static_shape(node), "plain"))
        if not isinstance(node, Node) or node not in self.values:
            raise unsupported(reader, f"its operand {node} is not a tensor", "pass a tensor of the network")
        return self.values[node]

    def _compute(self, node: Node, reader: Node) -> None:
        """A constant that is made of parameters: seen through a view where it is no more than that."""
        if is_view(node) and node.target in HANDLERS:
            HANDLERS[node.target](self, node)
            return
        if node.meta["val"].dtype != torch.float32:
            raise unsupported(reader, f"its operand {node} is not in float32", "compute it in float32")
        recipe = self.recipes.recipe(node, compact=True)
        self.computed[name := f"%{node.name}"] = recipe
        self.constants[node.name] = name
        value = Value(node, node, TensorSpec(recipe.shape, "plain"))
        # Sums and products read one value a channel beside an image; others see it everywhere.
        if not all(u.target in _ELEMENTWISE and shape_of(u) == shape_of(node) for u in node.users):
            value = as_seen(value, value.seen.expanded(static_shape(node)))
        self.values[node] = value

    def is_parameter(self, node: Any) -> bool:
        """A parameter or buffer as it is, not computed from one."""
        return isinstance(node, Node) and node.name in self.parameters

    def weights(self, reader: Node, weight: Any, bias: Any) -> WeightRef:
        return WeightRef(self.parameter(weight, reader), self.parameter(bias, reader))

    def parameter(self, node: Any, reader: Node) -> str:
        if node is None:
            return ""
        name = self.parameters.get(node.name, "") if isinstance(node, Node) else ""
        if node in self.recipes:
            self.computed[name := f"%{node.name}"] = self.recipes.recipe(node)
        if not name:
            raise unsupported(reader, f"its weight {node} is computed, not a parameter", "fold it into a parameter")
        return name

    def image(self, node: Any, reader: Node, *, plain: bool = False) -> Value:
        """The operand as an image in blocked layout (or as it is, where ``plain`` will do)."""
        value = self.value(node, reader)
        if len(value.shape) != 4:
            raise unsupported(reader, f"its operand {node} is not an image", "keep it (N, C, H, W)")
        return self.blocked(value, plain=plain)

    def blocked(self, value: Value, *, plain: bool = False) -> Value:
        """A value of four dimensions in blocked layout (or as it is, where ``plain`` will do)."""
        if value.spec.layout == "blocked" and value.view and (start := value.first_channel) is not None:
            return self._slice(value, start)
        if value.tensor in self.constants and value.seen.contiguous and not plain:
            return self._constant(value)
        if value.view or value.spec.layout == "plain":
            value = self._plain(value)
            value = value if plain else self._convert(value, "blocked")
        return value

    def operand(self, node: Any, reader: Node, rank: int) -> Value:
        """The operand; a constant of fewer dimensions than ``rank`` with those of size 1 that broadcasting adds."""
        value = self.value(node, reader)
        if value.tensor not in self.constants or len(value.shape) >= rank:
            return value
        return as_seen(value, value.seen.reshaped((1,) * (rank - len(value.shape)) + value.shape))

    def _constant(self, value: Value) -> Value:
        """A constant kept in blocked layout from the start."""
        name = f"{value.tensor}.{'x'.join(map(str, value.shape))}"
        found = next((v for n, v in self.values.items() if n.name == name), None)
        if found is None:
            node = Node(self.program.graph, name, "call_function", torch.ops.aten.clone.default, (), {})
            self.constants[name] = self.constants[value.tensor]
            found = self.values[node] = Value(node, node, TensorSpec(value.shape))
        return found

    def plain(self, node: Any, reader: Node) -> Value:
        """The operand in row-major order, its data in the shape in which it is seen."""
        return self._plain(self.value(node, reader))

    def _plain(self, value: Value) -> Value:
        value = self._row_major(value)
        if value.view is None:
            return value
        if value.view.contiguous:
            return replace(value, axis=value.node, spec=TensorSpec(value.view.shape, "plain"), view=None)
        return self.copied(value)

    def seen(self, node: Any, reader: Node) -> tuple[Value, View]:
        """The operand in row-major order, and how to find it there: for readers that can follow a walk."""
        value = self._row_major(self.value(node, reader))
        return value, value.seen

    def viewed(self, node: Any, reader: Node) -> tuple[Value, View]:
        """The operand as it is kept, and how it is seen: for operators that only look at it differently."""
        value = self.value(node, reader)
        return value, value.seen

    def _row_major(self, value: Value) -> Value:
        return self._convert(value, "plain") if value.spec.layout == "blocked" else value

    def _convert(self, value: Value, layout: str) -> Value:
        """Insert (or find) the kernel that changes the layout of an image."""
        spec = TensorSpec(value.spec.shape, layout)
        same = [d for d in self.drafts if d.op == "layout" and d.sources[0].tensor == value.tensor]
        for draft in same:
            if draft.spec == spec:
                return replace(value, spec=draft.spec, draft=draft)
        # Plain data may be seen as images of more than one shape; the first has the plain name.
        name = f"{value.tensor}.{layout}" + (f".{'x'.join(map(str, spec.shape))}" if same else "")
        draft = self._insert("layout", name, value, spec)
        return replace(value, spec=draft.spec, draft=draft)

    def copied(self, value: Value, *, name: str = "") -> Value:
        """Insert (or find) the kernel that brings what a view shows into row-major order.

        ``name`` tells this view from that of ``value.node``.
        """
        assert value.view is not None
        name = name or f"{value.node.name}.copy"
        draft = next((d for d in self.drafts if d.node.name == name), None)
        if draft is None:
            source = replace(value, spec=TensorSpec(value.view.base, "plain"))
            draft = self._insert("strided", name, source, TensorSpec(value.view.shape, "plain"))
            draft.attrs["walk0"] = value.view.walk.to_attr()
        # The same values may have been copied for a reader who saw dimensions of size 1 elsewhere.
        return Value(value.node, value.node, TensorSpec(value.view.shape, "plain"), draft)

    def _slice(self, value: Value, start: int) -> Value:
        """Insert (or find) the kernel that takes some channels of a blocked image."""
        name = f"{value.node.name}.channels"
        draft = next((d for d in self.drafts if d.node.name == name), None)
        if draft is None:
            draft = self._insert("channel_slice", name, replace(value, view=None), TensorSpec(value.shape))
            draft.attrs["start"] = start
        return Value(value.node, value.node, draft.spec, draft)

    def _insert(self, op: str, name: str, value: Value, spec: TensorSpec) -> Draft:
        """A kernel that no operator of the network asked for."""
        # It yields a value of its own; a detached fx node names it. The name has a dot: no other node's has.
        node = Node(self.program.graph, name, "call_function", torch.ops.aten.clone.default, (), {})
        order = value.draft.order if value.draft else -1
        draft = Draft(op, node, value.node, spec, [value], closed=True, order=order)
        if value.draft:
            value.draft.closed = True
        self.drafts.append(draft)
        return draft

    def between(self, node: Node, name: str) -> Node:
        """A node for a value on the way to ``node``'s."""
        # Detached, so that no other operator reads it; a dot, which no other node's name has.
        target = node.target if callable(node.target) else torch.ops.aten.clone.default
        inner = Node(self.program.graph, f"{node.name}.{name}", "call_function", target, (), {})
        inner.meta = dict(node.meta)
        return inner

    def rename(self, node: Node, inner: Node) -> None:
        """What ``node`` has yielded so far is ``inner``'s value."""
        value = self.values.pop(node)
        assert value.draft is not None
        value.draft.node = inner
        self.values[inner] = value.of(inner)

    # -- building drafts --------------------------------------------------------------------

    def open(self, op: str, node: Node, spec: TensorSpec, sources: Iterable[Value], **attrs: Attr) -> Draft:
        draft = Draft(op, node, node, spec, list(sources), attrs=attrs, order=self.order)
        self.drafts.append(draft)
        self.values[node] = Value(node, node, spec, draft)
        return draft

    def extend(self, value: Value, node: Node) -> Draft | None:
        """The draft behind ``value`` if ``node`` may join its epilogue."""
        draft = value.draft
        if draft is None or draft.closed or draft.node is not value.node or not OPERATORS[draft.op].fuses:
            return None
        whole = value.view is None or value.view == View.whole(value.shape)
        return draft if len(value.node.users) == 1 and whole else None

    def grow(self, draft: Draft, node: Node, *steps: str) -> None:
        """``node`` is the draft's result after ``steps``, seen as its operand was."""
        before = self.values[draft.node]
        draft.epilogue.extend(steps)
        draft.node = node
        self.values[node] = Value(node, node if before.view is None else before.axis, draft.spec, draft, before.view)

    def alias(self, node: Node, source: Value) -> None:
        """``node`` is the same as ``source``; later operators may still join where it is the only reader."""
        draft = source.draft
        if draft and not draft.closed and draft.node is source.node:
            if source.view or len(source.node.users) != 1:
                draft.closed = True
            else:
                draft.node = node
        self.values[node] = replace(source.of(node), axis=source.axis if source.view else node)

    def show(self, node: Node, source: Value, view: View) -> None:
        """``node`` is the data of ``source``, seen in another way."""
        if source.draft:
            source.draft.closed = True
        self.values[node] = as_seen(source.of(node), view)

    # -- finishing ----------------------------------------------------------------------------

    def _output(self, node: Node) -> Port:
        value = self.plain(node, node)
        if value.draft is None and value.tensor in self.constants:
            name = self.constants[value.tensor]
            which = f"'{name}', a parameter or buffer of its own" if isinstance(name, str) else "a constant"
            raise unsupported(
                node, f"the network returns {which}", "take what never changes from the module, not from a board"
            )
        if value.draft is None:
            raise unsupported(node, "the network returns its own input", "return something it computes")
        return Port(node.name, static_shape(node), value.tensor)

    def _nodes(self, drafts: list[Draft]) -> Iterable[KernelNode]:
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
            source = draft.sources[0]
            bound = {"out": source.axis if draft.op == "layout" else draft.anchor}
            if "in" in spec.widths:
                bound["in"] = source.axis
            axes = {name: self._binding(of, spec.widths[name], features=draft.features) for name, of in bound.items()}
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

    def _binding(self, node: Node, width: int, *, features: bool) -> AxisBinding:
        """How dimension 1 (or the last) of ``node`` is made up.

        A kernel on the way to ``node`` may have other dimensions; what does not add up to its ``width`` stays.
        """
        known = (self.analysis.features if features else self.analysis.axes).get(node.name)
        if known and known.base + sum(self.sizes[g] for g in known.groups) == width:
            return known
        return AxisBinding((), base=width)


def static_shape(node: Node) -> tuple[int, ...]:
    shape = shape_of(node)
    if shape is None:
        raise unsupported(node, "it yields no tensor", "take the tensor out of the tuple in the network")
    return shape


def unsupported(node: Node, why: str, hint: str) -> UnsupportedOperatorError:
    return UnsupportedOperatorError(
        f"{describe(node)} cannot be compiled: {why}",
        hint=hint,
        node=node.name,
        operator=str(node.target),
        module=module_path(node),
        source=source_line(node),
    )


def argument(node: Node, index: int, name: str, default: Any = None) -> Any:
    return node.args[index] if len(node.args) > index else node.kwargs.get(name, default)


def as_picture(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(N, C, H, W) as it is, (N, C, L) as an image of one row, (N, C) as one of a single pixel; of (N, C, D, H, W) the
    rows of all slices one behind the other."""
    if len(shape) == 5:
        return (*shape[:2], shape[2] * shape[3], shape[4])
    return (*shape[:2], 1, *shape[2:], 1)[:4] if len(shape) in (2, 3) else shape


def picture(cutter: Cutter, node: Node, *, plain: bool = False) -> Value:
    """The first operand of ``node`` as a blocked image, or as it is where ``plain`` will do, by :func:`as_picture`."""
    value = cutter.value(node.args[0], node)
    if len(value.shape) not in (2, 3, 5):
        return cutter.image(node.args[0], node, plain=plain)
    shape = as_picture(value.shape)
    if (view := value.seen.reshaped(shape)) is None:  # slices that do not lie one behind the other
        value, view = cutter.plain(node.args[0], node), View.whole(shape)
    return cutter.blocked(as_seen(value, view), plain=plain)


def images(values: Sequence[Value]) -> bool:
    """Whether they are best seen as images: blocked already, or the caller's own, which are no other's business."""
    return all(
        len(v.shape) == 4
        and ((v.first_channel is not None and (v.spec.layout == "blocked" or v.draft is None)) or _is_constant(v))
        for v in values
    )


def _is_constant(value: Value) -> bool:
    """Kept in the order in which it is seen, and computed by nothing."""
    return value.draft is None and value.seen.contiguous


def as_seen(value: Value, view: View | None) -> Value:
    """The same data, seen through ``view``."""
    assert view is not None  # only dimensions of size 1 have come or gone
    return replace(value, view=None if view == View.whole(value.spec.shape) else view)


def data(value: Value, view: View) -> Value:
    """The data behind a view, in the dimensions that its walk speaks of."""
    return replace(value, spec=TensorSpec(view.base, "plain"), view=None)
