"""The promise of a run: what the installed network has to keep, as people write it and as solvers read it.

Limits are parsed here once (``12ms``, ``0.5s``, ``2MB``, ``512KiB``, ``50%``) and resolved once; whether they hold
is decided in :mod:`edgeprune.budget.verdict` alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgeprune.budget.problem import Budget
from edgeprune.errors import UsageError

STATISTICS = ("median", "p90", "p99", "max")
"""What a latency limit may speak of. The median is judged at the device's nominal clock; the others, which are
meant for hard deadlines, over all that was observed, slow phases included."""

_LIMITS = ("latency", "flash", "ram")
_MS = {"s": 1e3, "ms": 1.0, "us": 1e-3, "µs": 1e-3, "μs": 1e-3}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([^\W\d_]+|%)")


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit in ms or bytes or, if ``relative``, a fraction of what the dense network costs on the device."""

    value: float
    relative: bool = False

    def resolve(self, dense: float | None) -> float:
        """The limit in ms or bytes, given what the dense network costs.

        Raises:
            UsageError: it is relative to a network that is not known.
        """
        if not self.relative:
            return self.value
        if dense is None:
            raise UsageError(
                "there is no dense network that a limit could be relative to", hint="give the limit in ms or bytes"
            )
        return self.value * dense


def parse_latency(text: str | float) -> Limit:
    """``"12ms"``, ``"800us"``, ``"0.5s"`` or ``12.0`` -> a limit in ms; ``"50%"`` -> a relative limit.

    Raises:
        UsageError: anything else; a bare number in a text is refused because its unit is a guess.
    """
    return _parse(text, _MS, "latency", "12ms, 800us, 0.5s or 50%")


def parse_bytes(text: str | float) -> Limit:
    """``"2MB"`` (10^6), ``"512KiB"`` (2^10), ``"900B"`` or ``900`` -> a limit in bytes; ``"50%"`` -> a relative limit.

    Raises:
        UsageError: anything else.
    """
    return _parse(text, _BYTES, "size", "2MB, 512KiB, 900B or 50%")


@dataclass(frozen=True, slots=True)
class Promise:
    """The limits of a run; None where there is none.

    Attributes:
        latency: of one inference, in ms. ``statistic`` says which latency: one of :data:`STATISTICS`.
        flash: of the program, in bytes.
        ram: what the program allocates, in bytes.
    """

    latency: Limit | None = None
    flash: Limit | None = None
    statistic: str = "median"
    ram: Limit | None = None

    def __post_init__(self) -> None:
        if self.statistic not in STATISTICS:
            raise UsageError(f"no statistic {self.statistic!r}", hint=f"choose one of {', '.join(STATISTICS)}")

    @classmethod
    def parse(
        cls,
        latency: str | float | None = None,
        flash: str | float | None = None,
        statistic: str = "median",
        ram: str | float | None = None,
    ) -> Promise:
        """The promise that a command line or a call names; a number in a call is of ms, and of bytes.

        Raises:
            UsageError: no limit at all, one that is none, or an unknown statistic.
        """
        promise = cls(
            None if latency is None else parse_latency(latency),
            None if flash is None else parse_bytes(flash),
            statistic,
            None if ram is None else parse_bytes(ram),
        )
        promise.require_limit()
        return promise

    @property
    def limits(self) -> dict[str, Limit]:
        """The limits that were asked for, by resource."""
        return {name: limit for name in _LIMITS if (limit := getattr(self, name)) is not None}

    @property
    def relative(self) -> bool:
        """Whether a limit is relative to what the dense network costs."""
        return any(limit.relative for limit in self.limits.values())

    def require_limit(self) -> None:
        """Raises UsageError where nothing is limited."""
        if not self.limits:
            raise UsageError(
                "no budget was given", hint="for example --latency 12ms, --latency 50%, --flash 2MB or --ram 512KiB"
            )

    def resolve(
        self, dense_ms: float | None, dense_flash_bytes: float | None, dense_ram_bytes: float | None = None
    ) -> Budget:
        """The limits in ms and bytes, given what the dense network costs; raises what :meth:`Limit.resolve` does."""
        return Budget(
            None if self.latency is None else self.latency.resolve(dense_ms),
            None if self.flash is None else self.flash.resolve(dense_flash_bytes),
            None if self.ram is None else self.ram.resolve(dense_ram_bytes),
        )

    def tightened(self, by: float) -> Promise:
        """Every limit lowered by this share of it."""
        lower = {name: replace(limit, value=limit.value * (1 - by)) for name, limit in self.limits.items()}
        return Promise(**lower, statistic=self.statistic)

    def to_json(self) -> dict[str, Any]:
        """The promise as JSON for a manifest and a run's record: only the limits that were asked for."""
        said = {k: {"value": v.value, "relative": v.relative} for k, v in self.limits.items()}
        return {**said, "statistic": self.statistic}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Promise:
        """Raises KeyError, TypeError, ValueError or UsageError for what :meth:`to_json` did not write."""
        limits = {
            name: Limit(float(data[name]["value"]), bool(data[name]["relative"])) for name in _LIMITS if name in data
        }
        if not all(math.isfinite(v.value) and v.value > 0 for v in limits.values()):
            raise ValueError("a limit is not a positive number")
        return cls(**limits, statistic=str(data["statistic"]))


def _parse(text: str | float, units: Mapping[str, float], kind: str, examples: str) -> Limit:
    if not isinstance(text, str):
        if math.isfinite(text) and text > 0:
            return Limit(float(text))
        raise UsageError(f"{text} is not a {kind} limit", hint=f"write for example {examples}", text=str(text))
    match = _NUMBER.fullmatch(text.strip())
    unit = match[2].lower() if match else ""
    if match and (unit == "%" or unit in units):
        value = float(match[1]) * (0.01 if unit == "%" else units[unit])
        if math.isfinite(value) and value > 0:
            return Limit(value, relative=unit == "%")
    raise UsageError(f"{text!r} is not a {kind} limit", hint=f"write for example {examples}", text=text)
