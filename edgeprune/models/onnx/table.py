"""The table of ONNX operators: which function reads which."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.values import Values


class Outputs(tuple[Values | None, ...]):
    """Values of several outputs, by place; None, and places behind the last, are not computed."""

    __slots__ = ()


Reader = Callable[[OnnxNode], Values | Outputs]
"""From a node to the values of its outputs: of the first alone, or of several by place."""
_Reader = TypeVar("_Reader", bound=Reader)
CONTRIB = "com.microsoft"
"""Domain of the operators that ONNX Runtime's optimiser writes."""
READERS: dict[tuple[str, str], Reader] = {}
"""By domain and operator. The files of operators fill it: ask :mod:`edgeprune.models.onnx.ops.families`, which has
imported them all."""


def reads(*operators: str, domain: str = "") -> Callable[[_Reader], _Reader]:
    """Enter a function for operators of a domain."""

    def enter(reader: _Reader) -> _Reader:
        for operator in operators:
            key = (domain, operator)
            assert key not in READERS, key
            READERS[key] = reader
        return reader

    return enter
