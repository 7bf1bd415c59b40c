"""Knowledge distillation: Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


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
