"""The page: self-contained, safe whatever names it shows, and honest about every figure."""

import base64
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

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


def test_every_figure_stands_beside_its_level(report):
    html = render_html(report)
    figures = [
        f
        for v in report.variants
        for f in (v.accuracy, v.latency_ms, v.flash_bytes, v.peak_ram_bytes, *v.robustness.values())
    ]
    figures += [f for layer in report.layers for f in (layer.dense_ms, layer.pruned_ms, layer.predicted_ms)]
    figures += [f for r in report.rounds for f in (r.predicted_ms, r.measured_ms)]
    shown = re.findall(r'>\s*([^<>]+)<span class="evidence">([^<]+)</span>', html)
    assert sorted((amount(f), f.label) for f in figures) == sorted((a.strip(), label) for a, label in shown)


def test_names_are_text_wherever_they_appear(sample):
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>$\\frac{1}{0}$"
    clean = Page(render_html(Report.model_validate(sample)))
    sample["model"]["name"] = sample["target"]["title"] = sample["device"]["cpu"] = sample["device"]["url"] = evil
    sample["accuracy_name"] = evil
    sample["layers"][0] |= {"node": evil, "module": evil, "spec": evil, "groups": [evil]}
    sample["groups"][0] |= {"name": evil, "frozen": evil}
    sample["variants"][0]["robustness"] = {evil: sample["variants"][0]["accuracy"]}
    sample["plan"] = {"method": {evil: evil, "b": 1}, "certificate": {evil: [evil]}}
    sample["provenance"] |= {"command": [evil], "versions": {evil: evil}, "fingerprint": {evil: evil}}
    page = Page(render_html(Report.model_validate(sample)))
    assert page.tags == clean.tags, "no name became an element"
    assert page.text.count("<script>alert(1)</script>") >= 15
    for svg in images(page):
        assert "script" not in {e.tag.rpartition("}")[2] for e in ElementTree.fromstring(svg).iter()}


@pytest.mark.parametrize(
    ("met", "latency", "words"), [(True, 5.0, "Budget met"), (False, 9.0, "Budget missed"), (None, None, "not decided")]
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
    sample["variants"][0] |= {"accuracy": None, "latency_ms": None, "robustness": {}}
    page = Page(render_html(Report.model_validate(sample)))
    assert images(page) == []
    assert "Width groups" not in page.text
    assert "Layers" not in page.text


def test_plots_show_what_the_report_holds(report):
    for plot in (plots.widths, plots.milliseconds, plots.prediction, plots.tradeoff):
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
