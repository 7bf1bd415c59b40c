"""Networks in float64, to tell rounding from faults: rounding is 2^29 times smaller, a fault as large as before."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map


@contextmanager
def in_float64(*modules: nn.Module) -> Iterator[tuple[nn.Module, ...]]:
    """Copies of the modules in float64; within the block, what asks for float32 gets float64."""
    copies = tuple(copy.deepcopy(module).double() for module in modules)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Widened():
            yield copies
    finally:
        torch.set_default_dtype(before)


def widened(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Real numbers in float64, all else as it is; copies."""
    return tuple(x.double() if x.is_floating_point() else x.clone() for x in inputs)


class _Widened(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(lambda a: torch.float64 if a is torch.float32 else a, (args, kwargs or {}))
        return (Tensor.double if func is Tensor.float else func)(*args, **kwargs)
