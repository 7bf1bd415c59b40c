"""ONNX to torch: a module with real layers and named parameters, so that it trains, prunes and exports.

Each node becomes one layer (:mod:`edgeprune.models.onnx_layers`); arithmetic on shapes and constants is done
once, at import. Shapes are followed node by node with fake tensors, so a network that claims absurd sizes is
refused before any memory is taken for them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from edgeprune.errors import ModelLoadError, UnsupportedOperatorError
from edgeprune.models.onnx_file import MAX_ELEMENTS, read_onnx
from edgeprune.models.onnx_layers import DATA_INPUTS, LAYERS, OnnxNode, Unsupported
from edgeprune.models.onnx_rewrite import Step, simplify

_FOLDED = frozenset(
    {
        "Shape",
        "Gather",
        "Slice",
        "Concat",
        "Squeeze",
        "Unsqueeze",
        "Cast",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Identity",
        "Reshape",
    }
)
_FOLDED_ELEMENTS = 4096
_OPSETS = range(7, 27)


class OnnxModule(nn.Module):
    """Runs layers in the order of the graph."""

    def __init__(
        self,
        layers: dict[str, nn.Module],
        constants: dict[str, Tensor],
        steps: Sequence[Step],
        inputs: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.steps, self.inputs, self.outputs = tuple(steps), tuple(inputs), tuple(outputs)
        self.constants: dict[str, str] = {}
        for i, (name, value) in enumerate(constants.items()):
            self.constants[name] = f"constant_{i}"
            self.register_buffer(f"constant_{i}", value)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        values = dict(zip(self.inputs, inputs, strict=True))
        for name, buffer in self.constants.items():
            values[name] = getattr(self, buffer)
        for layer, sources, result in self.steps:
            values[result] = self.layers[layer](*[values[s] for s in sources])
        results = tuple(values[o] for o in self.outputs)
        return results[0] if len(results) == 1 else results


def load_onnx(file: Path, input_shape: tuple[int, ...] | None = None) -> tuple[nn.Module, list[tuple[int, ...]]]:
    """The network of an ONNX file in ``eval`` mode, and the shapes of its inputs.

    Args:
        input_shape: of the (only) input, where the file leaves dimensions open. An open batch alone counts as 1.

    Raises:
        ModelLoadError: a file that is refused (:func:`read_onnx`), or open dimensions.
        UnsupportedOperatorError: names node, operator, domain and opset.
    """
    model = read_onnx(file)
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    if opset not in _OPSETS:
        raise ModelLoadError(
            f"{file} uses opset {opset}; edgeprune reads {_OPSETS.start} to {_OPSETS.stop - 1}",
            hint="convert it with onnx.version_converter",
            file=str(file),
            opset=opset,
        )
    return _Importer(file, model.graph, opset, input_shape).run()


@dataclass
class _Importer:
    file: Path
    graph: GraphProto
    opset: int
    input_shape: tuple[int, ...] | None
    layers: dict[str, nn.Module] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    constants: dict[str, Tensor] = field(default_factory=dict)
    fakes: dict[str, Tensor] = field(default_factory=dict)
    fake_mode: FakeTensorMode = field(default_factory=lambda: FakeTensorMode(allow_non_fake_inputs=True))

    def run(self) -> tuple[nn.Module, list[tuple[int, ...]]]:
        for tensor in self.graph.initializer:
            self.constants[tensor.name] = _tensor(tensor)
        inputs = [i for i in self.graph.input if i.name not in self.constants]
        shapes = [self._shape_of(i, only=len(inputs) == 1) for i in inputs]
        with self.fake_mode:
            for info, shape in zip(inputs, shapes, strict=True):
                self.fakes[info.name] = torch.empty(shape)
        for i, node in enumerate(self.graph.node):
            self._add(node, i)
        outputs = [o.name for o in self.graph.output]
        if lost := [o for o in outputs if o not in self.fakes and o not in self.constants]:
            raise ModelLoadError(f"{self.file}: nothing computes the outputs {lost}", file=str(self.file))
        self.steps = simplify(self.steps, self.layers, self.constants, outputs)
        used = {s for _, sources, _ in self.steps for s in sources} | set(outputs)
        constants = {n: v for n, v in self.constants.items() if n in used}
        names = [i.name for i in inputs]
        return OnnxModule(self.layers, constants, self.steps, names, outputs).eval(), shapes

    def _shape_of(self, info: ValueInfoProto, *, only: bool) -> tuple[int, ...]:
        kind = info.type.tensor_type
        if kind.elem_type != TensorProto.FLOAT:
            raise ModelLoadError(
                f"{self.file}: input {info.name!r} is {TensorProto.DataType.Name(kind.elem_type)}, not FLOAT",
                hint="export the float32 network, without preprocessing or quantisation",
                file=str(self.file),
                input=info.name,
            )
        declared = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim]
        if self.input_shape is not None and only:
            given = self.input_shape
            if len(given) != len(declared) or any(d not in (None, g) for g, d in zip(given, declared, strict=True)):
                raise ModelLoadError(
                    f"{self.file}: input {info.name!r} has the shape {_dims(info)}, not {list(given)}",
                    file=str(self.file),
                    input=info.name,
                )
            declared = list(given)
        if declared and declared[0] is None:
            declared[0] = 1
        shape = tuple(d for d in declared if d is not None)
        if not declared or len(shape) != len(declared):
            raise ModelLoadError(
                f"{self.file}: input {info.name!r} has the open shape {_dims(info)}",
                hint="give the shape it will run with: --input-shape 1,3,224,224",
                file=str(self.file),
                input=info.name,
            )
        self._check_size(shape, f"input {info.name!r}")
        return shape

    def _add(self, node: NodeProto, index: int) -> None:
        label = node.name or f"{node.op_type}_{index}"
        if node.domain not in ("", "ai.onnx"):
            raise self._unsupported(node, label, "its domain is not ONNX's own")
        if node.op_type == "Constant":
            self.constants[node.output[0]] = self._constant(node, label)
            return
        missing = [n for n in node.input if n and n not in self.fakes and n not in self.constants]
        if missing:
            raise ModelLoadError(f"{self.file}: node {label!r} reads {missing}, which nothing computes", node=label)
        if self._fold(node):
            return
        if node.op_type not in LAYERS:
            raise self._unsupported(node, label, f"the operators are: {', '.join(LAYERS)}")
        if len([o for o in node.output if o]) > 1:
            raise self._unsupported(node, label, "it has more than one output")
        try:
            layer = LAYERS[node.op_type](self._seen(node)).eval()
        except Unsupported as error:
            raise self._unsupported(node, label, str(error)) from error
        except (KeyError, ValueError, TypeError, RuntimeError, IndexError) as error:
            raise ModelLoadError(
                f"{self.file}: node {label!r} ({node.op_type}) does not check: {error}", node=label
            ) from error
        count = len(node.input) if node.op_type == "Concat" else DATA_INPUTS.get(node.op_type, 1)
        sources = tuple(node.input[:count])
        with self.fake_mode:
            try:
                result = layer(*[self.fakes[s] if s in self.fakes else self.constants[s] for s in sources])
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                raise ModelLoadError(
                    f"{self.file}: node {label!r} ({node.op_type}) does not fit its inputs: {error}", node=label
                ) from error
        self._check_size(tuple(result.shape), f"node {label!r}")
        self.fakes[node.output[0]] = result
        name = _layer_name(label, self.layers)
        self.layers[name] = layer
        self.steps.append((name, sources, node.output[0]))

    def _seen(self, node: NodeProto) -> OnnxNode:
        attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        return OnnxNode(
            attrs={k: v.decode() if isinstance(v, bytes) else v for k, v in attrs.items()},
            constants=tuple(self.constants.get(n) for n in node.input),
            shapes=tuple(self._shape(n) for n in node.input),
            opset=self.opset,
        )

    def _shape(self, name: str) -> tuple[int, ...] | None:
        value = self.fakes.get(name, self.constants.get(name))
        return None if value is None else tuple(value.shape)

    def _constant(self, node: NodeProto, label: str) -> Tensor:
        for attribute in node.attribute:
            value = helper.get_attribute_value(attribute)
            if attribute.name == "value":
                return _tensor(value)
            if attribute.name in ("value_float", "value_floats"):
                return torch.tensor(value, dtype=torch.float32)
            if attribute.name in ("value_int", "value_ints"):
                return torch.tensor(value, dtype=torch.int64)
        raise self._unsupported(node, label, "its value is neither a tensor nor numbers")

    def _fold(self, node: NodeProto) -> bool:
        """Compute a small node that depends on constants and shapes alone."""
        if node.op_type not in _FOLDED or len(node.output) != 1:
            return False
        sources = [n for n in node.input if n]
        values: dict[str, Any]
        if node.op_type == "Shape":
            shape = self._shape(sources[0])
            assert shape is not None
            # The operator looks at the shape alone: a tensor without memory stands in for the real one.
            values = {sources[0]: np.broadcast_to(np.float32(0), shape)}
        elif all(n in self.constants and self.constants[n].numel() <= _FOLDED_ELEMENTS for n in sources):
            values = {n: self.constants[n].numpy() for n in sources}
        else:
            return False
        try:
            model = helper.make_model(
                helper.make_graph(
                    [node],
                    "fold",
                    [
                        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
                        for n, v in values.items()
                    ],
                    [helper.make_empty_tensor_value_info(node.output[0])],
                ),
                opset_imports=[helper.make_opsetid("", self.opset)],
            )
            (result,) = ReferenceEvaluator(model).run(None, values)
            value = torch.from_numpy(np.array(result))
        except Exception:  # whatever the evaluator cannot do is left to the layer table, which says so clearly
            return False
        self.constants[node.output[0]] = value
        return True

    def _check_size(self, shape: tuple[int, ...], where: str) -> None:
        if np.prod(shape, dtype=object) > MAX_ELEMENTS:
            raise ModelLoadError(
                f"{self.file}: {where} has the shape {list(shape)}, more than {MAX_ELEMENTS} elements",
                hint="check the input shape and the pads and scales of the network",
                file=str(self.file),
            )

    def _unsupported(self, node: NodeProto, label: str, why: str) -> UnsupportedOperatorError:
        domain = node.domain or "ai.onnx"
        return UnsupportedOperatorError(
            f"{self.file}: node {label!r}: {node.op_type} of {domain} opset {self.opset} is not supported: {why}",
            hint="rewrite the node with supported operators (onnxsim and ONNX Runtime's offline optimiser often can), "
            "or load the network from torch",
            file=str(self.file),
            node=label,
            operator=node.op_type,
            domain=domain,
            opset=self.opset,
        )


def _tensor(proto: TensorProto) -> Tensor:
    return torch.from_numpy(np.array(numpy_helper.to_array(proto)))


def _dims(info: ValueInfoProto) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim]


def _layer_name(label: str, taken: dict[str, nn.Module]) -> str:
    name = re.sub(r"\W+", "_", label).strip("_") or "node"
    if hasattr(nn.ModuleDict, name):
        name += "_layer"
    while name in taken:
        name += "_"
    return name
