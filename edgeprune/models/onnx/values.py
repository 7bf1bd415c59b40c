"""Values of an ONNX graph while it is read: constants, and what will be computed."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.fx import Node


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A tensor: known now, or computed when the module runs.

    Attributes:
        kind: element type of ONNX.
        tensor: the constant; of a computed value a fake, which has shape and type and no memory.
        node: what computes it; None for a constant.
        name: of the initializer of the file that it is; a layer's parameter takes it.
        real: the same integers as real numbers, where they were computed so: what is quantised and dequantised again
            never becomes an integer.
    """

    kind: int
    tensor: Tensor
    node: Node | None = None
    name: str = ""
    real: Value | None = None

    @property
    def known(self) -> bool:
        return self.node is None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def rank(self) -> int:
        return self.tensor.dim()


Values = Value | tuple["Value", ...]
"""A tensor, or a sequence of them: its length is known, and it exists while the file is read, not in the module."""


class Unsupported(Exception):
    """Why a node cannot be read. The reader adds which node it was.

    Attributes:
        needs: which of its inputs would have to be constant.
    """

    def __init__(self, why: str, needs: int | None = None) -> None:
        super().__init__(why)
        self.needs = needs
