"""Faults of torch that networks of pruned widths run into, and how edgeprune keeps clear of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_SMALLEST_SAFE_WIDTH = 16


class SafeConvolutions(TorchFunctionMode):
    """While it is active, 1x1 convolutions with a stride and few input channels see a thinned-out image instead.

    The result is the same. oneDNN's gradient of their weights, channels last, writes past its workspace where the
    input has fewer channels than a vector (oneDNN issue 6035, open in November 2026, seen with torch 2.13 on
    AVX-512): a crash, a hang or silently wrong gradients.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.conv2d, torch.ops.aten.conv2d.default):
            args, kwargs = _without_stride(args, kwargs)
        return func(*args, **kwargs)


_NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def _without_stride(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    call = dict(zip(_NAMES, args, strict=False)) | kwargs
    stride, padding = _pair(call.get("stride", 1)), call.get("padding", 0)
    weight = call["weight"]
    if (
        tuple(weight.shape[2:]) != (1, 1)
        or stride == (1, 1)
        or weight.shape[1] >= _SMALLEST_SAFE_WIDTH
        or (padding != "valid" and _pair(padding) != (0, 0))
    ):
        return args, kwargs
    return (), call | {"input": call["input"][..., :: stride[0], :: stride[1]], "stride": (1, 1)}


def _pair(value: Any) -> tuple[Any, ...]:
    return (value, value) if isinstance(value, int | str) else tuple(value) * (2 if len(value) == 1 else 1)
