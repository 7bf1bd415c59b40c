"""Why widths are as they are, in tables and sentences: drawn from what the budget solver's explanation says."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune.amounts import percent, written
from edgeprune.budget.explanation import Block, Change, Channel, Group, Limit, next_to_go, next_to_keep
from edgeprune.budget.problem import CHANNELS
from edgeprune.report.explanation import Explanation
from edgeprune.report.tables import ABSENT, Table

MOST_ROWS, MOST_BREAKS = 12, 3
"""Groups in a table of the nearest, and broken limits in a sentence; all of them are in the JSON."""

_CALLED = {"latency_ms": "latency", "flash_bytes": "flash", "ram_bytes": "RAM"}
_NOISE = 1e-6
"""Of all saliency: a difference that nobody would call one."""
_DIFFERENCES = ("saliency", "latency", "flash", "RAM")


def called(row: str) -> str:
    """A row of the costs in words: ``latency``, ``RAM in conv3``."""
    resource, inside, step = row.partition(" in ")
    return _CALLED[resource] + (f" in {step}" if inside else "")


def amount(row: str, value: float, *, signed: bool = False) -> str:
    """A value of a row in its unit: ``0.35 ms``, ``+9.2 kB``."""
    value = value if abs(value) > 1e-9 else 0.0  # what is left of a sum of floats
    return ("+" if signed and value > 0 else "") + written(value, "ms" if row == "latency_ms" else "bytes")


def worth(saliency: float, *, signed: bool = False) -> str:
    """Saliency as a share of all there is, to three digits: ``0.0123 %``."""
    saliency = saliency if abs(saliency) > 1e-12 else 0.0
    return ("+" if signed and saliency > 0 else "") + f"{float(f'{saliency * 100:.3g}'):g} %"


def forced(change: Change) -> str:
    """The limit that forced a change out, or that none did."""
    if not change.breaks:
        return "nothing: it fits" if change.saliency > 0 else "it gains nothing"
    first, *others = change.breaks
    more = f", and {len(others)} more" if others else ""
    return f"{called(first.row)}, over by {amount(first.row, first.over)}{more}"


def cost(change: Change) -> str:
    """What a change costs however the rest is chosen: as it was found, or as far as it is proven."""
    low, high = change.loses_at_least, change.loses_at_most
    if change.impossible:
        return "impossible"
    if high is None:
        return f"at least {worth(low)}" if low > 0 else "nothing proven"
    if high < -_NOISE:
        return f"less than nothing: a plan with it retains {worth(-high)} more"
    return worth(high) if high - low <= _NOISE else f"{worth(low)} to {worth(high)}"


# -- tables ----------------------------------------------------------------------------------------


def limits_table(limits: Sequence[Limit]) -> Table:
    """A line for each limit, and below that of RAM one for each step of the schedule that binds, or is the fullest."""
    rows = []
    for x in limits:
        figures = (amount(x.resource, v) for v in (x.used, x.limit, x.slack))
        rows.append((called(x.resource), *figures, f"{worth(x.price)} per {x.per}"))
        for step in x.steps:
            used, slack = (amount(x.resource, v) for v in (step.used_bytes, step.slack_bytes))
            rows.append((f"  in {step.name}", used, "", slack, f"{worth(step.price)} per {x.per}"))
    columns = ("limit", "used", "of", "left", "shadow price, in saliency")
    return Table("Limits, by the tables that the solver was given", columns, tuple(rows))


def nearest_tables(groups: Sequence[Group], most: int = MOST_ROWS) -> tuple[Table, ...]:
    """The groups that were nearest to keep another level, and those nearest to lose one; empty tables are left out."""
    tables = (keep_table(groups, most), go_table(groups, most))
    return tuple(t for t in tables if t.rows)


def keep_table(groups: Sequence[Group], most: int = MOST_ROWS) -> Table:
    """The groups that were nearest to keep another level."""
    found = next_to_keep(groups)
    rows = tuple((*_moved(g, c), forced(c), cost(c)) for g, c in found[:most])
    columns = ("group", "width", *_DIFFERENCES, "forced out by", "costs")
    return Table(f"Next to be kept{_of(found, most)}", columns, rows)


def go_table(groups: Sequence[Group], most: int = MOST_ROWS) -> Table:
    """The groups that were nearest to lose another level."""
    found = next_to_go(groups)
    rows = tuple((*_moved(g, c), cost(c)) for g, c in found[:most])
    return Table(f"Next to go{_of(found, most)}", ("group", "width", *_DIFFERENCES, "costs"), rows)


def explanation_tables(said: Explanation | None) -> tuple[Table, ...]:
    """What a report says of why: its limits, and the groups nearest to keep another level; none for older reports."""
    return () if said is None else (limits_table(said.limits), keep_table(said.nearest))


def levels_table(group: Group) -> Table:
    """All levels of a group."""
    columns = ("width", *_DIFFERENCES, "forced out by", "any plan retains at most", "costs")
    rows = []
    for x in group.levels:
        if x.change is None:
            rows.append((str(x.width), "chosen", *[""] * (len(columns) - 2)))
            continue
        why = forced(x.change) if x.width > group.width else ABSENT
        rows.append((str(x.width), *_differences(x.change), why, percent(x.change.at_most), cost(x.change)))
    said = (
        f"{group.width} of {group.size} channels"
        if group.unit == CHANNELS
        else f"{group.width} {group.unit} of its blocks"
    )
    return Table(f"{group.name}: {said}", columns, tuple(rows))


def blocks_table(blocks: Sequence[Block]) -> Table:
    """Blocks that went, if they were put back, and blocks that stay, if they went; the removed ones first."""
    rows = tuple(
        (
            ", ".join(b.groups),
            "put back, at its narrowest" if b.removed else "taken away",
            *_differences(b.change),
            forced(b.change) if b.removed else ABSENT,
            cost(b.change),
        )
        for b in sorted(blocks, key=lambda b: (not b.removed, b.change.behind))
    )
    return Table("Blocks", ("block", "if it were", *_DIFFERENCES, "forced out by", "costs"), rows)


def _moved(group: Group, change: Change) -> tuple[str, ...]:
    return (group.name, f"{group.width} → {change.widths[group.name]}", *_differences(change))


def _differences(change: Change) -> tuple[str, ...]:
    return (
        worth(change.saliency, signed=True),
        amount("latency_ms", change.latency_ms, signed=True),
        amount("flash_bytes", change.flash_bytes, signed=True),
        ABSENT if change.ram_bytes is None else amount("ram_bytes", change.ram_bytes, signed=True),
    )


def _of(found: Sequence[object], most: int) -> str:
    return f", {most} of {len(found)} groups" if len(found) > most else ""


# -- sentences -------------------------------------------------------------------------------------


def prices_sentence(limits: Sequence[Limit], *, certified: bool) -> str:
    """Which limits bind, what more of them would gain at most, and where the prices are from."""
    priced = [x for x in limits if x.price > 0]
    if not priced:
        return "No limit binds: more of any would gain nothing."
    said = ", and ".join(
        f"{called(x.resource)}{f' in {x.steps[0].name}' if x.steps else ''} (one {x.per} more gains "
        f"{worth(x.price)} of the saliency at most, beyond the gap)"
        for x in priced
    )
    source = "those of the plan's certificate" if certified else "computed afterwards: the plan has no certificate"
    return f"What binds is {said}. The prices are {source}."


def explanation_sentence(said: Explanation) -> str:
    """What binds, and of which plan that is said."""
    binding = prices_sentence(said.limits, certified=said.certified)
    words = f"By the profile's figures (predicted, {said.evidence}): {binding}"
    if not said.made_smaller:
        return words
    times = "once" if said.made_smaller == 1 else f"{said.made_smaller} times"
    return (
        f"{words} This is of the plan before the network was made smaller {times}, for it broke a limit on the device."
    )


def change_sentence(group: Group, change: Change) -> str:
    """Another level of a group in words: what it does, what forbids it, what it costs at least."""
    width, wider = change.widths[group.name], change.widths[group.name] > group.width
    others = [name for name in change.widths if name != group.name]
    _, latency, flash, ram = _differences(change)
    named = f"{width} channels" if group.unit == CHANNELS else f"{width} {group.unit} of its blocks"
    words = f"{named} would {'gain' if wider else 'lose'} {worth(abs(change.saliency))} of the saliency"
    words += f" (together with {', '.join(others)})" if others else ""
    words += f": {latency}, {flash} of flash"
    words += "" if change.ram_bytes is None else f", {ram} of RAM"
    broken = [f"{called(b.row)} would be over its limit by {amount(b.row, b.over)}" for b in change.breaks]
    if broken:
        words += f"; {', '.join(broken[:MOST_BREAKS])}"
        words += f" and {len(broken) - MOST_BREAKS} more" if len(broken) > MOST_BREAKS else ""
    elif wider:
        words += "; by the tables it would break no limit"
    plan = f"a plan with {width} or {'more' if wider else 'fewer'}"
    low, high = change.loses_at_least, change.loses_at_most
    if change.impossible:
        return f"{words}. It is proven that {plan} cannot keep the limits, however the rest is chosen."
    if low > 0:
        words += f". However the rest is chosen, {plan} retains {percent(change.at_most)} at most, {worth(low)} less "
        words += "than this one"
    else:
        words += f". It is not proven that {plan} has to retain less than this one"
    if high is None or abs(high - low) <= _NOISE:
        return f"{words}."
    return f"{words}; the best one found retains {worth(abs(high))} {'less' if high >= 0 else 'more'}."


def channel_sentence(channel: Channel, group: Group) -> str:
    """Why one channel stays or goes."""
    words = (
        f"Channel {channel.channel} of {channel.group} is {'kept' if channel.kept else 'removed'}: it has "
        f"{worth(channel.saliency)} of the saliency, rank {channel.rank} of {channel.size} in its group, of which "
        f"{group.width} are kept, and rank {channel.network_rank} of {channel.network_size} in the network."
    )
    if channel.kept and channel.removed_above:
        words += f" {channel.removed_above} channels of other groups have more saliency and are removed."
    if not channel.kept and channel.kept_below:
        words += f" {channel.kept_below} channels of other groups have less saliency and are kept."
    if channel.level is None or channel.level.change is None:
        return f"{words} {'Every' if channel.kept else 'No'} width that was offered keeps it."
    decides = "widest width without it" if channel.kept else "narrowest width that keeps it"
    return f"{words} The {decides} is {channel.level.width}: {change_sentence(group, channel.level.change)}"
