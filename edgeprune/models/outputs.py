"""Outputs of classifiers: logits, or the probabilities of a final softmax."""

from __future__ import annotations

import torch
from torch import Tensor

_SMALLEST = 1e-7
"""Probabilities below it count as this; its logarithm is about -16."""


def as_logits(outputs: Tensor) -> Tensor:
    """``outputs`` (N, K, …), or their logarithms if they are probabilities over dimension 1.

    Losses are defined on logits. Taken for logits, probabilities lie between 0 and 1, and a loss can hardly tell
    a sure classifier from one that guesses; networks from elsewhere often end in a softmax.
    """
    with torch.no_grad():
        sums = outputs.sum(1)
        probable = bool((outputs >= 0).all()) and bool(((sums - 1).abs() < 1e-4).all())
    return outputs.clamp_min(_SMALLEST).log() if probable else outputs
