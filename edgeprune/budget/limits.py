"""Budgets as people write them: ``12ms``, ``0.5s``, ``2MB``, ``512KiB``, ``50%``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from edgeprune.errors import UsageError

_MS = {"s": 1e3, "ms": 1.0, "us": 1e-3, "µs": 1e-3, "μs": 1e-3}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([^\W\d_]+|%)")


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit in ms or bytes or, if ``relative``, a fraction of what the dense network costs on the device."""

    value: float
    relative: bool = False

    def resolve(self, dense: float) -> float:
        """The limit in ms or bytes, given what the dense network was measured to cost."""
        return self.value * dense if self.relative else self.value


def parse_latency(text: str) -> Limit:
    """``"12ms"``, ``"800us"``, ``"0.5s"`` -> a limit in ms; ``"50%"`` -> a relative limit.

    Raises:
        UsageError: anything else; a bare number is refused because its unit is a guess.
    """
    return _parse(text, _MS, "latency", "12ms, 800us, 0.5s or 50%")


def parse_bytes(text: str) -> Limit:
    """``"2MB"`` (10^6), ``"512KiB"`` (2^10), ``"900B"`` -> a limit in bytes; ``"50%"`` -> a relative limit.

    Raises:
        UsageError: anything else.
    """
    return _parse(text, _BYTES, "size", "2MB, 512KiB, 900B or 50%")


def _parse(text: str, units: Mapping[str, float], kind: str, examples: str) -> Limit:
    match = _NUMBER.fullmatch(text.strip())
    unit = match[2].lower() if match else ""
    if match and (unit == "%" or unit in units):
        value = float(match[1]) * (0.01 if unit == "%" else units[unit])
        if math.isfinite(value) and value > 0:
            return Limit(value, relative=unit == "%")
    raise UsageError(f"{text!r} is not a {kind} limit", hint=f"write for example {examples}", text=text)
