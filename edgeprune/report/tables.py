"""Tables as plain strings: the text of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from edgeprune.amounts import count, number, percent, share, size, written
from edgeprune.report.names import kernel_names

if TYPE_CHECKING:
    from edgeprune.report.schema import Data, Figure, Metric, Report, Variant, Verdict, Widths

ABSENT = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """A drawn table: every cell is finished text. Empty ``columns`` headings mean no header line."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def facts_table(facts: Mapping[str, Any], title: str = "") -> Table:
    """Facts about one thing, one a line; nested ones as ``a.b``."""
    return Table(title, ("", ""), tuple(_flat(facts)))


def verdict_table(report: Report) -> Table:
    """A line a limit, first of all that is said: its verdict, or its figure where nothing was judged."""
    lines = [verdict_line(verdict) for verdict in report.verdicts]
    if report.verdicts or report.variant("pruned") is not None:
        lines += unjudged_lines(report)
    lines += [f"on {board.url}: {verdict_line(verdict)}" for board in report.fleet for verdict in board.verdicts]
    return Table("", ("",), tuple((line,) for line in lines))


def unjudged_lines(report: Report) -> list[str]:
    """``kept, by its figure: latency 5.9 ms, measured; limit 6 ms`` for every limit that no verdict is about."""
    lines = []
    for resource, limit, f in report.unjudged:
        outcome = "not decided"
        if f is not None and not f.predicted:
            outcome = f"{'kept' if f.value <= limit else 'broken'}, by its figure"
        unit = "ms" if resource == "latency" else "bytes"
        lines.append(f"{outcome}: {resource} {figure(f)}; limit {written(limit, unit)}")
    return lines


def verdict_line(verdict: Verdict) -> str:
    """``kept: latency, median 5.83 ms (5.79 ms to 5.88 ms, 95 % confidence); limit 6 ms; measured, in turns``."""
    value, limit = written(verdict.value, verdict.unit), written(verdict.limit, verdict.unit)
    interval = ""
    if verdict.low < verdict.high:
        low, high = written(verdict.low, verdict.unit), written(verdict.high, verdict.unit)
        interval = f" ({low} to {high}, {share(verdict.confidence)} confidence)"
    what = f"latency, {verdict.statistic}" if verdict.resource == "latency" else verdict.resource
    basis = f", {verdict.basis}" if verdict.basis else ""
    return f"{verdict.outcome}: {what} {value}{interval}; limit {limit}; {verdict.evidence}{basis}"


def variants_table(variants: Iterable[Variant], accuracy_name: str = "accuracy", *, on: str) -> Table:
    """``on``: the processor, with the words that say what its figures are worth."""
    rows = (
        (
            v.name,
            *(figure(f) for f in (v.latency_ms, v.worth, v.flash_bytes, v.peak_ram_bytes)),
            count(v.macs),
            count(v.parameters),
            percent(v.sparsity),
        )
        for v in variants
    )
    columns = ("network", "latency", accuracy_name, "flash", "peak RAM", "MACs", "parameters", "sparsity")
    return Table(f"Networks on {printable(on)}", columns, tuple(rows))


def robustness_table(report: Report) -> Table:
    """How the metric holds: a line for each network that was tried under noise and on either half of the data."""
    found = [(v.name, v.robustness) for v in report.variants if v.robustness is not None]
    strengths = list(dict.fromkeys(n.strength for _, r in found for n in r.noise))
    rows = []
    for name, r in found:
        said, under = partial(_metric, r.unit), {n.strength: n.value for n in r.noise}
        values = (r.test, *(under.get(s) for s in strengths), r.train, r.gap)
        rows.append((name, *(ABSENT if v is None else said(v) for v in values), f"{r.evidence}, {r.samples} samples"))
    columns = ("network", "test half", *(f"noise {number(s)}" for s in strengths), "training half", "gap", "from")
    metric = found[0][1].metric if found else ""
    return Table(f"Robustness and generalisation: {metric}", columns, tuple(rows))


def _metric(unit: str, value: float) -> str:
    return percent(value) if unit == "fraction" else f"{number(value)} {unit}".rstrip()


