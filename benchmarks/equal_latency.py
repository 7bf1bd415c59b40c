"""Networks of different methods brought to the same measured latency on this computer.

Every network is compiled by edgeprune with the schedules of one profile, and timed in turns with the dense network:
its latency is the median over turns of the ratio of the two. What the ratio is depends on widths, not on weights, so
the turns of each are kept in a file, by widths, and all of them count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from rivals import Candidate, Method, Widths, Workpiece

from edgeprune.deploy.placed import Placed
from edgeprune.deploy.timing import FEWEST, LAUNCH_MS, MOST, WARMUP, Turns
from edgeprune.deploy.trials import Trials
from edgeprune.errors import InfeasibleBudgetError
from edgeprune.files import write_whole
from edgeprune.graph.network import Network

WINDOW = 0.015
"""How far from the target a network may be, as a share of the target."""
REACH = 0.1
"""How far from it the two may be between which what a method does at the target is interpolated."""
LEAP = 0.15
"""A method that leaps over the target, without a faster network in reach, is taken at its slower one, which may be this
much slower: in its favour.
"""
TURNS, RACE_TURNS = 21, 25
TRIES, RACES = 12, 8
"""Most aims of a method's search for one target; most races, between which networks out of the window are replaced."""
SCAN = [side * 0.005 * step for step in range(1, 13) for side in (1, -1)]
"""Where the search ends out of the window: aims around it, as shares, one after the other. Tables err by more than the
window, so a plan that they call a little slower or faster may be the one that is not."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """A method's network for a target. ``share``: of the dense network's measured latency."""

    candidate: Candidate
    share: float

    def used(self, target: float) -> float:
        return self.share / target


class Meter:
    """Latencies of networks as shares of the dense network's, on one device.

    Args:
        compiled: makes the bundle of a network in a folder.
        dense: the bundle of the dense network.
        file: what was measured, by widths; it is read and written.
    """

    def __init__(
        self, trials: Trials, compiled: Callable[[Network, Path], object], dense: Path, folder: Path, file: Path
    ) -> None:
        self._trials, self._compiled, self._folder, self._file = trials, compiled, folder, file
        self._dense = trials.keep(dense)
        self._known: dict[str, list[float]] = json.loads(file.read_text()) if file.exists() else {}

    def known(self, widths: Widths) -> float | None:
        """The median of all turns so far."""
        found = self._known.get(_key(widths))
        return None if found is None else median(found)

    def measured(self, widths: Widths, network: Callable[[], Network]) -> float:
        """The share of a network, which is compiled and timed if its widths are new."""
        if (found := self.known(widths)) is not None:
            return found
        with self._trials.open(self.bundle(widths, network)) as placed:
            turns = Turns(placed, self._dense)
            pairs = [turns() for _ in range(TURNS)]
        return self._learn({widths: [median(t.samples_ms) / median(t.dense_ms) for t in pairs]})[widths]

    def race(self, networks: Mapping[Widths, Callable[[], Network]]) -> dict[Widths, float]:
        """Shares of several networks that are launched in turns, the dense one among them; the turns are added to what
        was known of each.
        """
        placed = {widths: self._trials.keep(self.bundle(widths, make)) for widths, make in networks.items()}
        runners: dict[Widths, Placed] = {(): self._dense, **placed}
        repeats = {widths: _repeats(p) for widths, p in runners.items()}
        order, ratios = list(runners), {widths: list[float]() for widths in placed}
        for turn in range(RACE_TURNS):
            # Who begins moves on, and the direction alternates: no network always follows the same one.
            turned = order[turn % len(order) :] + order[: turn % len(order)]
            times = {
                widths: runners[widths].launch(warmup=WARMUP, repeats=repeats[widths]).median_ms
                for widths in (turned if turn % 2 else reversed(turned))
            }
            for widths, found in ratios.items():
                found.append(times[widths] / times[()])
        return self._learn(ratios)

    def bundle(self, widths: Widths, network: Callable[[], Network]) -> Path:
        """Compiled, and checked on the device, once for the same widths."""
        folder = self._folder / hashlib.sha256(_key(widths).encode()).hexdigest()[:16]
        if not (folder / "manifest.json").exists():
            self._compiled(network(), folder)
            with self._trials.open(folder) as placed:
                placed.check()
        return folder

    def _learn(self, ratios: Mapping[Widths, list[float]]) -> dict[Widths, float]:
        for widths, found in ratios.items():
            self._known.setdefault(_key(widths), []).extend(found)
        write_whole(self._file, json.dumps(self._known, sort_keys=True))
        return {widths: median(self._known[_key(widths)]) for widths in ratios}


def tuned(method: Method, workpiece: Workpiece, target: float, dense_ms: float, meter: Meter) -> list[Tuned]:
    """A method's network that is measured to take ``target`` of the dense latency, or where it has none inside the
    window, those on both sides.

    Args:
        target: a share of the dense latency.
        dense_ms: the dense network's latency by the tables.

    Raises:
        InfeasibleBudgetError: the method has no network near the target.
    """
    low, high, aim = 0.0, dense_ms, target * dense_ms
    tried: dict[Widths, Tuned] = {}

    def tried_at(aim_ms: float) -> Tuned:
        found = method.propose(aim_ms)
        tried[found.widths] = Tuned(found, meter.measured(found.widths, _maker(workpiece, found)))
        return tried[found.widths]

    def off(network: Tuned) -> float:
        return abs(network.used(target) - 1)

    for _ in range(TRIES):
        try:
            found = tried_at(aim)
        except InfeasibleBudgetError:
            low = aim
        else:
            if off(found) <= WINDOW / 2:
                break
            if found.share > target:
                high = min(high, found.candidate.predicted_ms)
            else:
                low = max(low, aim)
            aim *= target / found.share
        # Every aim inside of the bracket leads to a plan that is not known to be on the wrong side.
        if high <= low * (1 + 1e-4):
            break
        if not low < aim < high:
            aim = (low + high) / 2
    if not tried:
        raise InfeasibleBudgetError(f"no network near {target:.0%} of the dense latency", latency_ms=high)
    best = min(tried.values(), key=off)
    centre = best.candidate.predicted_ms / best.used(target)
    for beside in SCAN:
        if min(map(off, tried.values())) <= WINDOW:
            break
        with suppress(InfeasibleBudgetError):
            tried_at(centre * (1 + beside))
    return around(tried.values(), target)


def around(found: Iterable[Tuned], target: float) -> list[Tuned]:
    """The nearest network inside the window, or the nearest on either side of the target: one rule for every method."""
    every = sorted(found, key=lambda t: t.share)
    inside = [t for t in every if abs(t.used(target) - 1) <= WINDOW]
    if inside:
        return [min(inside, key=lambda t: abs(t.used(target) - 1))]
    below, above = ([t for t in every if (t.share > target) == over] for over in (False, True))
    return below[-1:] + above[:1]


def levelled(
    methods: Mapping[str, Method],
    workpiece: Workpiece,
    target: float,
    dense_ms: float,
    meter: Meter,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, list[Tuned]]:
    """Every method's network for a target, or two around it, or none.

    What a race says is added to what was known, and a method whose network is out of the window then is tuned again.
    In the end each has those that suit best of all that were in a race.
    """
    raced: dict[str, dict[Widths, Tuned]] = {name: {} for name in methods}

    def found(name: str) -> list[Tuned]:
        # Later races may have told more of a network than the one it was in for this method.
        return around((replace(t, share=meter.known(w) or t.share) for w, t in raced[name].items()), target)

    racing: dict[str, list[Widths]] = {}
    for race in range(2 * RACES):
        # In the end those alone that have networks on one side only, for the last race moved them there.
        late = race >= RACES
        again = [name for name in methods if not late or one_sided(found(name), target)]
        offered: dict[str, list[Candidate]] = {}
        for name in again:
            try:
                offered[name] = [t.candidate for t in tuned(methods[name], workpiece, target, dense_ms, meter)]
            except InfeasibleBudgetError as e:
                note(f"{name}: {e.message}")
        if racing == (racing := {name: [c.widths for c in every] for name, every in offered.items()}) or not offered:
            break
        shares = meter.race({c.widths: _maker(workpiece, c) for every in offered.values() for c in every})
        for name, every in offered.items():
            raced[name] |= {c.widths: Tuned(c, shares[c.widths]) for c in every}
        note(f"race {race + 1}: " + _said({n: [raced[n][w] for w in every] for n, every in racing.items()}, target))
    chosen = {name: found(name) for name in methods}
    note("chosen: " + _said(chosen, target))
    return chosen


def one_sided(found: Sequence[Tuned], target: float) -> bool:
    return len(found) == 1 and abs(found[0].used(target) - 1) > WINDOW


def at_target(used: Sequence[float], values: Sequence[float]) -> float | None:
    """What a method does at the target, of what its networks do: of the one inside the window; of two, interpolated.

    Args:
        used: latencies over the target.

    Returns:
        None for a method of which nothing is known at this latency: it has no networks on both sides within
        :data:`REACH`, and did not leap over the target either (:data:`LEAP`).
    """
    who = telling(used)
    return spoken([used[i] for i in who], [values[i] for i in who]) if who else None


def spoken(used: Sequence[float], values: Sequence[float]) -> float:
    """What the networks that :func:`telling` names say: the one, or between two."""
    if len(used) == 1:
        return values[0]
    (low, a), (high, b) = sorted(zip(used, values, strict=True))
    return a + (b - a) * (1 - low) / (high - low)


def telling(used: Sequence[float]) -> list[int]:
    """Which of a method's networks say what it does at the target: the one in the window, both around it, or the slower
    one that it leapt to.

    Args:
        used: latencies over the target.
    """
    if len(used) < 2:
        return [0] if used and abs(used[0] - 1) <= WINDOW else []
    low, high = sorted(range(2), key=lambda i: used[i])
    if 1 - REACH <= used[low] <= 1 <= used[high] <= 1 + REACH:
        return [low, high]
    return [high] if used[low] < 1 - REACH and 1 < used[high] <= 1 + LEAP else []


def _said(found: Mapping[str, Sequence[Tuned]], target: float) -> str:
    shares = {name: "/".join(f"{t.used(target):.3f}" for t in every) or "none" for name, every in found.items()}
    return ", ".join(f"{name} {said}" for name, said in shares.items())


def _maker(workpiece: Workpiece, candidate: Candidate) -> Callable[[], Network]:
    return lambda: workpiece.make(candidate.recipe)


def _repeats(placed: Placed) -> int:
    return placed.launch(warmup=1, repeats=5).repeats_in(LAUNCH_MS, FEWEST, MOST)


def _key(widths: Widths) -> str:
    return ",".join(map(str, widths))
