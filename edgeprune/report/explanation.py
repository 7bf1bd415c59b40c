"""What a report says of why widths are as they are."""

from __future__ import annotations

from pydantic import FiniteFloat

from edgeprune.budget.explanation import Group, Limit
from edgeprune.report.strict import Count, Evidence, Strict


class Explanation(Strict):
    """Limits with slack and shadow price, and the groups nearest to keep another level, by the profile's tables.

    ``certified``: the prices are those of the plan's certificate. ``nearest``: groups, each with the levels next to its
    width. ``made_smaller``: how often the installed network was made smaller after the plan that this explains.
    """

    evidence: Evidence
    saliency: FiniteFloat
    bound: FiniteFloat
    certified: bool
    limits: tuple[Limit, ...]
    nearest: tuple[Group, ...] = ()
    made_smaller: Count = 0
