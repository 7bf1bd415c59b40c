"""Numbers as text, and the tables of a report."""

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from edgeprune.amounts import count, number, size
from edgeprune.report.html import render_html
from edgeprune.report.learned import Noise, Robustness
from edgeprune.report.schema import Figure, Report
from edgeprune.report.tables import cell, figure, printable
from edgeprune.report.whole import report_tables

DOC = Path(__file__).parents[2] / "docs" / "REPORT.md"


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


ROBUST = {
    "metric": "accuracy",
    "unit": "fraction",
    "higher_is_better": True,
    "evidence": "torch",
    "samples": 100,
    "test": 0.91,
    "train": 0.99,
    "gap": 0.08,
    "noise": [{"strength": 0.1, "value": 0.9}, {"strength": 0.3, "value": 0.7}],
}


def test_robustness_is_shown_for_the_networks_that_were_tried(sample):
    """In the order of the schema; the words are the level, and a report without it is as before."""
    assert not [t for t in report_tables(Report.model_validate(sample)) if "Robustness" in t.title]
    assert "training half" not in render_html(Report.model_validate(sample))
    sample["variants"][0]["robustness"] = ROBUST
    few = {"train": None, "gap": None, "evidence": "measured", "noise": ROBUST["noise"][1:]}
    sample["variants"][1]["robustness"] = ROBUST | few
    report = Report.model_validate(sample)
    (table,) = [t for t in report_tables(report) if t.title == "Robustness and generalisation: accuracy"]
    assert table.columns == ("network", "test half", "noise 0.1", "noise 0.3", "training half", "gap", "from")
    assert table.rows == (
        ("dense", "91.00 %", "90.00 %", "70.00 %", "99.00 %", "8.00 %", "torch, 100 samples"),
        ("pruned", "91.00 %", "-", "70.00 %", "-", "-", "measured, 100 samples"),
    )
    page = render_html(report)
    assert "Computed by torch" in page
    assert all(f"<td>{value}</td>" in page for row in table.rows for value in row)
    assert Report.model_validate_json(json.dumps(report.to_json())) == report
    sample["variants"][0]["robustness"] = {**ROBUST, "unit": "dB", "test": 31.5}
    (table,) = [t for t in report_tables(Report.model_validate(sample)) if "Robustness" in t.title]
    assert table.rows[0][1] == "31.5 dB"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"gap": None}, "train and gap go together"),
        ({"train": None}, "train and gap go together"),
        ({"noise": ROBUST["noise"][::-1]}, "do not ascend"),
        ({"noise": [{"strength": 0, "value": 1}]}, "greater than 0"),
        ({"evidence": "guessed"}, "evidence"),
        ({"test": float("nan")}, "finite"),
    ],
)
def test_robustness_that_cannot_be(sample, change, why):
    sample["variants"][0]["robustness"] = {**ROBUST, **change}
    with pytest.raises(ValidationError, match=why):
        Report.model_validate(sample)


def test_the_document_names_every_field_of_robustness():
    section = re.search(r"^## Robustness\n(.*?)(?=^## )", DOC.read_text(), re.MULTILINE | re.DOTALL)[1]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(Robustness.model_fields)
    assert all(f"`{name}`" in section for name in Noise.model_fields)


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
