"""What is said of why a plan is as it is: limits with slack and price, levels, blocks, channels. All of it is JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import FiniteFloat

from edgeprune.budget.problem import CHANNELS
from edgeprune.jsonable import Jsonable


@dataclass(frozen=True, slots=True)
class Step(Jsonable):
    """One step of the schedule under a limit of RAM.

    Attributes:
        price: saliency for one more KiB of this step alone.
    """

    name: str
    used_bytes: FiniteFloat
    slack_bytes: FiniteFloat
    price: FiniteFloat


@dataclass(frozen=True, slots=True)
class Limit(Jsonable):
    """One limit of the budget at a plan.

    Attributes:
        resource: ``latency_ms``, ``flash_bytes`` or ``ram_bytes``; ``limit``, ``used`` and ``slack`` are in its unit.
        price: shadow price, saliency for one more ``per``: ms, or KiB for bytes. 0: more of it would gain nothing.
        steps: of RAM, those with a price and the fullest one, the dearest first.
    """

    resource: str
    limit: FiniteFloat
    used: FiniteFloat
    slack: FiniteFloat
    price: FiniteFloat
    per: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Break(Jsonable):
    """A limit that a change breaks: the row, and by how many ms or bytes."""

    row: str
    over: FiniteFloat


@dataclass(frozen=True, slots=True)
class Change(Jsonable):
    """A plan with one change: what it does to the figures, and what it costs however the rest is chosen.

    Attributes:
        widths: group -> width of what moves: the group, and those that a block takes along, at their narrowest.
        saliency, latency_ms, flash_bytes, ram_bytes: differences to the plan; ``ram_bytes`` of the peak, None where
            the problem knows no RAM.
        priced: by limited resource, what the difference is worth at the shadow prices.
        breaks: limits that the plan would break with this change, the one with the dearest difference first.
        forced_by: the row of the first of them: it forced the change out. None where the change would fit.
        at_most: no plan inside the budget with this change retains more. A wider level stands for all that are at
            least as wide, a narrower one for all that are at most as wide.
        loses_at_least: by how much any such plan is below this one at least; 0: nothing is proven.
        behind: by how much any such plan is below the bound, by the prices alone: how near the change was.
        loses_at_most: by how much the best such plan that was found is below this one, negative where it is better;
            None where none was looked for, or found.
        impossible: it is proven that no plan inside the budget has this change.
    """

    widths: dict[str, int]
    saliency: FiniteFloat
    latency_ms: FiniteFloat
    flash_bytes: FiniteFloat
    ram_bytes: FiniteFloat | None
    priced: dict[str, FiniteFloat]
    breaks: tuple[Break, ...]
    forced_by: str | None
    at_most: FiniteFloat
    loses_at_least: FiniteFloat
    behind: FiniteFloat
    loses_at_most: FiniteFloat | None = None
    impossible: bool = False


@dataclass(frozen=True, slots=True)
class Level(Jsonable):
    """A width that a group was offered; ``change`` is None for the one that was chosen."""

    width: int
    change: Change | None


@dataclass(frozen=True, slots=True)
class Group(Jsonable):
    """A width group, or another choice: its width in the plan, and levels around it or all of them, ascending.

    Attributes:
        saliency: what the group retains; ``whole`` is what it would retain at its full ``size``.
        unit: what its widths are numbers of.
    """

    name: str
    size: int
    width: int
    saliency: FiniteFloat
    whole: FiniteFloat
    levels: tuple[Level, ...]
    unit: str = CHANNELS

    @property
    def wider(self) -> Change | None:
        """The change to the next wider level; None at the full width."""
        return next((x.change for x in self.levels if x.width > self.width), None)

    @property
    def narrower(self) -> Change | None:
        """The change to the next narrower level; None at the narrowest."""
        return next((x.change for x in reversed(self.levels) if x.width < self.width), None)


@dataclass(frozen=True, slots=True)
class Block(Jsonable):
    """A block that may go whole, by its groups; ``change`` puts it back, at its narrowest, or takes it away."""

    groups: tuple[str, ...]
    removed: bool
    change: Change


@dataclass(frozen=True, slots=True)
class Channel(Jsonable):
    """One channel of a group: where it stands, and what its group would be like otherwise.

    Attributes:
        saliency: as a share of that of all channels of all groups.
        rank: in its group, 1 for the highest; ``network_rank`` among all channels of all groups.
        kept_below: channels elsewhere that are kept although their saliency is lower.
        removed_above: channels elsewhere that are removed although their saliency is higher.
        level: of a removed channel the narrowest one that would keep it, of a kept one the widest that would not;
            None where each of them keeps it.
    """

    group: str
    channel: int
    kept: bool
    saliency: FiniteFloat
    rank: int
    size: int
    network_rank: int
    network_size: int
    kept_below: int
    removed_above: int
    level: Level | None


@dataclass(frozen=True, slots=True)
class Explanation(Jsonable):
    """The plan as a whole.

    Attributes:
        saliency: that the plan retains; ``bound``: no plan inside the budget retains more, by the solver's proof or,
            without one, by the prices.
        certified: the prices are those of the plan's certificate; else they were computed for this explanation.
        groups: each with the levels next to its width.
    """

    solver: str
    saliency: FiniteFloat
    bound: FiniteFloat
    certified: bool
    limits: tuple[Limit, ...]
    groups: tuple[Group, ...]
    blocks: tuple[Block, ...]


def next_to_keep(groups: Sequence[Group]) -> list[tuple[Group, Change]]:
    """Groups that could be wider, with the change to the next level; the nearest to keep it first."""
    return _nearest([(g, g.wider) for g in groups])


def next_to_go(groups: Sequence[Group]) -> list[tuple[Group, Change]]:
    """Groups that could be narrower, with the change to the next level; the nearest to lose it first."""
    return _nearest([(g, g.narrower) for g in groups])


def _nearest(changes: Sequence[tuple[Group, Change | None]]) -> list[tuple[Group, Change]]:
    return sorted(((g, change) for g, change in changes if change is not None), key=lambda x: x[1].behind)
