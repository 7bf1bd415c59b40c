"""Networks in float64, to tell rounding from faults: rounding is 2^29 times smaller, a fault as large as before."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map


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


def rounding(module: nn.Module, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> float:
    """How far ``outputs`` of a module in evaluation mode are from what it gives in float64, relative to the largest; 0
    where its code insists on a type.
    """
    try:
        with in_float64(module) as (copied,), torch.no_grad():
            exact = [y for y in tree_leaves(copied.eval()(*widened(inputs))) if isinstance(y, Tensor)]
        differences = [
            float((y.double() - e).abs().max() / e.abs().max().clamp(min=1e-30))
            for y, e in zip(outputs, exact, strict=True)
            if y.is_floating_point() and y.numel()
        ]
    except Exception:
        return 0.0
    return max((d for d in differences if math.isfinite(d)), default=0.0)


RTOL = 1e-4
"""What another runtime's outputs may differ from torch's, relative to the largest output."""
_TIMES_ROUNDING, _MOST = 10, 0.1


def tolerance(rounding: float) -> float:
    """:data:`RTOL`, and more where torch's own float32 differs from float64 by ``rounding``.

    A network that rounds to 8 bits itself jumps by a step where the last bit of a float decides, and one that takes the
    difference of two large numbers amplifies it; another runtime may then differ by several times of what torch differs
    from itself.
    """
    return max(RTOL, min(_TIMES_ROUNDING * rounding, _MOST))


class _Widened(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(lambda a: torch.float64 if a is torch.float32 else a, (args, kwargs or {}))
        return (Tensor.double if func is Tensor.float else func)(*args, **kwargs)
