"""Sentences say what the figures say, to somebody who sees the first report."""

import pytest
from report_samples import VERDICT

from edgeprune.amounts import share
from edgeprune.report.distribution import distribution_of
from edgeprune.report.names import kernel_names
from edgeprune.report.schema import BINS, Report, Verdict
from edgeprune.report.sentences import (
    bound_sentence,
    clock_states,
    headline,
    prediction_sentence,
    spread_sentence,
    verdict_sentence,
)
from edgeprune.report.whole import report_tables

FLASH = {
    "resource": "flash",
    "statistic": "max",
    "unit": "bytes",
    "value": 540_000,
    "low": 540_000,
    "high": 540_000,
    "limit": 800_000,
    "confidence": 1,
    "basis": "read off the program",
    "turns": 0,
    "seconds": 0,
    "evidence": "compiled",
}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {},
            "The limit is kept: at the nominal clock the median inference takes 5.9 ms; with 95 % confidence the "
            "figure is between 5.8 ms and 5.95 ms, within the limit of 6 ms (simulated, in turns with the dense "
            "network, 24 turns in 61.2 s).",
        ),
        (
            {"outcome": "broken", "statistic": "p90", "low": 6.1, "value": 6.2, "high": 6.3, "turns": 1},
            "The limit is broken: 9 of 10 inferences take no longer than 6.2 ms; with 95 % confidence the figure is "
            "between 6.1 ms and 6.3 ms, over the limit of 6 ms (simulated, in turns with the dense network, "
            "1 turn in 61.2 s).",
        ),
        (
            {"outcome": "not decidable", "high": 6.2, "relative_to": 12.0, "basis": "", "turns": 0, "seconds": 0},
            "This cannot be decided: the median inference takes 5.9 ms; with 95 % confidence the "
            "figure is between 5.8 ms and 6.2 ms, and the limit of 6 ms (50 % of the dense network's 12 ms) lies "
            "inside of that (simulated).",
        ),
        (
            FLASH,
            "The limit is kept: the program takes 540.0 kB of flash, within the limit of 800.0 kB (compiled, read off "
            "the program).",
        ),
        (
            FLASH | {"outcome": "broken", "resource": "ram", "limit": 100_000},
            "The limit is broken: the program takes 540.0 kB of RAM at its peak, over the limit of 100.0 kB (compiled, "
            "read off the program).",
        ),
    ],
)
def test_a_verdict_in_a_sentence(change, sentence):
    assert verdict_sentence(Verdict.model_validate(VERDICT | change)) == sentence


@pytest.mark.parametrize("statistic", ["median", "p90", "p99", "max", "p95"])
def test_every_statistic_has_words(statistic):
    assert "5.9 ms" in verdict_sentence(Verdict.model_validate(VERDICT | {"statistic": statistic}))


@pytest.mark.parametrize(
    ("outcome", "words"),
    [("kept", "Budget kept"), ("broken", "Budget broken"), ("not decidable", "Budget: not decidable")],
)
def test_the_verdict_stands_first(judged, outcome, words):
    judged["verdicts"][0]["outcome"] = outcome
    report = Report.model_validate(judged)
    assert headline(report) == words
    (line,) = report_tables(report)[0].rows[0]
    assert line == (
        f"{outcome}: latency, median 5.9 ms (5.8 ms to 5.95 ms, 95 % confidence); limit 6 ms; "
        "simulated, in turns with the dense network"
    )


def test_figures_stand_in_for_verdicts(report):
    assert report_tables(report)[0].rows == (
        ("kept, by its figure: latency 5.9 ms (IQR 0.25), simulated; limit 6 ms",),
        ("kept, by its figure: flash 540.0 kB, compiled; limit 800.0 kB",),
    )


def test_clock_states_against_the_limit(judged):
    pruned = Report.model_validate(judged).variants[1]
    assert clock_states(pruned, 6.0) == [
        "fast state, 70 % of the time: 5.88 ms, 2 % below the limit",
        "slow state (x1.08), 30 % of the time: 6.24 ms, 4 % over the limit",
    ]
    assert clock_states(pruned, None)[0] == "fast state, 70 % of the time: 5.88 ms"


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (6.5, "None of them is over"),
        (6.1, "10 % of them are over"),
        (6.05, "10 % to 30 % of them are over"),
        (1.0, "All of them are over"),
    ],
)
def test_how_many_are_over_the_limit(judged, limit, words):
    assert words in spread_sentence(Report.model_validate(judged).variants[1], limit)


