"""A node as the functions see it that read it.

It keeps account: an attribute or an input that nobody asked for is one that nobody knows, and the node is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import onnx
import torch
from onnx import NodeProto, helper
from torch import Tensor, nn

from edgeprune.models.onnx.build import Builder
from edgeprune.models.onnx.names import layer_parts
from edgeprune.models.onnx.values import Unsupported, Value, Values

_REQUIRED: Any = object()


class OnnxNode:
    """One node: its inputs as values, its attributes as Python values, and the module that is being written.

    Attributes:
        opset: version of the node's domain.
        wanted: for each output, whether anything reads it.
    """

    def __init__(
        self,
        build: Builder,
        proto: NodeProto,
        label: str,
        inputs: Sequence[Values | None],
        opset: int,
        wanted: Sequence[bool],
    ) -> None:
        self.build, self.label, self.operator, self.domain = build, label, proto.op_type, proto.domain
        self.opset, self.wanted = opset, tuple(wanted)
        self._inputs = tuple(inputs)
        self._attributes = {a.name: a for a in proto.attribute}
        self._seen: set[str] = set()
        self._assumed: dict[str, Any] = {}
        self._read: set[int] = set()

    # Inputs

    def __len__(self) -> int:
        """How many inputs are given, absent ones among them."""
        return len(self._inputs)

    def __getitem__(self, i: int) -> Value:
        """Input ``i``, which has to be there."""
        value = self.get(i)
        if value is None:
            raise Unsupported(f"its input {i} is missing")
        return value

    def get(self, i: int) -> Value | None:
        """Input ``i``; None for an absent one."""
        self._read.add(i)
        value = self._inputs[i] if i < len(self._inputs) else None
        if isinstance(value, tuple):
            raise Unsupported(f"its input {i} is a sequence of tensors")
        return value

    def sequence(self, i: int) -> tuple[Value, ...]:
        """Input ``i``, a sequence of tensors."""
        self._read.add(i)
        value = self._inputs[i] if i < len(self._inputs) else None
        if not isinstance(value, tuple):
            raise Unsupported(f"its input {i} is no sequence of tensors")
        return value

    def all(self) -> list[Value]:
        """Every input, of an operator that takes any number."""
        return [self[i] for i in range(len(self))]

    def known(self, i: int, what: str) -> Tensor:
        """The constant that input ``i`` is."""
        value = self[i]
        if not value.known:
            raise Unsupported(f"its {what} is computed, not constant", needs=i)
        return value.tensor

    def maybe_known(self, i: int, what: str) -> Tensor | None:
        """As :meth:`known`; None for an absent input."""
        return None if self.get(i) is None else self.known(i, what)

    def ints(self, attribute: str, i: int, what: str | None = None) -> list[int] | None:
        """A list that older versions of an operator keep in an attribute, newer ones in input ``i``; None: neither."""
        if self.given(attribute):
            return [int(v) for v in self.attr(attribute)]
        tensor = self.maybe_known(i, what or attribute)
        return None if tensor is None else [int(v) for v in tensor.flatten()]

    def number(self, i: int, what: str) -> int | float | bool | None:
        """The one number that the constant input ``i`` is; None for an absent one."""
        tensor = self.maybe_known(i, what)
        if tensor is None:
            return None
        if tensor.numel() != 1:
            raise Unsupported(f"its {what} has the shape {list(tensor.shape)}, and is no single number")
        number: int | float | bool = tensor.item()
        return number

    def shape(self, i: int = 0) -> tuple[int, ...]:
        return self[i].shape

    def rank(self, i: int = 0) -> int:
        return self[i].rank

    def axis(self, name: str = "axis", i: int = 0, default: Any = _REQUIRED) -> int:
        """An attribute that names an axis of input ``i``, counted from the front."""
        return self.place(self.attr(name, default), self.rank(i))

    def place(self, axis: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= axis < max(rank, 1):
            raise Unsupported(f"it names axis {axis} of {rank}")
        return axis % max(rank, 1)

    # Attributes

    def given(self, name: str) -> bool:
        return name in self._attributes

    def attr(self, name: str, default: Any = _REQUIRED) -> Any:
        """An attribute as a Python value; where it is not given, ``default``, or what the standard says."""
        self._seen.add(name)
        if name in self._attributes:
            value = helper.get_attribute_value(self._attributes[name])
            return value.decode() if isinstance(value, bytes) else value
        if name in self._assumed:
            return self._assumed[name]
        if default is not _REQUIRED:
            return default
        found = _defaults(self.operator, self.domain, self.opset)
        if name not in found:
            raise Unsupported(f"its attribute {name!r} is missing")
        return found[name]

    def assume(self, **values: Any) -> None:
        """What attributes are that are not given, for an operator that the standard does not describe."""
        self._assumed.update(values)

    def ignore(self, *names: str) -> None:
        """Attributes that change nothing here."""
        self._seen.update(names)

    def ignore_inputs(self, *places: int) -> None:
        """Inputs that change nothing here."""
        self._read.update(places)

    def unread(self) -> str:
        """What nobody asked for, in words; empty if all was."""
        attributes = sorted(self._attributes.keys() - self._seen)
        inputs = [i for i, v in enumerate(self._inputs) if v is not None and i not in self._read]
        return "; ".join(
            [f"its attribute {name!r} is not known here" for name in attributes]
            + [f"its input {i} is not known here" for i in inputs]
        )

    # What it becomes

    def call(self, function: Callable[..., Any] | str, *args: Any, kind: int | None = None, **kwargs: Any) -> Value:
        """As :meth:`Builder.call`, of a function that returns one tensor."""
        (value,) = self.build.call(function, *args, kind=kind, **kwargs)
        return value

    def calls(
        self, function: Callable[..., Any] | str, *args: Any, kind: int | None = None, **kwargs: Any
    ) -> tuple[Value, ...]:
        """As :meth:`Builder.call`, of a function that returns several."""
        return self.build.call(function, *args, kind=kind, **kwargs)

    def layer(self, layer: nn.Module, *args: Any, kind: int | None = None, **tensors: Value | None) -> Value:
        """As :meth:`Builder.layer`, at a path named by the weight or the node; of a layer that returns one tensor."""
        (value,) = self.layers(layer, *args, kind=kind, **tensors)
        return value

    def layers(
        self, layer: nn.Module, *args: Any, kind: int | None = None, **tensors: Value | None
    ) -> tuple[Value, ...]:
        """As :meth:`layer`, of one that returns several, in one level of tuples."""
        given = {name: value for name, value in tensors.items() if value is not None}
        weight = next((v.name for v in given.values() if v.name), "")
        steps = layer_parts(self.label, self.operator, weight)
        return self.build.layer(steps, layer, *args, tensors=given, kind=kind)

    def constant(self, tensor: Tensor | Sequence[Any] | float, kind: int, dtype: torch.dtype | None = None) -> Value:
        """A constant of this node's own."""
        return Value(kind, tensor if isinstance(tensor, Tensor) else torch.tensor(tensor, dtype=dtype))


@cache
def _defaults(operator: str, domain: str, opset: int) -> Mapping[str, Any]:
    """What the standard says of attributes that are not given."""
    try:
        schema = onnx.defs.get_schema(operator, opset, domain)
    except onnx.defs.SchemaError:
        return {}
    found = {}
    for name, attribute in schema.attributes.items():
        if attribute.default_value.name:
            value = helper.get_attribute_value(attribute.default_value)
            found[name] = value.decode() if isinstance(value, bytes) else value
    return found
