"""The plan: which channels each width group keeps, and what that is predicted to cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Plan:
    """Attributes:
    keep: group name -> indices kept, ascending, at least one; absent groups are kept whole.
    sizes: group name -> size before pruning, for every group of the network.
    predicted: latency_ms, flash_bytes, saliency_retained (0..1) …, each with its evidence level.
    method: solver and criterion names, seed, budget; enough to repeat the plan.
    certificate: what is proven about it; {} where nothing is.
    """

    keep: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int]
    predicted: Mapping[str, Any]
    method: Mapping[str, Any]
    certificate: Mapping[str, Any]
