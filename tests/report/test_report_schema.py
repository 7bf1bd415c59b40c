"""The report schema: nothing lost on the way through JSON, nothing doubtful let in."""

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError
from report_samples import TABLE

from edgeprune.errors import BadInputError
from edgeprune.report import schema
from edgeprune.report.schema import Report, read_report

DOC = Path(__file__).parents[2] / "docs" / "REPORT.md"
MODELS = [
    m
    for m in vars(schema).values()
    if isinstance(m, type) and issubclass(m, BaseModel) and m.__module__ == schema.__name__ and m.__name__[0] != "_"
]


def every_figure(node, path=""):
    """(path, figure) of every figure in a report's JSON."""
    if isinstance(node, dict):
        if "evidence" in node and "value" in node:
            yield path, node
        for key, value in node.items():
            yield from every_figure(value, f"{path}/{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from every_figure(value, f"{path}/{i}")


def test_json_round_trip(report):
    text = json.dumps(report.to_json())
    assert Report.model_validate_json(text) == report
    assert json.loads(text)["schema"] == "edgeprune.report/2"
    assert json.loads(text)["layers"][0]["before"] == {"in": 16, "out": 16}


def test_no_figure_without_evidence(sample):
    figures = list(every_figure(sample))
    assert len(figures) == 28
    for path, figure in figures:
        evidence = figure.pop("evidence")
        with pytest.raises(ValidationError, match="evidence"):
            Report.model_validate(sample)
        figure["evidence"] = "guessed"
        with pytest.raises(ValidationError, match="evidence"):
            Report.model_validate(sample)
        figure["evidence"] = evidence
        assert path
    Report.model_validate(sample)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "fast"])
def test_a_figure_is_a_finite_number(sample, value):
    sample["variants"][0]["latency_ms"]["value"] = value
    with pytest.raises(ValidationError, match="latency_ms"):
        Report.model_validate(sample)


def test_a_prediction_cannot_pass_as_an_observation(sample):
    sample["layers"][0]["predicted_ms"]["predicted"] = False
    with pytest.raises(ValidationError, match="predicted"):
        Report.model_validate(sample)


@pytest.mark.parametrize(
    ("where", "key", "message"), [("layers", "node", "layer"), ("groups", "name", "group"), ("variants", "name", "")]
)
def test_names_are_unique(sample, where, key, message):
    sample[where][1][key] = sample[where][0][key]
    with pytest.raises(ValidationError, match=rf"{message}.* named twice: {sample[where][0][key]}"):
        Report.model_validate(sample)


def test_a_group_keeps_no_more_than_it_has(sample):
    sample["groups"][0]["kept"] = 17
    with pytest.raises(ValidationError, match="g0 keeps 17 of 16"):
        Report.model_validate(sample)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"node": "conv9"}, "no layer: conv9"),
        ({"latency_ms": [[0.1, 0.2, 0.3]]}, "not 4 x 3"),
        ({"timed": [[0, 3]]}, "beyond its widths"),
        ({"out": [8, 8, 32]}, "do not ascend"),
        ({"latency_ms": [[-0.1, 0, 0]] * 4}, "greater than"),
    ],
)
def test_a_table_that_cannot_be(sample, change, message):
    sample["tables"] = [TABLE]
    assert Report.model_validate(sample).tables[0].node == TABLE["node"]
    sample["tables"] = [{**TABLE, **change}]
    with pytest.raises(ValidationError, match=message):
        Report.model_validate(sample)


def test_unknown_fields_and_other_schemas_are_refused(sample):
    with pytest.raises(ValidationError, match="speed"):
        Report.model_validate({**sample, "speed": 1})
    with pytest.raises(ValidationError, match="schema"):
        Report.model_validate({**sample, "schema": "edgeprune.report/1"})


@pytest.mark.parametrize(
    ("latency", "flash", "met"), [(5.9, 8e5, True), (6.0, 8e5, True), (6.01, 8e5, False), (5.9, 8.1e5, False)]
)
def test_met_is_the_budget_against_the_pruned_network(sample, latency, flash, met):
    sample["variants"][1]["latency_ms"]["value"] = latency
    sample["variants"][1]["flash_bytes"]["value"] = flash
    assert Report.model_validate(sample).met is met


