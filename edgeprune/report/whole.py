"""The whole report as tables, for a terminal."""

from __future__ import annotations

from edgeprune.report.explained import explanation_tables
from edgeprune.report.schema import Report
from edgeprune.report.tables import (
    Table,
    compressed_table,
    data_table,
    groups_table,
    layers_table,
    robustness_table,
    rounds_table,
    variants_table,
    verdict_table,
)


def report_tables(report: Report) -> tuple[Table, ...]:
    """The report for a terminal: verdict, variants, robustness, rounds, layers, groups, why; empty tables not."""
    tables = (
        verdict_table(report),
        variants_table(report.variants, report.accuracy_name, on=report.device.processor),
        robustness_table(report),
        compressed_table(report),
        data_table(report),
        rounds_table(report),
        layers_table(report),
        groups_table(report),
        *explanation_tables(report.explanation),
    )
    return tuple(t for t in tables if t.rows)
