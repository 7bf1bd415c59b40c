"""What a board shows of its clocks and its heat while it measures; asked with one command, like its description.

Sources: the kernel's cpufreq policies, its thermal zones, the throttle counters of x86 cores (Documentation/
admin-guide/pm/cpufreq.rst, driver-api/thermal/sysfs-api.rst), and the firmware of a Raspberry Pi, whose word has bit n
set while a cause of throttling is there and bit n + 16 once it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from edgeprune.devices.protocol import Completed
from edgeprune.jsonable import Jsonable

_CPU = "/sys/devices/system/cpu"
_ASK = (
    f"grep -sH '' {_CPU}/cpufreq/policy*/scaling_governor {_CPU}/cpufreq/policy*/scaling_cur_freq "
    f"{_CPU}/cpu*/thermal_throttle/core_throttle_count /sys/class/thermal/thermal_zone*/temp "
    "/sys/devices/platform/soc/soc:firmware/get_throttled"
)
_BELIEVED_C = (-40.0, 150.0)
"""Sensors that nothing is connected to say 0, absolute zero, or the end of their register."""
_NOW, _EVER = 0xF, 0xF0000


@dataclass(frozen=True, slots=True)
class Conditions(Jsonable):
    """What a board showed of itself from its first batch to its last.

    Attributes:
        since, until: ISO 8601, UTC.
        governors: that were seen, sorted; empty where the kernel sets no clocks.
        clock_mhz: the lowest and the highest clock of its fastest core, looked at as batches ended.
        temperature_c: of its hottest sensor, the lowest and the highest.
        throttled: whether heat or an undervoltage held it back meanwhile; None where it does not tell.
    """

    since: str
    until: str
    governors: tuple[str, ...] = ()
    clock_mhz: tuple[float, float] | None = None
    temperature_c: tuple[float, float] | None = None
    throttled: bool | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a board shows at one moment; ``throttles`` counts how often it was held back since it was switched on."""

    at: datetime
    governors: frozenset[str] = frozenset()
    clock_mhz: float | None = None
    temperature_c: float | None = None
    throttles: int | None = None
    throttled: bool = False

    @property
    def empty(self) -> bool:
        return not self.governors and self.clock_mhz is self.temperature_c is self.throttles is None


def read_conditions(run: Callable[[Sequence[str]], Completed]) -> Reading:
    """Ask a board once; what it does not show is left out.

    Raises:
        DeviceError: what ``run`` raises.
    """
    found: dict[str, list[str]] = {}
    for line in run(("sh", "-c", _ASK)).stdout.splitlines():
        path, _, value = line.rpartition(":")
        found.setdefault(path.rpartition("/")[2], []).append(value.strip())
    heat = [t for text in found.get("temp", ()) if _believed(t := _milli(text))]
    clocks = [clock for text in found.get("scaling_cur_freq", ()) if (clock := _milli(text)) > 0]
    word = next((int(w, 16) for w in found.get("get_throttled", ()) if re.fullmatch("[0-9a-fA-F]{1,8}", w)), None)
    counts = [int(text) for text in found.get("core_throttle_count", ()) if text.isdecimal()]
    if word is not None:
        counts.append((word & _EVER).bit_count())
    return Reading(
        datetime.now(UTC),
        frozenset(g for g in found.get("scaling_governor", ()) if re.fullmatch(r"\w{1,32}", g)),
        max(clocks, default=None),
        max(heat, default=None),
        sum(counts) if counts else None,
        bool(word and word & _NOW),
    )


def _milli(text: str) -> float:
    """Thousandths, as the kernel writes them; NaN where it writes something else."""
    return int(text) / 1000 if re.fullmatch(r"-?\d{1,12}", text) else float("nan")


def _believed(temperature_c: float) -> bool:
    low, high = _BELIEVED_C
    return low < temperature_c < high and temperature_c != 0


@dataclass
class Watch:
    """Looks at a board from time to time. One that shows nothing is not asked again."""

    run: Callable[[Sequence[str]], Completed]
    readings: list[Reading] = field(default_factory=list)
    blind: bool = False

    def look(self) -> None:
        """Raises DeviceError: the board is gone."""
        if not self.blind:
            reading = read_conditions(self.run)
            self.blind = reading.empty
            self.readings += [] if reading.empty else [reading]

    @property
    def conditions(self) -> Conditions | None:
        """All that was seen; None if nothing was."""
        if not self.readings:
            return None
        first, last = self.readings[0], self.readings[-1]
        counts = [r.throttles for r in self.readings if r.throttles is not None]
        return Conditions(
            first.at.isoformat(),
            last.at.isoformat(),
            tuple(sorted(frozenset[str]().union(*(r.governors for r in self.readings)))),
            _range(r.clock_mhz for r in self.readings),
            _range(r.temperature_c for r in self.readings),
            counts[-1] > counts[0] or any(r.throttled for r in self.readings) if counts else None,
        )


def _range(values: Iterable[float | None]) -> tuple[float, float] | None:
    seen = [v for v in values if v is not None]
    return (min(seen), max(seen)) if seen else None
