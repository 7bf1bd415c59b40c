"""Plots can be read: no label lies on another, whatever they show."""

import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from report_samples import TABLE, network

from edgeprune.report.plots import comparison, distributions, kernels, picture, profiles
from edgeprune.report.plots.canvas import label
from edgeprune.report.schema import Report


def overlaps(canvas):
    """Pairs of texts on a canvas that lie on one another, and texts that stick out of it."""
    agg = FigureCanvasAgg(canvas)
    agg.draw()
    drawn = agg.get_renderer()
    texts = []
    for axes in canvas.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            texts += [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
            texts.append(axis.label)
        if legend := axes.get_legend():
            texts += legend.get_texts()
    boxes = [(t.get_text(), t.get_window_extent(drawn)) for t in texts if t.get_text() and t.get_visible()]
    whole = canvas.bbox
    found = [(a, b) for (a, box), (b, other) in itertools.combinations(boxes, 2) if box.overlaps(other)]
    return found + [
        (text, "out of the picture")
        for text, box in boxes
        if box.x0 < whole.x0 - 1 or box.y0 < whole.y0 - 1 or box.x1 > whole.x1 + 1 or box.y1 > whole.y1 + 1
    ]


RANGES = [
    (low, high)
    for low in (1e-4, 1.3e-4, 7e-3, 0.11, 0.95, 9.7)
    for high in (1.4e-4, 9e-3, 0.12, 0.98, 1.04, 8.0, 100.0)
    if low < high
]


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_labels_of_the_prediction_lie_apart(sample, low, high):
    for i, layer in enumerate(sample["layers"]):
        layer["predicted_ms"]["value"] = low * (high / low) ** (i / 3)
        layer["pruned_ms"]["value"] = high if i == 3 else low * (high / low) ** (i / 4)
    canvas = kernels.draw_prediction(Report.model_validate(sample))
    assert overlaps(canvas) == []
    ticks = kernels.log_ticks(low / 1.3, high * 1.3)
    assert 2 <= len(ticks) <= kernels.MOST_TICKS


def test_kernels_that_take_no_time_are_drawn(sample):
    for layer in sample["layers"]:
        layer["predicted_ms"]["value"] = layer["pruned_ms"]["value"] = 0.0
    assert overlaps(kernels.draw_prediction(Report.model_validate(sample))) == []


@pytest.mark.parametrize("layers", [1, 4, 25, 60, 120, 160, 400])
def test_labels_of_the_network_lie_apart(sample, layers):
    sample["layers"] = network(layers)
    canvas = picture.draw(Report.model_validate(sample))
    assert overlaps(canvas) == []
    labels = [text.get_text() for text in canvas.axes[0].get_legend().get_texts()]
    assert ("removed whole" in labels) is (layers > 9)


@pytest.mark.parametrize("layers", [4, 60, 61, 160])
def test_labels_of_the_milliseconds_lie_apart(sample, layers):
    sample["layers"] = network(layers)
    canvas = kernels.draw_milliseconds(Report.model_validate(sample))
    assert overlaps(canvas) == []
    drawn = canvas.axes[0]
    assert len(drawn.get_yticks()) == min(layers, kernels.MOST_ROWS)
    assert ("are not drawn" in drawn.get_xlabel()) is (layers > kernels.MOST_ROWS)


@pytest.mark.parametrize("limit", [None, 0.1, 5.95, 6.0, 7.0, 40.0])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_labels_of_the_latencies_lie_apart(judged, limit, scale):
    judged["verdicts"] = []
    judged["budget"]["latency_ms"] = None if limit is None else limit * scale
    d = judged["variants"][1]["distribution"]
    for name in ("median_ms", "p90_ms", "p99_ms", "worst_ms"):
        d[name] *= scale
    d["histogram"] = [[upper * scale, n] for upper, n in d["histogram"]]
    judged["variants"][0]["distribution"] = d | {
        "histogram": [[12.0 * scale, 10]],
        **dict.fromkeys(("median_ms", "p90_ms", "p99_ms", "worst_ms"), 12.0 * scale),
    }
    canvas = distributions.draw(Report.model_validate(judged))
    assert overlaps(canvas) == []
    legend = " ".join(t.get_text() for t in canvas.axes[0].get_legend().get_texts())
    assert "median" in legend
    assert "p90" in legend
    assert "p99" in legend
    assert ("limit" in legend) is (limit is not None)


def test_latencies_of_a_clock_that_stands_still(judged):
    same = dict.fromkeys(("median_ms", "p90_ms", "p99_ms", "worst_ms"), 5.0)
    judged["variants"][1]["distribution"] |= same | {"histogram": [[5.0, 10]], "states": []}
    assert overlaps(distributions.draw(Report.model_validate(judged))) == []


def test_labels_of_the_tradeoff_lie_apart(report):
    assert overlaps(comparison.draw(report)) == []


def test_long_names_keep_both_ends():
    assert label("stem.0") == "stem.0"
    short = label("backbone.stages.3.blocks.2.body.gate.activation.kernel_119", 28)
    assert len(short) == 28
    assert short.startswith("backbone")
    assert short.endswith("kernel_119")


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("widths", [2, 3, 16])
def test_labels_of_heat_maps_lie_apart(sample, count, widths):
    grid = [1000 + 64 * i for i in range(widths)]
    rows = [[x * y / 1e6 for x in grid] for y in grid]
    sample["tables"] = [
        {**TABLE, "node": layer["node"], "in": grid, "out": grid, "latency_ms": rows, "timed": []}
        for layer in sample["layers"][:count]
    ]
    canvas = profiles.draw_tables(Report.model_validate(sample))
    assert overlaps(canvas) == []
    assert len(canvas.axes) == 2 * count, "each has a bar of colours"


def test_a_ring_is_around_what_the_plan_chose(sample):
    def rings(report):
        axes = profiles.draw_tables(Report.model_validate(report)).axes[0]
        return [c.get_offsets().tolist() for c in axes.collections]

    sample["tables"] = [TABLE]
    layer = next(x for x in sample["layers"] if x["node"] == TABLE["node"])
    assert rings(sample) == [[[2.0, 3.0], [0.0, 0.0]]], "it chose widths that are not among those"
    layer["after"] = {"in": 16, "out": 22}
    assert rings(sample) == [[[2.0, 3.0], [0.0, 0.0]], [[1.0, 1.0]]]
    sample["tables"] = []
    assert profiles.draw_tables(Report.model_validate(sample)) is None
