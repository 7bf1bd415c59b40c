"""ONNX to torch: a module with real layers and named parameters, so that it trains, prunes and exports.

Each node is read by the function of its operator (:mod:`edgeprune.models.onnx.ops`), which writes calls and layers into
one fx graph. Whatever depends on constants and shapes alone is computed at import.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto
from torch import nn

from edgeprune.errors import ModelLoadError, UnsupportedOperatorError
from edgeprune.models.interface import Interface, type_name
from edgeprune.models.onnx.build import Builder, TooLarge
from edgeprune.models.onnx.checks import check_types
from edgeprune.models.onnx.control import Flow
from edgeprune.models.onnx.file import MAX_ELEMENTS, open_onnx
from edgeprune.models.onnx.functions import inlined
from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.ops.families import operators, reader
from edgeprune.models.onnx.simplify import simplify
from edgeprune.models.onnx.table import Outputs
from edgeprune.models.onnx.types import HELD, OWN, held, named
from edgeprune.models.onnx.values import Unsupported, Value, Values
from edgeprune.models.onnx.weights import read_sparse, read_tensor

OPSETS = range(1, 29)
_DOMAINS = {"ai.onnx": ""}
_FITS = (
    RuntimeError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    NotImplementedError,
    AssertionError,
    OverflowError,
    ZeroDivisionError,
    AttributeError,
)
"""What torch raises of arguments that do not fit each other."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a network: its name in the file, its element type of ONNX, its shape."""

    name: str
    kind: int
    shape: tuple[int, ...]

    @property
    def type_name(self) -> str:
        """What a program takes or gives: the port's own type, or what holds it where C has none."""
        return OWN.get(self.kind) or type_name(self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """What the module takes or gives."""
        return HELD[self.kind]


@dataclass(frozen=True, slots=True)
class OnnxNetwork:
    """What an ONNX file holds, as a module in evaluation mode.

    Attributes:
        inputs: in the order of the module's arguments.
        outputs: in the order of its results; one output is no tuple.
        parameter_names: path of a parameter or buffer -> its name in the file.
    """

    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    parameter_names: Mapping[str, str]

    @property
    def interface(self) -> Interface:
        """The types of the file's inputs and outputs."""
        return Interface(tuple(p.type_name for p in self.inputs), tuple(p.type_name for p in self.outputs))


def load_onnx(
    file: Path,
    shapes: Mapping[str, Sequence[int]] | Sequence[int] | None = None,
    fixed: Mapping[str, np.ndarray] | None = None,
) -> OnnxNetwork:
    """The network of an ONNX file.

    Args:
        shapes: of inputs by name, where the file leaves dimensions open; of the only input, where there is one. An open
            batch alone counts as 1.
        fixed: values of inputs that shall be constants: a sequence's length, a shape.

    Raises:
        ModelLoadError: a file that is refused (:func:`open_onnx`), or open dimensions.
        UnsupportedOperatorError: names node, operator, domain and opset.
    """
    model, weights = open_onnx(file)
    source = str(file)
    if model.functions:
        model = inlined(model, source)
    versions = {_DOMAINS.get(o.domain, o.domain): o.version for o in model.opset_import}
    opset = versions.get("", OPSETS.stop - 1)
    if opset not in OPSETS:
        raise ModelLoadError(
            f"{source} uses opset {opset}; edgeprune reads {OPSETS.start} to {OPSETS.stop - 1}",
            hint="convert it with onnx.version_converter",
            file=source,
            opset=opset,
        )
    return _Reader(source, model.graph, weights, versions, shapes, dict(fixed or {})).run()


@dataclass
class _Reader:
    source: str
    graph: GraphProto
    weights: list[TensorProto]
    versions: Mapping[str, int]
    shapes: Mapping[str, Sequence[int]] | Sequence[int] | None
    fixed: Mapping[str, np.ndarray]
    build: Builder = field(init=False)
    ports: list[Port] = field(default_factory=list)
    kept: dict[int, tuple[TensorProto, Value]] = field(default_factory=dict)
    reads: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.build = Builder(sum(t.ByteSize() for t in self.weights))

    def run(self) -> OnnxNetwork:
        scope: dict[str, Values] = {}
        given = {t.name for t in self.weights}
        inputs = [i for i in self.graph.input if i.name not in given]
        self._check_names([i.name for i in inputs])
        read = _names_read(self.graph)
        for info in inputs:
            scope[info.name] = self._input(info, only=len(inputs) == 1)
        while self.weights:  # each leaves once it is read
            tensor = self.weights.pop()
            scope[tensor.name] = read_tensor(tensor, self.source)
            del tensor
        self.reads = Counter(n for node in self.graph.node for n in node.input) + Counter(_inner_reads(self.graph))
        self.reads.update(o.name for o in self.graph.output)
        try:
            self.run_graph(self.graph, scope, read, top=True)
        except TooLarge as error:  # of the graph itself: those of a node name it
            raise self._too_large(str(error)) from error
        outputs = [self._output(o.name, scope) for o in self.graph.output]
        module = self.build.finish(outputs)
        moved = simplify(module)
        held_names = module.state_dict(keep_vars=True).keys()
        names = {path: name for path, name in self.build.parameter_names.items() if path in held_names}
        names |= {moved[path]: name for path, name in self.build.parameter_names.items() if path in moved}
        declared = {o.name: o.type.tensor_type.elem_type for o in self.graph.output}
        ports = tuple(
            Port(o.name, declared[o.name] or v.kind, v.shape) for o, v in zip(self.graph.output, outputs, strict=True)
        )
        return OnnxNetwork(module, tuple(self.ports), ports, names)

    # Inputs and outputs

    def _check_names(self, inputs: Sequence[str]) -> None:
        named_shapes = self.shapes if isinstance(self.shapes, Mapping) else {}
        if unknown := sorted({*named_shapes, *self.fixed} - {*inputs}):
            raise ModelLoadError(
                f"{self.source} has no input {unknown[0]!r}; its inputs are {', '.join(map(repr, inputs))}",
                file=self.source,
                inputs=list(inputs),
            )

    def _input(self, info: ValueInfoProto, *, only: bool) -> Value:
        kind = info.type.tensor_type.elem_type
        if info.type.WhichOneof("value") != "tensor_type" or kind not in HELD:
            known = info.type.WhichOneof("value") == "tensor_type" and kind in TensorProto.DataType.values()
            what = named(kind) if known else "no tensor of a type that exists"
            raise ModelLoadError(
                f"{self.source}: input {info.name!r} is {what}, which a board's program does not take",
                hint="cut the network behind what reads it",
                file=self.source,
                input=info.name,
            )
        if info.name in self.fixed:
            return self._fixed(info, kind)
        shape = self._shape_of(info, only=only)
        self.ports.append(Port(info.name, kind, shape))
        return self.build.input(info.name, shape, kind)

    def _fixed(self, info: ValueInfoProto, kind: int) -> Value:
        array = self.fixed[info.name]
        dims = info.type.tensor_type.shape.dim
        wrong = info.type.tensor_type.HasField("shape") and (
            len(dims) != array.ndim
            or any(d.HasField("dim_value") and d.dim_value != s for d, s in zip(dims, array.shape, strict=False))
        )
        if wrong:
            raise ModelLoadError(
                f"{self.source}: input {info.name!r} has the shape {_dims(info)}, the value for it {list(array.shape)}",
                file=self.source,
                input=info.name,
            )
        return Value(kind, held(np.asarray(array), kind))

    def _shape_of(self, info: ValueInfoProto, *, only: bool) -> tuple[int, ...]:
        kind = info.type.tensor_type
        stated = kind.HasField("shape")
        declared = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim]
        given: Sequence[int] | None = None
        if isinstance(self.shapes, Mapping):
            given = self.shapes.get(info.name)
        elif only:
            given = self.shapes
        if given is not None:
            fits = len(given) == len(declared) and all(d in (None, g) for g, d in zip(given, declared, strict=True))
            if stated and not fits:
                raise ModelLoadError(
                    f"{self.source}: input {info.name!r} has the shape {_dims(info)}, not {list(given)}",
                    file=self.source,
                    input=info.name,
                )
            declared, stated = list(given), True
        if len(declared) > 1 and declared[0] is None:
            declared[0] = 1
        shape = tuple(d for d in declared if d is not None)
        if not stated or len(shape) != len(declared):
            raise ModelLoadError(
                f"{self.source}: input {info.name!r} has the open shape {_dims(info) if stated else 'of any rank'}",
                hint=f"give the shape it will run with: --input-shape {'' if only else info.name + '='}1x3x224x224",
                file=self.source,
                input=info.name,
            )
        if math.prod(shape) > MAX_ELEMENTS:
            raise self._too_large(f"input {info.name!r} has the shape {list(shape)}, more than {MAX_ELEMENTS} elements")
        return shape

    def _output(self, name: str, scope: Mapping[str, Values]) -> Value:
        value = scope.get(name)
        if value is None:
            raise ModelLoadError(f"{self.source}: nothing computes the output {name!r}", file=self.source)
        if isinstance(value, tuple):
            raise ModelLoadError(
                f"{self.source}: output {name!r} is a sequence of tensors",
                hint="give each tensor a name of its own",
                file=self.source,
            )
        return value

    # Nodes

    def run_graph(
        self, graph: GraphProto, scope: dict[str, Values], read: frozenset[str], *, top: bool = False
    ) -> None:
        """Read the nodes of a graph, or of a branch or a loop's body, into ``scope``."""
        self.build.expect_nodes(len(graph.node))
        for tensor in graph.initializer:
            scope[tensor.name] = self._initializer(tensor)
        for sparse in graph.sparse_initializer:
            scope[sparse.values.name] = read_sparse(sparse, self.source)
        for i, node in enumerate(graph.node):
            self._add(node, node.name or f"{node.op_type}_{i}", scope, read)
            if top:
                self._forget(node, scope)

    def _forget(self, node: NodeProto, scope: dict[str, Values]) -> None:
        """Drop what nothing reads any more: a weight that a layer keeps turned round takes memory once."""
        for name in node.input:
            self.reads[name] -= 1
            if name and not self.reads[name]:
                scope.pop(name, None)

    def _add(self, proto: NodeProto, label: str, scope: dict[str, Values], read: frozenset[str]) -> None:
        domain = _DOMAINS.get(proto.domain, proto.domain)
        missing = [n for n in proto.input if n and n not in scope]
        if missing:
            raise ModelLoadError(f"{self.source}: node {label!r} reads {missing}, which nothing computes", node=label)
        inputs = [scope[n] if n else None for n in proto.input]
        wanted = [bool(n) and n in read for n in proto.output]
        node = OnnxNode(self.build, proto, label, inputs, self.versions.get(domain, OPSETS.stop - 1), wanted)
        try:
            self.build.spend_node()
            check_types(proto, domain, node.opset, inputs)
            outputs = self._outputs(node, proto, domain, scope, read)
        except Unsupported as error:
            value = None if error.needs is None else inputs[error.needs]
            behind = self.build.inputs_behind(value) if isinstance(value, Value) else []
            raise self._unsupported(proto, label, str(error), [self.ports[i].name for i in behind]) from error
        except TooLarge as error:
            raise self._too_large(f"node {label!r}: {error}", label) from error
        except _FITS as error:
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelLoadError(
                f"{self.source}: node {label!r} ({proto.op_type}) does not fit its inputs: {text}",
                file=self.source,
                node=label,
                operator=proto.op_type,
            ) from error
        for i, name in enumerate(proto.output):
            value = outputs[i] if i < len(outputs) else None
            if value is not None:
                scope[name] = value
            elif wanted[i]:
                raise self._unsupported(proto, label, f"its output {i}, {name!r}, is read and not computed here")

    def _outputs(
        self, node: OnnxNode, proto: NodeProto, domain: str, scope: Mapping[str, Values], read: frozenset[str]
    ) -> Outputs:
        flow = Flow(self, proto, scope, read) if domain == "" else None
        found = flow.reader() if flow else None
        function = found or reader(proto.op_type, domain)
        if function is None:
            raise Unsupported(
                f"it is not among the {len(operators(domain))} operators of this domain that are read"
                if operators(domain)
                else "nobody here knows this domain"
            )
        result = function(node)
        if unread := node.unread():
            raise Unsupported(unread)
        return result if isinstance(result, Outputs) else Outputs((result,))

    def _initializer(self, tensor: TensorProto) -> Value:
        # The body of a loop is read more than once, and its tensors are one parameter each.
        if id(tensor) not in self.kept:
            self.kept[id(tensor)] = tensor, read_tensor(tensor, self.source)
        return self.kept[id(tensor)][1]

    def _too_large(self, what: str, label: str | None = None) -> ModelLoadError:
        return ModelLoadError(
            f"{self.source}: {what}",
            hint="check the input shape and the pads, scales and loops of the network",
            file=self.source,
            **({} if label is None else {"node": label}),
        )

    def _unsupported(
        self, node: NodeProto, label: str, why: str, needs: Sequence[str] = ()
    ) -> UnsupportedOperatorError:
        domain = node.domain or "ai.onnx"
        opset = self.versions.get(_DOMAINS.get(node.domain, node.domain))
        return UnsupportedOperatorError(
            f"{self.source}: node {label!r}: {node.op_type} of {domain} opset {opset} is not supported: {why}",
            hint=f"it depends on {', '.join(map(repr, needs))}: if that always has one value, give --example FILE.npz"
            if needs
            else "rewrite the node with supported operators (onnxsim and ONNX Runtime's offline optimiser often can), "
            "or load the network from torch",
            file=self.source,
            node=label,
            operator=node.op_type,
            domain=domain,
            opset=opset,
            needs=list(needs),
        )


def _inner_reads(graph: GraphProto) -> Iterable[str]:
    """What branches and loops read, who may run after any node."""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _names_read(inner)


def _names_read(graph: GraphProto) -> frozenset[str]:
    """Every name that a node, a branch or an output reads."""

    def names(graph: GraphProto) -> Iterable[str]:
        yield from (o.name for o in graph.output)
        for node in graph.node:
            yield from node.input
            for attribute in node.attribute:
                for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                    yield from names(inner)

    return frozenset(names(graph))


def _dims(info: ValueInfoProto) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim]
