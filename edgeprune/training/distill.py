"""Distillation: a network is drawn to the outputs of another one, whatever these are.

Logits: Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2. Without labels, channels are worth what they add to
the strength of the outputs: Aljundi et al. 2018, "Memory Aware Synapses", arXiv:1711.09601, section 4.1.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves

from edgeprune.errors import BadInputError
from edgeprune.models.outputs import as_logits

_FLOOR = 1e-6
"""Added to the variance of a channel of outputs: one that hardly moves must not outweigh all others."""
_STILL = 0.1
"""Part of a channel's size that an error is measured by at least, where it hardly moves."""


def distil_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL(softmax(teacher / T) || softmax(student / T))``, averaged over examples and positions.

    The factor keeps gradients of the same size for every temperature.

    Args:
        student: logits (N, K) or (N, K, H, W).
        teacher: logits of the same shape; no gradient flows into them.
        temperature: above 0; higher weighs the small logits more.
    """
    log_p = F.log_softmax(student / temperature, dim=1)
    log_q = F.log_softmax(teacher.detach() / temperature, dim=1)
    divergence = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=1)
    return divergence.mean() * temperature**2


def match(student: Any, teacher: Any, temperature: float) -> Tensor:
    """The mean distance of all floating outputs from the teacher's, one by one; of any structure.

    What looks like the logits or probabilities of a classifier (N, K) is compared by :func:`distil_loss`, all else by
    ``log(1 + e)`` of the squared error ``e`` relative to the teacher's variance, channel by channel, so that neither
    coordinates in pixels nor probabilities drown the other.

    Raises:
        BadInputError: the outputs have another structure than the teacher's, or none of them is real.
    """
    pairs = real_pairs(student, teacher)
    losses = [
        distil_loss(as_logits(s), as_logits(t), temperature) if looks_like_classes(t) else _relative_error(s, t)
        for s, t in pairs
    ]
    return torch.stack(losses).mean()


def strength(outputs: Any) -> Tensor:
    """A loss without labels that every channel has a part in: of a classifier, its cross entropy with the class that it
    names itself; of all else, half the mean square of the outputs, relative to what it is.
    """
    found = [o for o in tree_leaves(outputs) if isinstance(o, Tensor) and o.is_floating_point()]
    if not found:
        raise BadInputError("the network has no output of real numbers", hint="give a task with a loss of its own")
    losses = []
    for output in found:
        if looks_like_classes(output):
            logits = as_logits(output)
            losses.append(F.cross_entropy(logits, logits.detach().argmax(1)))
        else:
            rows = _by_channel(output)
            losses.append(0.5 * (rows.square().mean(1) / (rows.detach().square().mean(1) + _FLOOR)).mean())
    return torch.stack(losses).mean()


def real_pairs(student: Any, teacher: Any) -> list[tuple[Tensor, Tensor]]:
    """The floating outputs of two networks of one structure, side by side; raises BadInputError for another one."""
    ours, theirs = (
        [t for t in tree_leaves(o) if isinstance(t, Tensor) and t.is_floating_point()] for o in (student, teacher)
    )
    if not ours or [o.shape for o in ours] != [t.shape for t in theirs]:
        shapes = [[tuple(t.shape) for t in side] for side in (ours, theirs)]
        raise BadInputError(
            f"outputs of the shapes {shapes[0]} cannot be compared with those of the dense network, {shapes[1]}",
            hint="a head that yields something else in training mode needs a task with a step (docs/TASKS.md)",
        )
    return list(zip(ours, (t.detach() for t in theirs), strict=True))


def looks_like_classes(output: Tensor) -> bool:
    """Whether an output can be the logits or probabilities of a classifier: (N, K) with at least two classes."""
    return output.dim() == 2 and output.shape[1] > 1


def _relative_error(student: Tensor, teacher: Tensor) -> Tensor:
    s, t = _by_channel(student), _by_channel(teacher)
    variance = t.var(1, correction=0)
    floor = _FLOOR * variance.max().clamp(max=1.0) + _STILL**2 * t.square().mean(1) + torch.finfo(t.dtype).tiny
    # The logarithm: an output that hardly moves would otherwise tear the weights away once it is missed.
    return torch.log1p((s - t).square().mean(1) / (variance + floor)).mean()


def _by_channel(output: Tensor) -> Tensor:
    """(channels, values). Of three dimensions, the shorter one counts channels: (N, 84, 8400) and (N, 25200, 85)."""
    if output.dim() < 2:
        return output.reshape(1, -1)
    dim = 2 if output.dim() == 3 and output.shape[2] < output.shape[1] else 1
    return output.movedim(dim, 0).flatten(1)
