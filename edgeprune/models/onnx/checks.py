"""What the standard says of the types of a node's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import onnx
from onnx import NodeProto

from edgeprune.models.onnx.types import FLOATS, named
from edgeprune.models.onnx.values import Unsupported, Value, Values


def check_types(proto: NodeProto, domain: str, opset: int, inputs: Sequence[Values | None]) -> None:
    """Refuse inputs of types that an operator of the standard does not take, or that have to be equal and are not."""
    schema = _schema(proto.op_type, domain, opset)
    if schema is None:
        return
    allowed, places, variadic = schema
    bound: dict[str, int] = {}
    for i, value in enumerate(inputs):
        if not isinstance(value, Value) or not places:
            continue
        if i >= len(places) and not variadic:
            raise Unsupported(f"it has {len(inputs)} inputs, more than {len(places)}")
        place, same = places[min(i, len(places) - 1)]
        if not _takes(allowed.get(place, frozenset({place})), value.kind):
            raise Unsupported(f"its input {i} is {named(value.kind)}")
        if same and bound.setdefault(place, value.kind) != value.kind:
            raise Unsupported(f"its input {i} is {named(value.kind)} beside {named(bound[place])}")


def _takes(allowed: frozenset[str], kind: int) -> bool:
    """Files hold float16 and bfloat16 where an old version of the standard knows float32 alone: they are held in it."""
    return f"tensor({named(kind).lower()})" in allowed or (kind in FLOATS and "tensor(float)" in allowed)


@cache
def _schema(
    operator: str, domain: str, opset: int
) -> tuple[Mapping[str, frozenset[str]], list[tuple[str, bool]], bool] | None:
    """Types by the name of their parameter; for each input that name, and whether all inputs of it are alike."""
    try:
        schema: Any = onnx.defs.get_schema(operator, opset, domain)
    except onnx.defs.SchemaError:
        return None
    allowed = {c.type_param_str: frozenset(c.allowed_type_strs) for c in schema.type_constraints}
    places = [(i.type_str, bool(i.is_homogeneous)) for i in schema.inputs]
    variadic = bool(schema.inputs) and schema.inputs[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
    return allowed, places, variadic