@pytest.mark.parametrize(
    ("observed", "predicted", "words"),
    [
        ((10.0, 10.0, 0.01), (11.0, 9.5, 0.04), "1 of 3 kernels is predicted off by more than 1.5x"),
        ((10.0, 10.0, 0.01), (11.0, 9.5, 0.04), "0.05 % of the network's latency"),
        ((10.0, 10.0, 0.01), (11.0, 9.5, 0.04), "they do not matter"),
        ((10.0, 4.0, 4.0), (11.0, 7.0, 7.0), "44 % of the network's latency"),
        ((10.0, 4.0, 4.0), (11.0, 7.0, 7.0), "they do matter"),
        ((10.0, 0.1, 0.0), (11.0, 0.1, 5.0), "they do matter"),  # no time at all, and wrongly predicted
        ((10.0, 4.0, 4.0), (11.0, 4.0, 4.0), "No kernel is predicted off by more than 1.5x."),
    ],
)
def test_whether_wrong_predictions_matter(sample, observed, predicted, words):
    for layer, o, p in zip(sample["layers"], observed, predicted, strict=False):
        layer["pruned_ms"]["value"], layer["predicted_ms"]["value"] = o, p
    sample["layers"] = sample["layers"][:3]
    assert words in prediction_sentence(Report.model_validate(sample))


def test_what_the_bound_means(sample):
    words = bound_sentence(Report.model_validate(sample).plan)
    assert "no network that keeps the limits by the profile's figures retains more than 93.40 %" in words
    assert "this one retains 93.00 %, so a better choice could gain 0.40 % at most" in words
    sample["plan"]["certificate"]["stop"] = "time limit"
    assert "cut short by its time limit" in bound_sentence(Report.model_validate(sample).plan)
    sample["plan"]["certificate"] = {"something": "else"}
    assert bound_sentence(Report.model_validate(sample).plan) == ""


def test_every_kernel_has_a_name_of_its_own(sample):
    modules = ("stem", "pool", "pool", "head")
    nodes = ("stem", "pool.max_pool2d", "pool.max_pool2d_1", "head")
    for layer, module, node in zip(sample["layers"], modules, nodes, strict=True):
        layer |= {"module": module, "node": node}
    report = Report.model_validate(sample)
    assert kernel_names(report.layers) == ("stem", "pool · max_pool2d", "pool · max_pool2d_1", "head")
    for layer, operator in zip(sample["layers"], ("conv2d", "layout", "add", "conv2d"), strict=True):
        layer |= {"module": "head", "spec": f"{operator} 8"}
    names = kernel_names(Report.model_validate(sample).layers)
    assert names[1:3] == ("head · layout", "head · add")
    assert len(set(names)) == 4


def test_names_stay_apart_where_nodes_look_like_modules(sample):
    for layer, module, node in zip(sample["layers"], ("", "a", "a", "a · b"), ("a", "a · b", "b", "c"), strict=True):
        layer |= {"module": module, "node": node}
    assert len(set(kernel_names(Report.model_validate(sample).layers))) == 4


@pytest.mark.parametrize(
    "samples",
    [
        [5.0],
        [5.0] * 100,
        [1.0, 2.0],
        [float(i) for i in range(1, 2001)],
        [1.0 + i % 7 / 100 for i in range(500)] + [80.0],
    ],
)
def test_a_histogram_holds_every_latency(samples):
    d = distribution_of(samples, "measured")
    assert sum(n for _, n in d.histogram) == d.samples == len(samples)
    assert len(d.histogram) <= BINS
    assert d.histogram[-1][0] == d.worst_ms == max(samples)
    assert sum(s <= d.p90_ms for s in samples) >= 0.9 * len(samples)
    assert sum(s <= d.p99_ms for s in samples) >= 0.99 * len(samples)
    with pytest.raises(ValueError, match="at least one"):
        distribution_of([], "measured")


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.7, "70 %"),
        (0.0042, "0.42 %"),
        (0.0, "0 %"),
        (0.95, "95 %"),
        (0.9999, "99.9 %"),
        (1.0, "100 %"),
        (1.5, "150 %"),
    ],
)
def test_share(fraction, text):
    assert share(fraction) == text
