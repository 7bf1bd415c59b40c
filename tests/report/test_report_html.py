"""The page: self-contained, safe whatever names it shows, and honest about every figure."""

import base64
import copy
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from report_samples import TABLE, network

from edgeprune.errors import BadInputError
from edgeprune.report import plots
from edgeprune.report.html import render_html
from edgeprune.report.schema import Report, read_report
from edgeprune.report.tables import amount
from edgeprune.report.write import write_report

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on a tag that is not closed."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.open, self.text = [], [], [], ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def images(page):
    prefix = "data:image/svg+xml;base64,"
    return [base64.b64decode(v.removeprefix(prefix)).decode() for k, v in page.attributes if k == "src"]


def test_nothing_is_loaded_from_anywhere(report):
    html = render_html(report)
    page = Page(html)
    assert not re.search(r"https?://|//\w", re.sub(r"fake:/\S+", "", html))
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(v.startswith("data:image/svg+xml;base64,") for k, v in page.attributes if k in ("src", "href"))
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in page.attributes


def test_what_widths_cost_is_drawn_where_it_is_known(sample):
    without = Page(render_html(Report.model_validate(sample)))
    sample["tables"] = [TABLE]
    page = Page(render_html(Report.model_validate(sample)))
    assert "What widths cost" in page.text
    assert "What widths cost" not in without.text
    assert len(images(page)) == len(images(without)) + 1


def test_every_figure_stands_beside_its_level(report):
    html = render_html(report)
    figures = [f for v in report.variants for f in (v.accuracy, v.latency_ms, v.flash_bytes, v.peak_ram_bytes)]
    figures += [f for layer in report.layers for f in (layer.dense_ms, layer.pruned_ms, layer.predicted_ms)]
    figures += [f for r in report.rounds for f in (r.predicted_ms, r.measured_ms)]
    shown = re.findall(r'>\s*([^<>]+)<span class="evidence">([^<]+)</span>', html)
    assert sorted((amount(f), f.label) for f in figures) == sorted((a.strip(), label) for a, label in shown)


def test_names_are_text_wherever_they_appear(judged):
    sample = judged
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>$\\frac{1}{0}$"
    sample["plan"]["method"] = {"solver": "knapsack", "b": 1}
    del sample["plan"]["saliency_retained"], sample["provenance"]["seed"]
    sample["plan"]["certificate"] = {"gap": 0.1}
    clean = Page(render_html(Report.model_validate(sample)))
    sample["model"]["name"] = sample["target"]["title"] = sample["device"]["cpu"] = sample["device"]["url"] = evil
    sample["accuracy_name"] = evil
    sample["layers"][0] |= {"node": evil, "module": evil, "spec": evil, "groups": [evil]}
    sample["groups"][0] |= {"name": evil, "frozen": evil}
    sample["plan"] = {"method": {evil: evil, "b": 1}, "certificate": {evil: [evil]}, "dropped": {evil: {evil: evil}}}
    sample["verdicts"][0] |= {"basis": evil, "statistic": evil}
    sample["provenance"] |= {"command": [evil], "versions": {evil: evil}, "fingerprint": {evil: evil}}
    page = Page(render_html(Report.model_validate(sample)))
    assert page.tags == clean.tags, "no name became an element"
    assert page.text.count("<script>alert(1)</script>") >= 15
    for svg in images(page):
        assert "script" not in {e.tag.rpartition("}")[2] for e in ElementTree.fromstring(svg).iter()}


@pytest.mark.parametrize(
    ("met", "latency", "words"),
    [(True, 5.0, "Budget kept"), (False, 9.0, "Budget broken"), (None, None, "not decided")],
)
def test_the_verdict(sample, met, latency, words):
    if latency is None:
        sample["variants"][1]["latency_ms"] = None
    else:
        sample["variants"][1]["latency_ms"]["value"] = latency
    report = Report.model_validate(sample)
    assert report.met is met
    assert words in Page(render_html(report)).text


def test_a_report_of_one_network_and_nothing_else(sample):
    sample |= {"layers": [], "groups": [], "rounds": [], "variants": sample["variants"][:1]}
    sample["variants"][0] |= {"accuracy": None, "latency_ms": None}
    page = Page(render_html(Report.model_validate(sample)))
    assert images(page) == []
    assert "Width groups" not in page.text
    assert "Layers" not in page.text


def test_plots_show_what_the_report_holds(judged):
    report = Report.model_validate(judged)
    for plot in (plots.widths, plots.milliseconds, plots.prediction, plots.tradeoff, plots.latencies):
        svg = plot(report)
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert plot(report) == svg, "the same report gives the same bytes"


def test_names_are_not_formulas(sample):
    """matplotlib would read what stands between dollars, and fail on what it cannot."""
    sample["layers"][0]["module"] = sample["accuracy_name"] = "$\\nonsense{$"
    report = Report.model_validate(sample)
    assert all(plot(report) for plot in (plots.widths, plots.milliseconds, plots.tradeoff))


def test_plots_follow_the_figures(sample):
    before = {p.__name__: p(Report.model_validate(sample)) for p in (plots.widths, plots.milliseconds)}
    sample["layers"][0]["pruned_ms"]["value"] *= 2
    after = {p.__name__: p(Report.model_validate(sample)) for p in (plots.widths, plots.milliseconds)}
    assert before["widths"] == after["widths"]
    assert before["milliseconds"] != after["milliseconds"]


def test_write_and_read_again(report, tmp_path):
    data, page = write_report(report, tmp_path / "runs" / "x")
    assert read_report(data) == report
    assert page.read_text() == render_html(report)
    assert sorted(p.name for p in data.parent.iterdir()) == ["report.html", "report.json"]


def test_a_failed_write_leaves_the_old_report(report, tmp_path, monkeypatch):
    data, page = write_report(report, tmp_path)
    before = data.read_bytes(), page.read_bytes()
    sample = report.to_json()
    sample["model"]["name"] = "other"

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BadInputError, match="No space left"):
        write_report(Report.model_validate(sample), tmp_path)
    assert (data.read_bytes(), page.read_bytes()) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_a_file_where_the_folder_should_be(report, tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(BadInputError, match="cannot be written"):
        write_report(report, tmp_path / "x")


def test_the_same_report_gives_the_same_page(judged):
    judged["layers"] = network(60)
    assert render_html(Report.model_validate(judged)) == render_html(Report.model_validate(copy.deepcopy(judged)))


def test_the_page_of_a_judged_network(judged):
    text = " ".join(Page(render_html(Report.model_validate(judged))).text.split())
    for words in (
        "Budget kept The limit is kept: at the nominal clock the median inference",
        "Kept, by its figure: flash 540.0 kB, compiled; limit 800.0 kB.",
        "Latencies against the limit",
        "slow state (x1.08), 30 % of the time: 6.24 ms, 4 % over the limit",
        "3 % of the limit on latency was kept free",
        "6.25 to 6.35 ms",
        "Widths that were not offered, and why",
        "g0 13 the kernel computed something else".replace(" ", "", 2),
        "a better choice could gain 0.40 % at most",
    ):
        assert words in text


def test_kernels_of_one_module_are_told_apart(sample):
    for i, layer in enumerate(sample["layers"]):
        layer |= {"module": "pool", "node": f"pool.max_pool2d_{i}"}
    text = Page(render_html(Report.model_validate(sample))).text
    assert all(f"pool · max_pool2d_{i}" in text for i in range(4))
