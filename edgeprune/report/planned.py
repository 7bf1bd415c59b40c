"""What a report says of the plan: how it was chosen, what is proven of it, and how much of the network went by it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from edgeprune.report.strict import Count, Fraction, Strict


class Gone(Strict):
    """How much of the dense network is gone, in several measures (docs/METHODS.md), for none of them says it all.

    ``weights`` are gone or 0; the others are shares of what there was: of the weights, of their absolute sum, of the
    channels, of the multiply-adds, of the layers.
    """

    weights: Count
    parameter: Fraction
    relative: Fraction
    structural: Fraction
    weighted: Fraction
    layers: Fraction


class Plan(Strict):
    """How widths were chosen, and what is proven about the choice (empty where nothing is).

    ``removed_blocks`` went whole; their groups keep nothing. ``densities``: by parameter, what stays of the blocks of
    its weights, in per cent, of those that were offered fewer than all. ``dropped``: by group and width, why a width
    was not offered to the solver. ``sparsity`` is None in reports of versions that did not count.
    """

    method: dict[str, Any]
    certificate: dict[str, Any] = Field(default_factory=dict)
    saliency_retained: Fraction | None = None
    removed_blocks: tuple[str, ...] = ()
    densities: dict[str, int] = Field(default_factory=dict)
    dropped: dict[str, dict[str, str]] = Field(default_factory=dict)
    sparsity: Gone | None = None