def data_line(data: Data) -> str:
    """``digits, for classification: 200 samples to train on, 100 to test on; images rgb, 0 to 1, …``."""
    images = f"; images read as {data.images}" if data.images else ""
    return f"{data.name}, for {data.task}: {data.train} samples to train on, {data.test} to test on{images}"


def data_table(report: Report) -> Table:
    """One line on what the networks were judged by; empty where there were no data."""
    return Table("Data", ("",), () if report.data is None else ((data_line(report.data),),))


def compressed_line(variant: Variant) -> str:
    """``pruned: 22 constants without their zeros, 0.8 MB less flash; decoded they take 1.09 MB``; empty without any."""
    said = variant.compressed
    if said is None:
        return ""
    less = f"{said.constants} constants without their zeros, {size(said.saved_bytes)} less flash"
    return f"{variant.name}: {less}; decoded they take {size(said.decoded_bytes)}"


def compressed_table(report: Report) -> Table:
    """A line a program with compressed weights."""
    return Table("Compressed weights", ("",), tuple((line,) for line in map(compressed_line, report.variants) if line))


def rounds_table(report: Report) -> Table:
    rows = (
        (
            str(r.round),
            figure(r.predicted_ms),
            interval(r.expected_ms),
            figure(r.measured_ms),
            interval(r.interval_ms),
            cell(r.correction),
            cell(r.accepted),
        )
        for r in report.rounds
    )
    margin = "" if report.margin is None else f", {share(report.margin)} of the limit kept free"
    columns = ("round", "predicted", "expected", "measured", "interval", "correction", "accepted")
    return Table(f"Verify and re-solve{margin}", columns, tuple(rows))


def layers_table(report: Report) -> Table:
    rows = (
        (
            name,
            layer.spec,
            f"{_widths(layer.before)} → {_widths(layer.after)}",
            figure(layer.dense_ms),
            figure(layer.pruned_ms),
            figure(layer.predicted_ms),
        )
        for name, layer in zip(kernel_names(report.layers), report.layers, strict=True)
    )
    return Table("Layers", ("layer", "kernel", "widths", "dense", "pruned", "predicted"), tuple(rows))


def groups_table(report: Report) -> Table:
    rows = ((g.name, str(g.size), str(g.kept), g.frozen) for g in report.groups)
    return Table("Width groups", ("group", "size", "kept", "frozen because"), tuple(rows))


def interval(ms: tuple[float, float] | None) -> str:
    return ABSENT if ms is None else f"{number(ms[0])} to {number(ms[1])} ms"


def figure(f: Figure | Metric | None) -> str:
    """A figure in words, always with how it was obtained: ``12.3 ms (IQR 0.2), measured``."""
    if f is None:
        return ABSENT
    return f"{amount(f)}, {f.label}"


def amount(f: Figure | Metric) -> str:
    """Value, unit and spread of a figure, without its evidence."""
    if f.unit == "bytes":
        return size(f.value)
    if f.unit == "fraction":
        return percent(f.value)
    spread = getattr(f, "spread", None)
    said = f"{number(f.value)} {f.unit}".rstrip()
    return said if spread is None else f"{said} (IQR {number(spread)})"


def cell(value: Any) -> str:
    """Any JSON value as the text of one cell."""
    if value is None or value == "":
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return ", ".join(f"{k}={cell(v)}" for k, v in value.items()) or ABSENT
    if isinstance(value, (list, tuple)):
        items = [cell(v) for v in value]
        prose = any(len(item) > 40 for item in items)
        return ("\n" if prose else ", ").join(items) or ABSENT
    return str(value)


def printable(text: str) -> str:
    """The text with control characters written out: a board's name must not move the cursor."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines = []
    for key, value in facts.items():
        if isinstance(value, Mapping) and value:
            lines += _flat(value, f"{prefix}{key}.")
        else:
            lines.append((prefix + key, cell(value)))
    return lines


def _widths(widths: Widths) -> str:
    return f"{widths.out}" if widths.in_ is None else f"{widths.in_}x{widths.out}"
