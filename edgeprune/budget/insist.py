"""The same question under the condition that one group has certain widths: what insisting on a width really costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgeprune.budget.problem import Choice, Problem


def insisted(problem: Problem, choice: int, levels: Sequence[int]) -> Problem | None:
    """The problem in which a choice has some of its levels alone, ascending; costs and saliency stay as they are.

    Where it may not be 0 any more, the blocks that it lies in may not go.

    Returns:
        None where only 0 is left: no problem says that a block has to go.
    """
    widths = problem.choices[choice].levels
    if not any(widths[k] for k in levels):
        return None
    choices = [_with(c, levels) if i == choice else c for i, c in enumerate(problem.choices)]
    blocks = problem.blocks
    if widths[levels[0]]:
        blocks = tuple(b for b in blocks if choice not in b)
    left = {c for block in blocks for c in block}
    # A choice of no block that may go has no level 0.
    choices = [c if i in left or c.levels[0] else _with(c, range(1, len(c.levels))) for i, c in enumerate(choices)]
    return replace(problem, choices=tuple(choices), blocks=blocks)


def _with(choice: Choice, levels: Sequence[int]) -> Choice:
    return Choice(choice.name, tuple(choice.levels[k] for k in levels), choice.saliency[list(levels)])
