"""Why a plan is what it is: prices and slack of its limits, and what any other level of a group would change.

Changes are evaluated anew, the whole plan with that one change, and say what follows if nothing else moves. What a
change costs at least, however the rest is chosen, comes from the dual (:mod:`edgeprune.budget.shadow`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

import numpy as np

from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.explanation import Block, Break, Change, Channel, Explanation, Group, Level, Limit, Step
from edgeprune.budget.factors import Array, Ints
from edgeprune.budget.insist import insist
from edgeprune.budget.problem import ADDITIVE, CHANNELS, RESOURCES, TOLERANCE, by_resource
from edgeprune.budget.shadow import shadow_of
from edgeprune.budget.solving import Solved
from edgeprune.errors import UsageError
from edgeprune.progress import SILENT, Progress

KIB = 1024.0


class Explainer:
    """Explains one solved problem. The dual is evaluated once; everything else is looked up or evaluated when asked.

    Raises:
        VerificationError: the certificate holds prices that are none.
    """

    def __init__(self, solved: Solved) -> None:
        self._solved = solved
        self._evaluator = Evaluator(solved.problem)
        self._shadow = shadow_of(self._evaluator, solved.budget, solved.solution)
        self._index = {c.name: i for i, c in enumerate(solved.problem.choices)}
        self._levels = tuple(
            c.levels.index(w) for c, w in zip(solved.problem.choices, solved.solution.widths, strict=True)
        )
        self._costs = self._evaluator.costs(self._widths([self._levels]))[0]
        self._allowed = solved.budget.of_rows(len(self._costs))
        self.bound = min(self._shadow.bound, np.inf if solved.solution.bound is None else solved.solution.bound)

    @property
    def names(self) -> tuple[str, ...]:
        """The groups that were offered more than one width."""
        return tuple(self._index)

    def overview(self) -> Explanation:
        """Limits, groups with the levels next to theirs, blocks."""
        found = self._solved.solution
        return Explanation(
            found.method,
            found.saliency,
            self.bound,
            self._shadow.certified,
            self.limits(),
            tuple(self._group(c, self._near(c)) for c in range(len(self._levels))),
            self.blocks(),
        )

    def limits(self) -> tuple[Limit, ...]:
        """Each limited resource with its slack and its shadow price."""
        used, prices = by_resource(self._costs), self._shadow.prices
        found = []
        for r in self._solved.budget.active:
            limit, name = float(self._solved.budget.values[r]), RESOURCES[r]
            # The limit of RAM is that of every step: more of it is more for all of them.
            of_ram = r == len(ADDITIVE)
            price = float(prices[r:].sum() if of_ram else prices[r])
            unit, per = (1.0, "ms") if name == RESOURCES[0] else (KIB, "KiB")
            steps = self._steps(limit) if of_ram else ()
            found.append(Limit(name, limit, float(used[r]), limit - float(used[r]), price * unit, per, steps))
        return tuple(found)

    def group(self, name: str) -> Group:
        """A group with all its levels; raises UsageError for a name that none has."""
        choice = self._choice(name)
        return self._group(choice, range(self._evaluator.sizes[choice]))

    def searched(self, group: Group, *, time_limit_s: float, progress: Progress = SILENT) -> Group:
        """A group for each of whose levels the best plan was looked for that has it, or a level beyond.

        Ctrl-C ends the search; levels that it did not come to stay as they are.

        Args:
            time_limit_s: for all levels together; the costs are as near to one another then as the search became.
        """
        progress.stage(f"plans with other widths of {group.name}", len(group.levels) - 1)
        choice, question = self._choice(group.name), (self._solved.problem, self._solved.budget)
        found = insist(*question, choice, self._levels[choice], time_limit_s=time_limit_s, progress=progress)
        widths, own = self._solved.problem.choices[choice].levels, self._solved.solution.saliency
        levels = []
        for level in group.levels:
            change, best = level.change, found.get(widths.index(level.width))
            if change is not None and best is not None:
                at_most = min(change.at_most, best.bound)
                change = replace(
                    change,
                    at_most=at_most,
                    loses_at_least=max(0.0, own - at_most),
                    loses_at_most=None if best.saliency is None else own - best.saliency,
                    impossible=best.impossible,
                )
            levels.append(replace(level, change=change))
        return replace(group, levels=tuple(levels))

    def blocks(self) -> tuple[Block, ...]:
        """Blocks that went, as they would come back, and those that could go."""
        gone, found = self._gone(self._levels), {}
        for block in map(frozenset, self._solved.problem.blocks):
            removed = block <= gone
            after = self._restored(block) if removed else self._without(block)
            moved = tuple(c for c, (a, b) in enumerate(zip(self._levels, after, strict=True)) if a != b)
            worths = [self._shadow.worths[c] for c in moved]
            at_most = min(float(w[1:].max() if removed else w[0]) for w in worths)
            found[moved] = removed, after, at_most
        changes = self._changes([(after, at_most) for _, after, at_most in found.values()])
        return tuple(
            Block(tuple(self._solved.problem.choices[c].name for c in moved), removed, change)
            for (moved, (removed, _, _)), change in zip(found.items(), changes, strict=True)
        )

    def channel(self, name: str, channel: int, scores: Mapping[str, Array]) -> Channel:
        """One channel of a group.

        Args:
            scores: group -> saliency of each channel, shape (size,), in any unit.

        Raises:
            UsageError: there is no such group or channel, or the scores are of other groups.
        """
        choice = self._choice(name)
        everyone = self._solved.problem.choices
        if everyone[choice].unit != CHANNELS:
            raise UsageError(f"{name} is no width group: it has no channels", hint="ask for it without a channel")
        choices, chosen = zip(
            *((c, k) for c, k in zip(everyone, self._levels, strict=True) if c.unit == CHANNELS), strict=True
        )
        size = len(scores.get(name, ())) or everyone[choice].levels[-1]
        if not 0 <= channel < size:
            raise UsageError(f"group {name} has no channel {channel}", hint=f"its channels are 0 to {size - 1}")
        if wrong := [c.name for c in choices if not _fits(scores.get(c.name, ()), c.levels[-1])]:
            raise UsageError(
                f"the saliencies do not fit the problem: {', '.join(wrong)}", hint="make the run again", groups=wrong
            )
        ranks = {c.name: _ranks(np.asarray(scores[c.name])) for c in choices}
        kept = {c.name: ranks[c.name] <= c.levels[k] for c, k in zip(choices, chosen, strict=True)}
        everything = np.concatenate([np.asarray(scores[c.name], dtype=np.float64) for c in choices])
        stays = np.concatenate([kept[c.name] for c in choices])
        own, rank, stayed = float(scores[name][channel]), int(ranks[name][channel]), bool(kept[name][channel])
        others = [k for k, width in enumerate(everyone[choice].levels) if (width >= rank) != stayed]
        level = None
        if others:
            level = self._level_list(choice, [others[-1] if stayed else others[0]])[0]
        return Channel(
            name,
            channel,
            stayed,
            own / (float(everything.sum()) or 1.0),
            rank,
            size,
            1 + int((everything > own).sum()),
            len(everything),
            int((stays & (everything < own)).sum()),
            int((~stays & (everything > own)).sum()),
            level,
        )

    # -- levels ------------------------------------------------------------------------------------

    def _choice(self, name: str) -> int:
        if name not in self._index:
            near = get_close_matches(name, self._index, n=3)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise UsageError(
                f"no width group {name!r} was offered another width",
                hint=f"{hint}the groups are: {', '.join(self._index)}",
                groups=list(self._index),
            )
        return self._index[name]

    def _near(self, choice: int) -> list[int]:
        at = self._levels[choice]
        return [k for k in (at - 1, at, at + 1) if 0 <= k < self._evaluator.sizes[choice]]

    def _group(self, choice: int, levels: Sequence[int]) -> Group:
        spec, saliency, at = self._solved.problem.choices[choice], self._evaluator.saliencies[choice], self._levels
        return Group(
            spec.name,
            spec.levels[-1],
            spec.levels[at[choice]],
            float(saliency[at[choice]]),
            float(saliency[-1]),
            self._level_list(choice, levels),
            spec.unit,
        )

    def _level_list(self, choice: int, levels: Sequence[int]) -> tuple[Level, ...]:
        at, worths = self._levels[choice], self._shadow.worths[choice]
        # At least as wide, or at most: whoever asks for a level would not mind more of the same.
        beyond = np.where(
            np.arange(len(worths)) > at, np.maximum.accumulate(worths[::-1])[::-1], np.maximum.accumulate(worths)
        )
        others = [k for k in levels if k != at]
        changes = dict(
            zip(others, self._changes([(self._moved(choice, k), float(beyond[k])) for k in others]), strict=True)
        )
        widths = self._solved.problem.choices[choice].levels
        return tuple(Level(widths[k], changes.get(k)) for k in levels)

    def _changes(self, plans: Sequence[tuple[tuple[int, ...], float]]) -> list[Change]:
        """Each plan, given by its levels and the bound at the prices of what it stands for, compared with this one."""
        if not plans:
            return []
        saliency = sum(float(s[k]) for s, k in zip(self._evaluator.saliencies, self._levels, strict=True))
        costs = self._evaluator.costs(self._widths([levels for levels, _ in plans]))
        changes = by_resource(costs) - by_resource(self._costs)
        return [
            self._change(levels, at_most, cost, change, saliency)
            for (levels, at_most), cost, change in zip(plans, costs, changes, strict=True)
        ]

    def _change(self, levels: tuple[int, ...], at_most: float, costs: Array, change: Array, saliency: float) -> Change:
        choices, values = self._solved.problem.choices, self._evaluator.saliencies
        moved = [c for c, (a, b) in enumerate(zip(self._levels, levels, strict=True)) if a != b]
        paid = self._shadow.prices * (costs - self._costs)
        over = np.flatnonzero(costs > self._allowed * (1 + TOLERANCE))
        # The dearest; without a price, the one that is broken by most.
        over = over[np.lexsort((-(costs / self._allowed)[over], -paid[over]))]
        names = self._evaluator.row_names
        resources = np.minimum(np.arange(len(paid)), len(ADDITIVE))
        return Change(
            {choices[c].name: choices[c].levels[levels[c]] for c in moved},
            float(sum(float(values[c][levels[c]] - values[c][self._levels[c]]) for c in moved)),
            float(change[0]),
            float(change[1]),
            float(change[2]) if self._solved.problem.ram else None,
            {RESOURCES[r]: float(paid[resources == r].sum()) for r in self._solved.budget.active},
            tuple(Break(names[r], float(costs[r] - self._allowed[r])) for r in over),
            names[over[0]] if len(over) else None,
            min(at_most, self.bound),
            max(0.0, saliency - at_most),
            max(0.0, self._shadow.bound - at_most),
        )

    def _widths(self, plans: Sequence[Sequence[int]]) -> Ints:
        return np.array([self._evaluator.widths(levels) for levels in plans], dtype=np.int64)

    # -- blocks ------------------------------------------------------------------------------------

    def _gone(self, levels: Sequence[int]) -> set[int]:
        return {c for c, (k, first) in enumerate(zip(levels, self._evaluator.narrowest, strict=True)) if k < first}

    def _torn(self, levels: Sequence[int]) -> set[int]:
        """Choices that are 0 without the whole of a block."""
        gone = self._gone(levels)
        return gone - {c for block in self._solved.problem.blocks if gone.issuperset(block) for c in block}

    def _moved(self, choice: int, level: int) -> tuple[int, ...]:
        """The plan with a choice at another level, and what has to come or go with it."""
        if level < self._evaluator.narrowest[choice]:
            inside = [b for b in self._solved.problem.blocks if choice in b]
            gone = self._gone(self._levels)
            return self._without(min(inside, key=lambda b: (len(set(b) - gone), b)))
        after = list(
            self._restored({choice}) if self._levels[choice] < self._evaluator.narrowest[choice] else self._levels
        )
        after[choice] = level
        return tuple(after)

    def _without(self, block: Collection[int]) -> tuple[int, ...]:
        return tuple(0 if c in block else k for c, k in enumerate(self._levels))

    def _restored(self, choices: Collection[int]) -> tuple[int, ...]:
        """The plan with these choices back at their narrowest, and all others that cannot be gone without them."""
        after = list(self._levels)
        back = set(choices)
        while back:
            for c in back:
                after[c] = self._evaluator.narrowest[c]
            back = self._torn(after)
        return tuple(after)

    def _steps(self, limit: float) -> tuple[Step, ...]:
        used, prices = self._costs[len(ADDITIVE) :], self._shadow.prices[len(ADDITIVE) :]
        told = {*np.flatnonzero(prices).tolist(), int(used.argmax())}
        order = sorted(told, key=lambda i: (-prices[i], -used[i]))
        rows = self._solved.problem.ram
        return tuple(Step(rows[i].name, float(used[i]), limit - float(used[i]), float(prices[i]) * KIB) for i in order)


def _fits(scores: Array | tuple[()], widest: int) -> bool:
    """Whether these are of a group whose widest level is this one; a rule may have held it below its size."""
    return np.ndim(scores) == 1 and len(scores) >= widest


def _ranks(scores: Array) -> Ints:
    """The place of each channel, 1 for the highest; of equal ones the lower index goes first, as in a plan."""
    ranks = np.empty(len(scores), dtype=np.int64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return ranks
