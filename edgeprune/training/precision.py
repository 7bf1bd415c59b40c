"""Mixed precision: layers computed in bfloat16 while weights, gradients of weights and losses stay in float32.

Micikevicius et al. 2018, arXiv:1710.03740, section 3.1; bfloat16 has the range of float32, so that no loss is scaled
(Kalamkar et al. 2019, arXiv:1905.12322).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from edgeprune.errors import UsageError
from edgeprune.methods import chosen
from edgeprune.processors import host_features

FLOAT32, BF16 = "float32", "bf16"
PRECISIONS = (FLOAT32, BF16)
NATIVE = ("amx_bf16", "avx512_bf16", "bf16")
"""Features of processors that multiply bfloat16, as Linux names them on x86-64 and ARM."""


def check_precision(precision: str) -> None:
    """Refuse a precision that this computer would only be slower in.

    Raises:
        UsageError: there is none of that name; bfloat16 on a processor that has no instructions for it.
    """
    chosen("a training", "precision", precision, PRECISIONS)
    if precision == BF16 and not set(NATIVE) & set(host_features()):
        raise UsageError(
            "this processor multiplies no bfloat16: training would be slower with bf16",
            hint=f"leave --precision away; a processor that has one of {', '.join(NATIVE)} gains by it",
        )


def lowered(precision: str) -> AbstractContextManager[Any]:
    """Convolutions and products inside the ``with`` block are computed in the precision."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == BF16)


def raised(outputs: Any) -> Any:
    """Outputs of any structure as a loss reads them: what is bfloat16 in float32."""
    return tree_map(lambda t: t.float() if isinstance(t, Tensor) and t.dtype == torch.bfloat16 else t, outputs)