def test_met_is_open_while_only_predicted_or_missing(sample):
    pruned = sample["variants"][1]
    pruned["latency_ms"]["predicted"] = True
    assert Report.model_validate(sample).met is None
    pruned["latency_ms"] = None
    assert Report.model_validate(sample).met is None
    pruned["flash_bytes"]["value"] = 9e5
    assert Report.model_validate(sample).met is False, "one limit is known to be broken"
    sample["variants"] = sample["variants"][:1]
    assert Report.model_validate(sample).met is None


@pytest.mark.parametrize(
    ("content", "message"), [(None, "No such file"), (b"{", "JSON"), (b'{"schema": 1}', "model: Field required")]
)
def test_a_bad_file_is_named(tmp_path, content, message):
    path = tmp_path / "report.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInputError, match=message) as caught:
        read_report(path)
    assert caught.value.details["file"] == str(path)
    assert caught.value.hint


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_the_document_names_every_field(model):
    if model is schema.Prediction:
        model = schema.Figure
    section = re.search(rf"^## {model.__name__}\n(.*?)(?=^## |\Z)", DOC.read_text(), re.MULTILINE | re.DOTALL)
    assert section, f"docs/REPORT.md has no section {model.__name__}"
    rows = re.findall(r"^\| (`.*?) \|", section[1], re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert documented == {field.alias or name for name, field in model.model_fields.items()}


@pytest.mark.parametrize(
    ("outcomes", "met"),
    [
        (("kept", "kept"), True),
        (("kept", "broken"), False),
        (("not decidable", "broken"), False),
        (("kept", "not decidable"), None),
    ],
)
def test_met_is_what_the_verdicts_say(judged, outcomes, met):
    judged["variants"][1]["latency_ms"]["value"] = 99.0  # a figure has no say where a verdict has
    flash = {"resource": "flash", "unit": "bytes", "value": 5.4e5, "low": 5.4e5, "high": 5.4e5, "limit": 8e5}
    judged["verdicts"].append(judged["verdicts"][0] | flash)
    for verdict, outcome in zip(judged["verdicts"], outcomes, strict=True):
        verdict["outcome"] = outcome
    assert Report.model_validate(judged).met is met


def test_a_limit_without_a_verdict_is_not_forgotten(judged):
    assert Report.model_validate(judged).met is True
    judged["variants"][1]["flash_bytes"]["value"] = 9e5
    assert Report.model_validate(judged).met is False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": 5.96}, "interval of latency"),
        ({"unit": "bytes"}, "not a matter of bytes"),
        ({"resource": "flash", "unit": "bytes", "relative_to": 12.0}, "relative_to"),
        ({"outcome": "met"}, "outcome"),
        ({"confidence": 95}, "confidence"),
    ],
)
def test_a_verdict_that_contradicts_itself(judged, change, message):
    judged["verdicts"][0] |= change
    with pytest.raises(ValidationError, match=message):
        Report.model_validate(judged)


def test_a_limit_is_judged_once(judged):
    judged["verdicts"] *= 2
    with pytest.raises(ValidationError, match="verdict named twice: latency median"):
        Report.model_validate(judged)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 11}, "holds 10 of 11"),
        ({"histogram": [[6.0, 5], [5.9, 5]]}, "ascend"),
        ({"histogram": []}, "histogram"),
        ({"histogram": [[i, 1] for i in range(41)], "samples": 41}, "at most 40"),
        ({"p90_ms": 5.0}, "ascend"),
        ({"states": [{"slowdown": 0.9, "share": 1, "median_ms": 5.9}]}, "slowdown"),
        ({"states": [{"slowdown": s, "share": 0.6, "median_ms": 5.9} for s in (1, 1.1)]}, "more than all"),
    ],
)
def test_a_distribution_adds_up(judged, change, message):
    judged["variants"][1]["distribution"] |= change
    with pytest.raises(ValidationError, match=message):
        Report.model_validate(judged)


@pytest.mark.parametrize(
    ("where", "ghost"),
    [
        (("model",), {"sha256": ""}),
        (("variants", 0), {"robustness": {}}),  # which is filled, or not there
        (("variants", 0, "latency_ms"), {"where": "host"}),
        (("variants", 0, "accuracy"), {"unit": "perplexity"}),
        (("variants", 0, "accuracy"), {"unit": "distance"}),
        (("variants", 0, "accuracy"), {"unit": "score"}),
    ],
)
def test_what_nothing_fills_is_gone(sample, where, ghost):
    part = sample
    for key in where:
        part = part[key]
    part.update(ghost)
    with pytest.raises(ValidationError, match=next(iter(ghost))):
        Report.model_validate(sample)
    assert not re.search(r"sha256|perplexity", DOC.read_text())
