"""The section of a report that says why widths are as they are: words, tables, plots, and what reports had before."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError
from test_report_html import Page
from test_report_plots import overlaps

from edgeprune.budget import explanation as why
from edgeprune.report.explained import (
    change_sentence,
    channel_sentence,
    cost,
    explanation_sentence,
    forced,
    levels_table,
    limits_table,
    nearest_tables,
    worth,
)
from edgeprune.report.explanation import Explanation
from edgeprune.report.html import render_html
from edgeprune.report.plots.explanation import MOST_ROWS, draw_levels, draw_next
from edgeprune.report.schema import Report
from edgeprune.report.whole import report_tables

DOCS = Path(__file__).parents[2] / "docs"


def change(width: int, saliency: float, **more: object) -> why.Change:
    breaks = (why.Break("ram_bytes in conv3", 1200.0), why.Break("latency_ms", 0.2))
    found = why.Change(
        {"g": width},
        saliency,
        0.35,
        9200.0,
        1500.0,
        {"latency_ms": 0.004, "ram_bytes": -0.001},
        breaks if saliency > 0 else (),
        "ram_bytes in conv3" if saliency > 0 else None,
        0.931,
        0.0008,
        0.0,
    )
    return replace(found, **more)


def group(name: str = "g", *, behind: float = 0.0) -> why.Group:
    wider = replace(change(32, 0.0041, behind=behind), widths={name: 32})
    narrower = replace(change(16, -0.005, behind=behind), widths={name: 16})
    return why.Group(name, 64, 24, 0.02, 0.03, (why.Level(16, narrower), why.Level(24, None), why.Level(32, wider)))


STEPS = (why.Step("conv3", 99_000.0, 1_000.0, 2e-5), why.Step("stem", 98_000.0, 2_000.0, 0.0))
LIMITS = (
    why.Limit("latency_ms", 12.0, 11.9, 0.1, 0.0063, "ms"),
    why.Limit("ram_bytes", 1e5, 99_000.0, 1_000.0, 2e-5, "KiB", STEPS),
)
EXPLANATION = Explanation(
    evidence="simulated", saliency=0.93, bound=0.9301, certified=True, limits=LIMITS, nearest=(group(),)
)


@pytest.fixture
def explained(sample) -> Report:
    return Report.model_validate({**sample, "explanation": EXPLANATION.model_dump(mode="json")})


def test_a_report_keeps_it_through_json(explained):
    assert explained.explanation == EXPLANATION
    assert Report.model_validate_json(json.dumps(explained.to_json(), allow_nan=False)) == explained


def test_a_report_from_before_has_none(report):
    assert report.explanation is None
    assert "Why these widths" not in Page(render_html(report)).text
    assert not [t for t in report_tables(report) if "Next to be kept" in t.title]


@pytest.mark.parametrize(
    ("where", "field", "value"),
    [((), "evidence", None), (("limits", 0), "watts", 1.0), (("limits", 0), "price", float("nan"))],
)
def test_what_is_no_explanation_is_refused(sample, where, field, value):
    sample["explanation"] = part = EXPLANATION.model_dump(mode="json")
    for key in where:
        part = part[key]
    part[field] = value
    with pytest.raises(ValidationError, match=field):
        Report.model_validate(sample)


def test_the_page_says_what_binds_and_what_was_next(explained):
    text = " ".join(Page(render_html(explained)).text.split())
    for words in (
        "Why these widths",
        "predicted, simulated",
        "latency (one ms more gains 0.63 % of the saliency at most",
        "RAM in conv3 (one KiB more gains 0.002 %",
        "24 → 32",
        "RAM in conv3, over by 1.2 kB, and 1 more",
    ):
        assert words in text
    assert [t.title for t in report_tables(explained)][-1] == "Next to be kept"


def test_names_are_text(sample):
    evil = "<b onclick=x>$\\frac{1}{0}$"
    step = why.Limit("ram_bytes", 1.0, 1.0, 0.0, 1.0, "KiB", (why.Step(evil, 1.0, 0.0, 1.0),))
    said = EXPLANATION.model_copy(update={"limits": (step,), "nearest": (group(evil),)})
    page = Page(render_html(Report.model_validate({**sample, "explanation": said.model_dump(mode="json")})))
    assert page.text.count(evil) == 3
    assert "onclick" not in dict(page.attributes)


def test_a_network_made_smaller_is_said():
    assert "made smaller" not in explanation_sentence(EXPLANATION)
    assert "made smaller once" in explanation_sentence(EXPLANATION.model_copy(update={"made_smaller": 1}))
    assert "made smaller 3 times" in explanation_sentence(EXPLANATION.model_copy(update={"made_smaller": 3}))


def test_steps_stand_below_their_limit():
    assert [row[0] for row in limits_table(LIMITS).rows] == ["latency", "RAM", "  in conv3", "  in stem"]


def test_only_the_nearest_are_listed():
    groups = [group(f"g{i}", behind=20.0 - i) for i in range(20)]
    keep, go = nearest_tables(groups, most=3)
    assert [row[0] for row in keep.rows] == [row[0] for row in go.rows] == ["g19", "g18", "g17"]
    assert keep.title == "Next to be kept, 3 of 20 groups"
    assert nearest_tables([]) == ()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "at least 0.08 %"),
        ({"loses_at_least": 0.0}, "nothing proven"),
        ({"loses_at_most": 0.0008}, "0.08 %"),
        ({"loses_at_most": 0.0012}, "0.08 % to 0.12 %"),
        ({"loses_at_least": 0.0, "loses_at_most": -0.01}, "less than nothing: a plan with it retains 1 % more"),
        ({"impossible": True}, "impossible"),
    ],
)
def test_what_a_change_costs(more, words):
    assert cost(change(32, 0.0041, **more)) == words


def test_what_forced_a_change_out():
    assert forced(change(32, 0.0041)) == "RAM in conv3, over by 1.2 kB, and 1 more"
    assert forced(change(32, 0.0041, breaks=(), forced_by=None)) == "nothing: it fits"
    assert forced(change(32, 0.0, breaks=(), forced_by=None)) == "it gains nothing"


def test_a_level_in_words():
    said = change_sentence(group(), change(32, 0.0041))
    for words in (
        "32 channels would gain 0.41 % of the saliency: +0.35 ms, +9.2 kB of flash, +1.5 kB of RAM",
        "RAM in conv3 would be over its limit by 1.2 kB, latency would be over its limit by 0.2 ms",
        "a plan with 32 or more retains 93.10 % at most, 0.08 % less than this one.",
    ):
        assert words in said
    assert "by the tables it would break no limit" in change_sentence(group(), change(32, 0.1, breaks=()))
    assert "(together with h)" in change_sentence(group(), change(32, 0.1, widths={"g": 32, "h": 8}))
    assert "not proven that a plan with 16 or fewer" in change_sentence(group(), change(16, -0.1, loses_at_least=0.0))
    assert "cannot keep the limits" in change_sentence(group(), change(32, 0.1, impossible=True))
    assert "the best one found retains 0.2 % less" in change_sentence(group(), change(32, 0.1, loses_at_most=0.002))


def test_a_channel_in_words():
    level = why.Level(32, change(32, 0.0041))
    removed = why.Channel("g", 7, False, 0.0002, 30, 64, 410, 900, 12, 0, level)
    said = channel_sentence(removed, group())
    for words in ("Channel 7 of g is removed", "rank 30 of 64", "12 channels of other groups", "keeps it is 32:"):
        assert words in said
    kept = why.Channel("g", 0, True, 0.01, 1, 64, 1, 900, 0, 0, None)
    assert "Every width that was offered keeps it" in channel_sentence(kept, group())


def test_the_chosen_level_is_marked():
    assert [row[1] for row in levels_table(group()).rows] == ["-0.5 %", "chosen", "+0.41 %"]


@pytest.mark.parametrize(("value", "words"), [(0.0, "0 %"), (-1e-15, "0 %"), (1.23456e-7, "1.23e-05 %"), (0.5, "50 %")])
def test_saliency_has_three_digits(value, words):
    assert worth(value) == words


@pytest.mark.parametrize("count", [1, 5, 60])
def test_labels_of_the_plots_lie_apart(count):
    canvas = draw_next([group(f"backbone.stage.{i}.block.conv$\\frac{{", behind=float(i)) for i in range(count)])
    assert overlaps(canvas) == []
    assert len(canvas.axes[0].get_yticks()) == min(count, MOST_ROWS)
    assert overlaps(draw_levels(group())) == []
    assert draw_next([]) is None


@pytest.mark.parametrize(
    ("model", "page"),
    [
        (Explanation, "REPORT.md"),
        (why.Limit, "EXPLAIN.md"),
        (why.Step, "EXPLAIN.md"),
        (why.Group, "EXPLAIN.md"),
        (why.Level, "EXPLAIN.md"),
        (why.Change, "EXPLAIN.md"),
        (why.Break, "EXPLAIN.md"),
        (why.Block, "EXPLAIN.md"),
        (why.Channel, "EXPLAIN.md"),
    ],
)
def test_the_documents_name_every_field(model, page):
    text = (DOCS / page).read_text(encoding="utf-8")
    section = re.search(rf"^#+ {model.__name__}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"docs/{page} has no section {model.__name__}"
    rows = re.findall(r"^\| (`.*?) \|", section[1], re.MULTILINE)
    fields = getattr(model, "model_fields", None) or model.__dataclass_fields__
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(fields)
