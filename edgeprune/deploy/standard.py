"""The standard that a program is judged by: a promise, and what its limits are relative to on this device."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgeprune.budget.problem import ADDITIVE, Budget
from edgeprune.budget.promise import Limit, Promise
from edgeprune.budget.verdict import PATIENCE_S, Outcome, Question, Verdict, decide, exact
from edgeprune.deploy.placed import Placed
from edgeprune.deploy.timing import Timing, Turns, timed
from edgeprune.errors import BundleError, UndecidedError, UsageError, VerificationError
from edgeprune.jsonable import Jsonable

_KNOWN = ("dense_ms", "dense_flash_bytes", "dense_ram_bytes", "reference_ms")


@dataclass(frozen=True, slots=True)
class Judgement(Jsonable):
    """Verdicts on each limit of a promise, with the launches behind them; ``dense``: launches of the dense network."""

    verdicts: tuple[Verdict, ...]
    timing: Timing
    dense: Timing | None = None

    @property
    def latency_ms(self) -> float:
        """Latency at the nominal clock: that of the verdict on a median, if there is one, as it knows the clock."""
        verdict = self.of("latency")
        return self.timing.median_ms if verdict is None or verdict.statistic != "median" else verdict.value

    def of(self, resource: str) -> Verdict | None:
        return next((v for v in self.verdicts if v.resource == resource), None)

    def require_kept(self) -> None:
        """Raises:
        VerificationError: a limit is broken.
        UndecidedError: none is, and of one it could not be decided in the time that it was given.
        """
        facts: dict[str, Any] = {"verdicts": [v.to_json() for v in self.verdicts]}
        if broken := [v for v in self.verdicts if v.outcome is Outcome.BROKEN]:
            raise VerificationError(f"over the budget: {broken[0]}", **facts)
        for verdict in self.verdicts:
            if not verdict.kept:
                raise UndecidedError(
                    f"after {verdict.seconds:.0f} s of measuring: {verdict}",
                    hint="measure for longer (--patience), quiet the device, or allow a little more",
                    **facts,
                )


@dataclass(frozen=True, slots=True)
class Standard:
    """A promise on one device.

    Attributes:
        dense_ms, dense_flash_bytes, dense_ram_bytes: what the dense network costs there; needed by a relative limit.
        reference_ms: the reference loop's time at the device's nominal clock, as it was seen while profiling.
        dense: the dense network on the device: a relative limit is then judged in turns with it.
        patience_s: seconds of measuring after which a latency is not decidable.
        sharpness: as in :class:`Question`.
    """

    promise: Promise
    dense_ms: float | None = None
    dense_flash_bytes: float | None = None
    reference_ms: float | None = None
    dense: Placed | None = None
    patience_s: float = PATIENCE_S
    sharpness: float | None = None
    dense_ram_bytes: float | None = None

    @property
    def budget(self) -> Budget:
        """The limits in ms and bytes; raises UsageError for one that is relative to a network that is not known."""
        return self.promise.resolve(self.dense_ms, self.dense_flash_bytes, self.dense_ram_bytes)

    def judge(self, placed: Placed) -> Judgement:
        """The verdict on a program: this one is asked in the rounds of a fit and at flash.

        Raises:
            VerificationError: the program crashes or does not end.
        """
        budget, name, info, verdicts = self.budget, self.promise.statistic, placed.info, list[Verdict]()
        if budget.flash_bytes is not None:
            size = placed.manifest.memory.flash
            verdicts.append(exact("flash", size, budget.flash_bytes, evidence="compiled", basis="read off the program"))
        if budget.ram_bytes is not None:
            # The bytes that a program asks for do not depend on who emulates its processor.
            size = placed.allocated_bytes()
            told = "as the program told on the device"
            verdicts.append(exact("ram", size, budget.ram_bytes, evidence=info.evidence, basis=told))
        if budget.latency_ms is None or info.counts:
            timing = timed(placed)
            if budget.latency_ms is not None:
                facts = {"evidence": timing.evidence, "basis": "by a clock that counts", "statistic": name}
                verdicts.append(exact("latency", timing.statistic(name), budget.latency_ms, **facts))
            return Judgement(tuple(verdicts), timing)
        relative = self.promise.latency is not None and self.promise.latency.relative and self.dense is not None
        turns = Turns(placed, self.dense if relative else None)
        dense_ms = self.dense_ms if relative else None
        patience = (self.patience_s, self.sharpness)
        question = Question(budget.latency_ms, info.evidence, name, dense_ms, self.reference_ms, *patience)
        verdict = decide(question, turns, time.monotonic)
        return Judgement((*verdicts, replace(verdict, evidence=turns.timing.evidence)), turns.timing, turns.beside)

    def beside(self, dense: Placed) -> Standard:
        """The standard on the device of ``dense``, in turns with which a relative limit is judged.

        Raises:
            VerificationError: the dense network crashes or does not end.
        """
        memory = dense.manifest.memory
        return replace(
            self,
            dense=dense,
            dense_ms=timed(dense).statistic(self.promise.statistic),
            dense_flash_bytes=float(memory.flash),
            dense_ram_bytes=float(memory.peak_ram),
        )

    def to_json(self) -> dict[str, Any]:
        """The standard as JSON for a manifest, with the limits in ms and bytes for readers."""
        known = {n: v for n in _KNOWN if (v := getattr(self, n)) is not None}
        return {**self.budget.to_json(), **known, "promise": self.promise.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Standard | None:
        """The standard in a manifest; None where it has none.

        Raises:
            BundleError: what stands there is none.
        """
        if not data:
            return None
        try:
            if "promise" in data:
                promise = Promise.from_json(data["promise"])
            else:  # as bundles of earlier versions say it
                latency, flash = (None if data.get(n) is None else Limit(float(data[n])) for n in ADDITIVE)
                promise = Promise(latency, flash)
            known: dict[str, Any] = {n: float(data[n]) for n in _KNOWN if data.get(n) is not None}
            return cls(promise, **known)
        except (KeyError, TypeError, ValueError, UsageError) as e:
            raise BundleError(f"the manifest's budget makes no sense: {e}", hint="compile the model again") from e
