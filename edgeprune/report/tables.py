"""Tables as plain strings: the text of a report, and the one place where numbers are written out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeprune.report.schema import Figure, Report, Variant, Widths

ABSENT = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """A drawn table: every cell is finished text. Empty ``columns`` headings mean no header line."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def report_tables(report: Report) -> tuple[Table, ...]:
    """The report for a terminal: variants, rounds, layers, groups; empty tables are left out."""
    tables = (
        variants_table(report.variants, report.accuracy_name, on=report.device.processor),
        rounds_table(report),
        layers_table(report),
        groups_table(report),
    )
    return tuple(t for t in tables if t.rows)


def variants_table(variants: Iterable[Variant], accuracy_name: str = "accuracy", *, on: str) -> Table:
    """``on``: the processor, with the words that say what its figures are worth."""
    rows = (
        (
            v.name,
            *(figure(f) for f in (v.latency_ms, v.accuracy, v.flash_bytes, v.peak_ram_bytes)),
            count(v.macs),
            count(v.parameters),
            percent(v.sparsity),
        )
        for v in variants
    )
    columns = ("network", "latency", accuracy_name, "flash", "peak RAM", "MACs", "parameters", "sparsity")
    return Table(f"Networks on {printable(on)}", columns, tuple(rows))


def rounds_table(report: Report) -> Table:
    rows = (
        (str(r.round), figure(r.predicted_ms), figure(r.measured_ms), cell(r.correction), cell(r.accepted))
        for r in report.rounds
    )
    return Table("Verify and re-solve", ("round", "predicted", "measured", "correction", "accepted"), tuple(rows))


def layers_table(report: Report) -> Table:
    rows = (
        (
            layer.node,
            layer.spec,
            f"{_widths(layer.before)} → {_widths(layer.after)}",
            figure(layer.dense_ms),
            figure(layer.pruned_ms),
            figure(layer.predicted_ms),
        )
        for layer in report.layers
    )
    return Table("Layers", ("layer", "kernel", "widths", "dense", "pruned", "predicted"), tuple(rows))


def groups_table(report: Report) -> Table:
    rows = ((g.name, str(g.size), str(g.kept), g.frozen) for g in report.groups)
    return Table("Width groups", ("group", "size", "kept", "frozen because"), tuple(rows))


def figure(f: Figure | None) -> str:
    """A figure in words, always with how it was obtained: ``12.3 ms (IQR 0.2), measured``."""
    if f is None:
        return ABSENT
    return f"{amount(f)}, {f.label}"


def amount(f: Figure) -> str:
    """Value, unit and spread of a figure, without its evidence."""
    if f.unit == "bytes":
        return size(f.value)
    if f.unit == "fraction":
        return percent(f.value)
    spread = f" (IQR {number(f.spread)})" if f.spread is not None else ""
    return f"{number(f.value)} {f.unit}{spread}"


def number(value: float) -> str:
    """Four significant digits, and never fewer than all the whole ones."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def percent(fraction: float) -> str:
    return f"{fraction * 100:.2f} %"


def count(n: int) -> str:
    """``69.3 M``; exact below a thousand."""
    return _scaled(n, "")


def size(n: float) -> str:
    """Bytes in powers of ten, as storage is sold: ``142.0 kB``."""
    return _scaled(n, "B")


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


def _scaled(n: float, unit: str) -> str:
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(n) >= factor:
            return f"{n / factor:.1f} {prefix}{unit}"
    return f"{n:.0f} {unit}".rstrip()


def _widths(widths: Widths) -> str:
    return f"{widths.out}" if widths.in_ is None else f"{widths.in_}x{widths.out}"
