"""Language models: the cross entropy of the next token; judged by perplexity."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from edgeprune.errors import BadInputError
from edgeprune.training.distill import distil_loss
from edgeprune.training.tasks.classification import only, require_labels
from edgeprune.training.tasks.task import Metric, Task

IGNORED = -100


class _Perplexity:
    def __init__(self, shift: bool) -> None:
        self.shift, self.total, self.count = shift, 0.0, 0

    def update(self, outputs: Any, targets: Any) -> None:
        logits, tokens = aligned(only(outputs), targets, self.shift)
        self.total += float(F.cross_entropy(logits.double(), tokens, ignore_index=IGNORED, reduction="sum"))
        self.count += int((tokens != IGNORED).sum())

    def compute(self) -> float:
        return math.exp(min(self.total / max(self.count, 1), 700.0))


def language(shift: int = 1) -> Task:
    """Cross entropy of logits (N, T, V) and tokens (N, T); judged by perplexity, e to the mean of it.

    Args:
        shift: 1 where targets are the tokens of the input themselves (as Hugging Face has labels), and the output at a
            place names the token behind it; 0 where targets were shifted already. Data without targets take the
            tokens of the first input. Tokens of -100 count nowhere.
    """

    def loss(outputs: Any, targets: Any) -> Tensor:
        return F.cross_entropy(*aligned(only(outputs), targets, bool(shift)), ignore_index=IGNORED)

    def distil(student: Any, teacher: Any, temperature: float) -> Tensor:
        return distil_loss(only(student).flatten(0, -2), only(teacher).flatten(0, -2), temperature)

    metric = Metric("perplexity", lambda: _Perplexity(bool(shift)), unit="", higher_is_better=False)
    return Task("language", metric, loss, targets="inputs", distil=distil)


def aligned(logits: Tensor, targets: Any, shift: bool) -> tuple[Tensor, Tensor]:
    """Logits (n, V) beside the tokens (n,) that they should name.

    Raises:
        BadInputError: they do not go together.
    """
    if not isinstance(targets, Tensor) or logits.dim() != 3 or logits.shape[:2] != targets.shape:
        found = tuple(targets.shape) if isinstance(targets, Tensor) else type(targets).__name__
        raise BadInputError(
            f"outputs of the shape {tuple(logits.shape)} do not go with tokens of the shape {found}",
            hint="a language model gives (N, T, vocabulary) for tokens (N, T)",
        )
    tokens = targets.long()
    require_labels(tokens, logits.shape[-1], IGNORED)
    if shift:
        logits, tokens = logits[:, :-1], tokens[:, 1:]
    return logits.flatten(0, 1), tokens.flatten()
