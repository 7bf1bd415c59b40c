"""The reference of a run: the dense network on the device, which owns its latency and judges all others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeprune.budget.problem import Budget
from edgeprune.budget.promise import Promise
from edgeprune.compiler.manifest import Manifest
from edgeprune.deploy.placed import Placed
from edgeprune.deploy.standard import Judgement, Standard
from edgeprune.deploy.timing import Timing
from edgeprune.deploy.trials import Trials
from edgeprune.fitting.search import Judged

LEAST_MARGIN, MOST_MARGIN = 0.01, 0.05
ROUND_S, SHARPNESS = 30.0, 0.02
"""Patience with one plan of a search, and how well its latency has to be known: the next plan is aimed by it."""
SEARCH_S, LEAST_ROUND_S = 90.0, 5.0
"""Patience with all plans of a search, and with one of them once that is spent: on a restless device each plan could
take all of its time."""


def patience_of_round(asked_s: float, spent_s: float) -> float:
    """Seconds for the next plan of a search that was given ``asked_s`` for one and has spent ``spent_s`` so far."""
    return min(asked_s, ROUND_S, max(LEAST_ROUND_S, SEARCH_S - spent_s))


@dataclass(slots=True)
class Reference:
    """The dense network of one run.

    Attributes:
        timing: its launches of lowest latency so far. What disturbs a device only adds time, and a device that showed
            a better clock has it: nothing else may replace this figure.
    """

    trials: Trials
    bundle: Path
    manifest: Manifest
    timing: Timing
    promise: Promise
    patience_s: float
    _placed: Placed | None = field(default=None, init=False)
    _judging_s: float = field(default=0.0, init=False)

    @property
    def latency_ms(self) -> float:
        return self.timing.statistic(self.promise.statistic)

    @property
    def margin(self) -> float:
        """Margin of the latency limit that the first plan leaves free, from the noise between launches there."""
        return min(MOST_MARGIN, max(LEAST_MARGIN, self.timing.noise))

    @property
    def standard(self) -> Standard:
        """The standard for networks of this run; the dense network waits on the device if a limit is relative to it."""
        relative = self.promise.latency is not None and self.promise.latency.relative
        if relative and self._placed is None and not self.trials.info.counts:
            self._placed = self.trials.keep(self.bundle)
        return Standard(
            self.promise,
            self.latency_ms,
            self.manifest.memory.flash,
            self.timing.reference_ms,
            self._placed,
            self.patience_s,
            dense_ram_bytes=self.manifest.memory.peak_ram,
        )

    @property
    def budget(self) -> Budget:
        memory = self.manifest.memory
        return self.promise.resolve(self.latency_ms, memory.flash, memory.peak_ram)

    def judge(self, placed: Placed) -> Judgement:
        """The verdict on a plan's program, timed in turns with the dense network where a limit is relative to it.

        A round that is not decidable soon counts as broken: another plan is tried, and the installed program is judged
        with the full patience. The patience of a round is shorter once a search has taken long.
        """
        patience_s = patience_of_round(self.patience_s, self._judging_s)
        found = replace(self.standard, patience_s=patience_s, sharpness=SHARPNESS).judge(placed)
        if latency := found.of("latency"):
            self._judging_s += latency.seconds
        self.learn(found)
        return found

    def learn(self, judgement: Judgement) -> None:
        """Keep the dense network's launches of a judgement if they show a better clock."""
        if judgement.dense is not None and judgement.dense.median_ms < self.timing.median_ms:
            self.timing = judgement.dense

    def asked(self, promise: Promise, patience_s: float) -> Reference:
        """A reference with the same dense network and another promise; launches that it learns stay with it alone."""
        other = replace(self, promise=promise, patience_s=patience_s)
        other._placed = self._placed
        return other


def accepted(judgement: Judgement) -> Judged:
    """Use of each limit, and whether it is kept, from a judgement."""
    latency, flash, ram = (judgement.of(resource) for resource in ("latency", "flash", "ram"))
    return Judged(
        None if latency is None else latency.share_of_limit,
        latency is None or latency.kept,
        None if flash is None else flash.share_of_limit,
        flash is None or flash.kept,
        None if ram is None else ram.share_of_limit,
        ram is None or ram.kept,
    )


def at_most(judgement: Judgement) -> Judged:
    """As :func:`accepted`, but by the value alone, without its interval: for comparisons that promise nothing."""
    found = accepted(judgement)
    return replace(found, latency_kept=found.latency_used is None or found.latency_used <= 1)


Accept = Callable[[Judgement], Judged]
