"""Numbers as text, and the tables of a report."""

import pytest

from edgeprune.amounts import count, number, size
from edgeprune.report.schema import Figure, Report
from edgeprune.report.tables import cell, figure, printable
from edgeprune.report.whole import report_tables


def test_every_figure_is_shown_with_how_it_was_obtained(report):
    networks = report_tables(report)[1]
    assert networks.columns[2] == "top-1 accuracy"
    dense = dict(zip(networks.columns, networks.rows[0], strict=True))
    assert dense["latency"] == "12.4 ms (IQR 0.25), simulated"
    assert dense["top-1 accuracy"] == "91.20 %, measured"
    assert dense["flash"] == "1.2 MB, compiled"
    assert dense["MACs"] == "69.3 M"


def test_predictions_say_so(report):
    rounds = next(t for t in report_tables(report) if "re-solve" in t.title)
    assert rounds.rows[0] == (
        "1",
        "5.8 ms, predicted (simulated)",
        "-",
        "6.3 ms, simulated",
        "6.25 to 6.35 ms",
        "1.09",
        "no",
    )


def test_every_row_has_a_cell_a_column(report):
    tables = report_tables(report)
    assert [len(t.rows) for t in tables] == [2, 3, 2, 4, 2]
    assert all(len(row) == len(t.columns) for t in tables for row in t.rows)


def test_what_was_not_taken_is_left_out(sample):
    sample |= {"layers": [], "groups": [], "rounds": [], "variants": sample["variants"][:1]}
    sample["variants"][0] |= {"accuracy": None, "latency_ms": None}
    (only,) = report_tables(Report.model_validate(sample))
    assert only.rows[0][:3] == ("dense", "-", "-")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (12.345678, "12.35"), (123456.7, "123457"), (999.96, "1000"), (0.001234, "0.001234"), (-5.0, "-5")],
)
def test_number(value, text):
    assert number(value) == text


def test_sizes_and_counts():
    sizes = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 142_049: "142.0 kB", 2.93e6: "2.9 MB", 8e9: "8.0 GB"}
    assert {n: size(n) for n in sizes} == sizes
    assert [count(n) for n in (12, 69_300_000)] == ["12", "69.3 M"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), ("", "-"), ([], "-"), ({}, "-"), (True, "yes"), (3, "3"), ([1, 2.5], "1, 2.5"), ({"a": [1]}, "a=1")],
)
def test_cell(value, text):
    assert cell(value) == text


def test_prose_gets_a_line_an_item():
    assert cell(["short", "x" * 50]) == "short\n" + "x" * 50


def test_control_characters_are_written_out():
    assert printable("board\x1b[2J\r\x07 é→\n") == "board\\x1b[2J\\r\\x07 é→\n"


def test_no_figure_without_a_level_in_text():
    for evidence in ("measured", "emulated", "simulated", "compiled"):
        assert evidence in figure(Figure(value=1, unit="ms", evidence=evidence))
