"""The interface of a program: element types of inputs and outputs, and an input that is a camera frame."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgeprune.board.element_types import SIZES
from edgeprune.models.image_input import ImageInput
from edgeprune.models.ranges import InputRange


@dataclass(frozen=True, slots=True)
class Interface:
    """What a program takes and gives, beyond what tracing the network says.

    A loaded network computes in float32. Where it was another type of real numbers, its own types are here.

    Attributes:
        inputs, outputs: element types, in order; empty: as the traced network has them.
        image: an input that is taken as a camera frame.
        ranges: of the values that data had, for each input; None where they are not known, empty: of no input.
    """

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    image: ImageInput | None = None
    ranges: tuple[InputRange | None, ...] = ()


def type_name(dtype: torch.dtype) -> str:
    """The element type of a tensor at the edge of a program; float32 for real numbers that C has no type for."""
    name = str(dtype).removeprefix("torch.")
    return name if name in SIZES else "float32"


def own_interface(module: nn.Module, inputs: Sequence[Tensor | tuple[int, ...]]) -> Interface:
    """The types of a module before it is converted to float32.

    Args:
        inputs: example inputs; a shape stands for real numbers of the type of the parameters.
    """
    tensors = (*module.parameters(), *module.buffers())
    floats = {t.dtype for t in tensors if t.is_floating_point()}
    given = {x.dtype for x in inputs if isinstance(x, Tensor) and x.is_floating_point()}
    if floats | given <= {torch.float32}:
        return Interface()
    own = floats.pop() if len(floats) == 1 else torch.float32
    examples = [x if isinstance(x, Tensor) else torch.zeros(x, dtype=own) for x in inputs]
    return Interface(tuple(type_name(x.dtype) for x in examples), _outputs(module, examples, own))


def _outputs(module: nn.Module, examples: Sequence[Tensor], own: torch.dtype) -> tuple[str, ...]:
    """Types of the results; where torch lacks an operator for the module's own type, real numbers are of that."""
    with torch.no_grad():
        try:
            return tuple(type_name(y.dtype) for y in _tensors(module(*(x.clone() for x in examples))))
        except Exception:  # whatever torch raises
            held = [x.float() if x.is_floating_point() else x for x in examples]
    try:
        with torch.no_grad():
            results = _tensors(copy.deepcopy(module).float()(*held))
    except Exception:  # loading says what is wrong
        return ()
    return tuple(type_name(own if y.is_floating_point() else y.dtype) for y in results)


def _tensors(result: Any) -> list[Tensor]:
    return [y for y in tree_leaves(result) if isinstance(y, Tensor)]
