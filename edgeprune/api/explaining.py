"""explain: why the widths of a run are as they are, which limit forced the others out, and what they would cost."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from edgeprune.amounts import percent
from edgeprune.api.fitted import Fit
from edgeprune.api.progress import reporting
from edgeprune.api.pruning import Pruned
from edgeprune.api.runs import Run, load_run
from edgeprune.api.shown import Shown
from edgeprune.budget.explain import Explainer
from edgeprune.budget.explanation import Channel, Explanation, Group
from edgeprune.budget.solving import PROBLEM, SOLUTION, Solved
from edgeprune.errors import BadInputError, UsageError
from edgeprune.fitting.saved import SCORES, load_scores
from edgeprune.fitting.stages import FOLDER
from edgeprune.importance.criterion import Scores
from edgeprune.progress import Progress
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.widths import WIDTHS_FILE, load_plan
from edgeprune.report.explained import (
    blocks_table,
    change_sentence,
    channel_sentence,
    levels_table,
    limits_table,
    nearest_tables,
    prices_sentence,
)
from edgeprune.report.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TIME_LIMIT_S = 10.0
"""For the best plans with each width of a group."""


@dataclass(frozen=True, slots=True, repr=False)
class Explained(Shown):
    """Why the widths of a run are as they are.

    Attributes:
        folder: of the run.
        explanation: limits with slack and price, each group with the levels next to its width, blocks.
        group: the group that was asked for, with all its levels.
        channel: the channel of it that was asked for.
        notes: what the explanation does not cover: a plan without a certificate, a network made smaller afterwards.
    """

    folder: Path
    explanation: Explanation
    group: Group | None = None
    channel: Channel | None = None
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        said = self.explanation
        priced = [x.resource for x in said.limits if x.price > 0]
        binding = f"bound by {' and '.join(priced)}" if priced else "no limit binds"
        return f"{self.folder}, {percent(said.saliency)} of the saliency, {binding}"

    def plot(self) -> Figure:
        """What the next level of each group gains and takes; of one group, every level.

        Raises:
            UsageError: every group has its full width.
        """
        from edgeprune.report.plots.explanation import draw_levels, draw_next

        figure = draw_next(self.explanation.groups) if self.group is None else draw_levels(self.group)
        if figure is None:
            raise UsageError("every group has its full width: there is nothing to draw", hint="ask for one group")
        return figure

    def tables(self) -> tuple[Table, ...]:
        said, lines = self.explanation, list(self.notes)
        lines.append(
            f"{said.solver}: the plan retains {percent(said.saliency)} of the saliency, "
            f"no plan inside the limits more than {percent(said.bound)}."
        )
        lines.append(prices_sentence(said.limits, certified=said.certified))
        told = Table("", ("",), tuple((line,) for line in lines))
        if self.group is None:
            blocks = (blocks_table(said.blocks),) if said.blocks else ()
            return (told, limits_table(said.limits), *nearest_tables(said.groups), *blocks)
        if self.channel is not None:
            words = [channel_sentence(self.channel, self.group)]
        else:
            near = (change for change in (self.group.wider, self.group.narrower) if change is not None)
            words = [change_sentence(self.group, change) for change in near]
        of_group = tuple(Table("", ("",), ((word,),)) for word in words)
        return (told, limits_table(said.limits), levels_table(self.group), *of_group)

    def to_json(self) -> dict[str, Any]:
        body = {"run": self.folder, "notes": self.notes, **self.explanation.to_json()}
        if self.group is None:
            return body
        del body["groups"], body["blocks"]
        return {
            **body,
            "group": self.group.to_json(),
            "channel": None if self.channel is None else self.channel.to_json(),
        }


def explain(
    run: str | Path | Run | Fit | Pruned,
    *,
    group: str | None = None,
    channel: int | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    progress: bool | Progress | None = None,
) -> Explained:
    """Why the widths of a run are as they are: which limits bind, what each is worth, what other widths would cost.

    Args:
        run: the folder that ``fit`` or ``prune`` wrote, or what these or ``load_run`` returned.
        group: a width group, to see every width that it was offered.
        channel: an index in that group.
        time_limit_s: how long the best plans with each width of the group are looked for, in seconds for all of them;
            0: not at all, so that the costs are those that the prices alone prove.

    Raises:
        BadInputError: there is no run, it has no plan yet, or it was made before runs kept what was asked.
        UsageError: no group has this name, the group was offered one width only, or it has no such channel.
        VerificationError: the plan is not what its figures say.
    """
    if channel is not None and group is None:
        raise UsageError("a channel is one of a group", hint="name its group, too")
    if not 0 <= time_limit_s < inf:
        raise UsageError(f"a time limit of {time_limit_s} s makes no sense", hint="give seconds, or 0")
    folder = _folder_of(run)
    solved, notes = _solved(folder), []
    plan = load_plan(folder) if (folder / WIDTHS_FILE).is_file() else None
    explainer = Explainer(solved)
    if group is not None and group not in explainer.names and plan is not None and group in plan.sizes:
        raise UsageError(
            f"width group {group!r} was offered its full width alone, so there is nothing to explain",
            hint="the report says why a group is frozen, and which widths were dropped",
            groups=list(explainer.names),
        )
    overview = explainer.overview()
    if not overview.certified:
        notes.append("The plan has no certificate with prices: they were computed now, by the Lagrangian dual.")
    notes += _made_smaller(folder, solved, plan)
    found = one = None
    if group is not None:
        found = explainer.group(group)
        one = None if channel is None else explainer.channel(group, channel, _scores(folder))
        if time_limit_s:
            with reporting(progress) as bar:
                found = explainer.searched(found, time_limit_s=time_limit_s, progress=bar)
        if one is not None and one.level is not None:
            one = replace(one, level=next(x for x in found.levels if x.width == one.level.width))
    return Explained(folder, overview, found, one, tuple(notes))


def _folder_of(run: str | Path | Run | Fit | Pruned) -> Path:
    if isinstance(run, Fit):
        return run.paths["bundle"].parent
    if isinstance(run, Run | Pruned):
        return run.folder
    folder = Path(run)
    return folder if (folder / PROBLEM).is_file() else load_run(folder).folder


def _solved(folder: Path) -> Solved:
    if not (folder / PROBLEM).is_file() or not (folder / SOLUTION).is_file():
        if not (folder / WIDTHS_FILE).is_file():
            raise BadInputError(
                f"the run in {folder} has no plan yet", hint=f"go on with it: edgeprune fit --resume {folder}"
            )
        raise BadInputError(
            f"{folder} does not hold {PROBLEM} and {SOLUTION}: the run was made by a version that did not keep them",
            hint="run edgeprune prune or fit again",
        )
    solved = Solved.load_from(folder)
    solved.check()
    return solved


def _made_smaller(folder: Path, solved: Solved, plan: Plan | None) -> list[str]:
    """What the network of the run has that the explained plan has not.

    Raises:
        BadInputError: neither is it the plan's network nor a smaller one.
    """
    if plan is None:
        return ["The run is not finished: this is the plan that is being trained or installed."]
    chosen = {c.name: w for c, w in zip(solved.problem.choices, solved.solution.widths, strict=True)}
    if unknown := sorted(set(chosen) - set(plan.sizes) - set(plan.densities)):
        raise BadInputError(
            f"{WIDTHS_FILE} in {folder} is of another network: it has no width group {', '.join(unknown)}",
            hint="run edgeprune prune or fit again",
        )
    differ = {name: plan.level(name) for name, width in chosen.items() if plan.level(name) != width}
    if wider := sorted(name for name, width in differ.items() if width > chosen[name]):
        raise BadInputError(
            f"{WIDTHS_FILE} in {folder} is not of the plan in {SOLUTION}: {', '.join(wider)} would be wider",
            hint="a fit may still be under way there; else run edgeprune prune or fit again",
        )
    if not differ:
        return []
    attempts = (re.fullmatch(r"recovered-(\d+)", p.stem) for p in (folder / FOLDER).glob("recovered-*.json"))
    last = max((int(m[1]) for m in attempts if m), default=0)
    since = f" in tighter-{last}" if last == 1 else f" in tighter-1 to tighter-{last}" if last else ""
    widths = ", ".join(f"{name} {chosen[name]} → {width}" for name, width in sorted(differ.items()))
    return [
        f"The installed network is smaller than the plan that is explained: it was over a limit on the device, and was "
        f"made smaller{since} ({widths})."
    ]


def _scores(folder: Path) -> Scores:
    try:
        return load_scores(folder)
    except (OSError, ValueError, SafetensorError) as e:
        raise BadInputError(f"{folder / SCORES} cannot be read: {e}", hint="run edgeprune prune or fit again") from e
