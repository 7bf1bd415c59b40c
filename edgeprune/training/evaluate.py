"""Accuracy, of a module and of logits that came back from a board."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call

from edgeprune.errors import BadInputError


def predict(module: nn.Module, x: Tensor, *, batch_size: int = 64) -> Tensor:
    """Logits of every example, computed in ``eval`` mode and batch by batch; modes are left as they were.

    The weights are used channels last, in which torch convolves twice as fast on a CPU; the module keeps its own.
    """
    modes = {m: m.training for m in module.modules()}
    weights = {k: v.contiguous(memory_format=torch.channels_last) if v.dim() == 4 else v for k, v in _tensors(module)}
    module.eval()
    try:
        with torch.no_grad():
            return torch.cat([functional_call(module, weights, (part,)) for part in torch.split(x, batch_size)])
    finally:
        for m, mode in modes.items():
            m.training = mode


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def accuracy(module: nn.Module, x: Tensor, y: Tensor, *, batch_size: int = 64) -> float:
    """Share of right labels, 0 to 1 (of pixels, for segmentation)."""
    return accuracy_from_logits(predict(module, x, batch_size=batch_size).cpu().numpy(), y)


def accuracy_from_logits(logits: npt.NDArray[np.floating], y: Tensor | npt.NDArray[np.integer]) -> float:
    """Share of examples whose largest logit is their label, 0 to 1.

    Args:
        logits: (N, K) or (N, K, H, W).
        y: (N,) or (N, H, W).

    Raises:
        BadInputError: shapes that do not belong together, or logits that are not finite.
    """
    labels = np.asarray(y)
    if logits.shape[:1] + logits.shape[2:] != labels.shape:
        raise BadInputError(f"logits of the shape {logits.shape} do not go with labels of the shape {labels.shape}")
    if not np.isfinite(logits).all():
        raise BadInputError("the logits hold NaN or infinity", hint="the network or its weights are broken")
    return float((logits.argmax(axis=1) == labels).mean())
