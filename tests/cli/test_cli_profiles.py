"""profiles and what can be done with one: passed from one store to another, shown, compared, merged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeprune.cli.main import main
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.latency.jsonl import read_jsonl, write_jsonl
from edgeprune.latency.records import Fingerprint, KernelRecord
from edgeprune.latency.store import ProfileStore

FINGERPRINT = Fingerprint("rpi4", "ab12", {"cpu": "Cortex-A72"}, {"apache-tvm": "0.27.0"}, "5", 1)


def kernel(width: int, median_ns: float) -> KernelRecord:
    shapes = TensorSpec((1, width)), TensorSpec((1, 10))
    spec = KernelSpec("dense", shapes[:1], shapes[1], (), ("bias",))
    return KernelRecord(spec, {"rule": "dense"}, "ok", median_ns, 1.0, median_ns, samples=9)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """As the owner of a board passes it on."""
    path = tmp_path / "rpi4.profile.jsonl"
    write_jsonl(path, FINGERPRINT, [kernel(8, 100.0), kernel(16, 200.0)])
    return path


def call(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, dict]:
    code = main([*map(str, args), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_file_goes_into_the_store_of_this_user_and_out_again(capsys, home, file):
    code, said = call(capsys, "profiles", "import", file)
    assert (code, said["schema"]) == (0, "edgeprune.profiles_import/1")
    assert (said["target"], said["kernels"], said["added"], said["kept"]) == ("rpi4", 2, 2, 0)
    assert said["store"] == str(home / "profiles.sqlite3")

    code, listed = call(capsys, "profiles")
    assert (code, listed["schema"]) == (0, "edgeprune.profiles/1")
    (row,) = [r for r in listed["profiles"] if r["file"] is None]
    assert (row["fingerprint"], row["evidence"]) == (FINGERPRINT.digest, ["measured"])

    code, out = call(capsys, "profiles", "export", row["fingerprint"][:8], "--out", file.with_name("again.jsonl"))
    assert (code, out["schema"], out["kernels"]) == (0, "edgeprune.profiles_export/1", 2)
    assert file.with_name("again.jsonl").read_bytes() == file.read_bytes()


def test_the_list_is_for_people_too(capsys, file, tmp_path):
    assert main(["profiles", "import", str(file), "--store", str(tmp_path / "s.sqlite3")]) == 0
    capsys.readouterr()
    assert main(["profiles", "--store", str(tmp_path / "s.sqlite3")]) == 0
    out = capsys.readouterr().out
    assert FINGERPRINT.digest in out
    assert "Cortex-A72" in out


def test_json_counts_before_the_name_of_the_subcommand(capsys, home, file):
    assert main(["profiles", "--json", "import", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["added"] == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0, -1.0, None])
def test_a_row_that_is_no_measurement_refuses_the_file_and_imports_nothing(capsys, home, file, bad):
    """A latency that is NaN, infinite, zero, negative or missing (docs/FAULTS.md, 6)."""
    head, good, last = file.read_text().splitlines()
    file.write_text("\n".join([head, good, json.dumps({**json.loads(last), "median_ns": bad})]) + "\n")
    code, said = call(capsys, "profiles", "import", file)
    assert (code, said["error"]["type"]) == (3, "ProfileError")
    assert "line 3" in said["error"]["message"]
    assert not home.exists(), "not even an empty store"


def test_a_bad_file_leaves_a_store_as_it_was(capsys, tmp_path, file):
    path = tmp_path / "s.sqlite3"
    with ProfileStore(path) as store:
        store.open_profile(FINGERPRINT).add(kernel(8, 55.0))
    file.write_text(file.read_text() + "{oops}\n")
    assert call(capsys, "profiles", "import", file, "--store", path)[0] == 3
    with ProfileStore(path) as store:
        assert [r.median_ns for r in store.find(FINGERPRINT).records()] == [55.0]


def test_what_was_measured_here_stays(capsys, tmp_path, file):
    path = tmp_path / "s.sqlite3"
    with ProfileStore(path) as store:
        store.open_profile(FINGERPRINT).add(kernel(8, 55.0))
    _, said = call(capsys, "profiles", "import", file, "--store", path)
    assert (said["added"], said["kept"], said["kernels"]) == (1, 1, 2)
    assert call(capsys, "profiles", "export", FINGERPRINT.digest, "--store", path, "--out", file)[0] == 0
    assert sorted(r.median_ns for r in read_jsonl(file)[1]) == [55.0, 200.0]


def test_an_option_that_would_be_passed_over_is_refused(capsys, tmp_path, file):
    code, said = call(capsys, "profiles", "--store", tmp_path / "s.sqlite3", "import", file)
    assert (code, said["error"]["type"]) == (2, "UsageError")
    assert "profiles import" in said["error"]["hint"]


def test_a_fingerprint_that_is_not_there(capsys, home, file):
    assert call(capsys, "profiles", "import", file)[0] == 0
    code, said = call(capsys, "profiles", "export", "zzz", "--out", file.with_name("out.jsonl"))
    assert code == 3
    assert FINGERPRINT.digest in said["error"]["message"]


def test_a_profile_is_shown_kernel_by_kernel(capsys, home, file, tmp_path):
    assert call(capsys, "profiles", "import", file)[0] == 0
    by_name = call(capsys, "profiles", "show", FINGERPRINT.digest[:6])
    by_file = call(capsys, "profiles", "show", file)
    for code, said in (by_name, by_file):
        assert (code, said["schema"], said["kernels"]) == (0, "edgeprune.profiles_show/1", 2)
        (family,) = said["families"]
        assert family["widths"] == {"in": [8, 16], "out": [10, 10]}
        assert family["latency_ms"] == [1e-4, 2e-4]
    pictures = [tmp_path / "plot.svg", tmp_path / "map.png"]
    flags = ("--family", family["family"][:4], "--plot", pictures[0], "--heat-map", pictures[1])
    assert call(capsys, "profiles", "show", file, *flags)[0] == 0
    assert pictures[0].read_text().startswith("<?xml")
    assert pictures[1].read_bytes().startswith(b"\x89PNG")
    assert main(["profiles", "show", str(file)]) == 0
    assert "dense 16→10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--plot", "x.svg"), "of one kernel"),
        (("--family", "ab"), "of one kernel"),
        (("--family", "zz", "--plot", "x.svg"), "no kernels have a key"),
        (("--family", "", "--plot", "x.bmp"), "no picture"),
    ],
)
def test_a_picture_of_nothing_is_refused(capsys, home, file, tmp_path, monkeypatch, flags, told):
    monkeypatch.chdir(tmp_path)
    code, said = call(capsys, "profiles", "show", file, *flags)
    assert code == 2
    assert told in said["error"]["message"]
    assert not list(tmp_path.glob("x.*"))


def test_two_profiles_are_compared(capsys, home, file):
    assert call(capsys, "profiles", "import", file)[0] == 0
    other = file.with_name("other.profile.jsonl")
    write_jsonl(other, replace(FINGERPRINT, threads=2), [kernel(8, 150.0), kernel(24, 1.0)])
    code, said = call(capsys, "profiles", "diff", FINGERPRINT.digest, other)
    assert (code, said["schema"]) == (0, "edgeprune.profiles_diff/1")
    assert said["kernels"]["median"] == 1.5
    assert (said["only_first"], said["only_second"], said["fields"]) == (1, 1, {"threads": [1, 2]})
    assert main(["profiles", "diff", str(file), str(file)]) == 0
    assert "1.000" in capsys.readouterr().out


def test_files_of_one_kind_are_merged(capsys, home, file, tmp_path):
    """The first that has a kernel counts; a failure never does where another measured it."""
    other, out = tmp_path / "other.profile.jsonl", tmp_path / "both.profile.jsonl"
    broken = replace(kernel(24, 0.0), status="failed", median_ns=0.0, samples=0, error="it crashed")
    write_jsonl(other, FINGERPRINT, [kernel(8, 150.0), kernel(24, 300.0)])
    write_jsonl(file, FINGERPRINT, [kernel(8, 100.0), kernel(16, 200.0), broken])
    code, said = call(capsys, "profiles", "merge", file, other, "--out", out)
    assert (code, said["schema"], said["kernels"], said["twice"]) == (0, "edgeprune.profiles_merge/1", 3, 1)
    assert {r.spec.widths["in"]: r.median_ns for r in read_jsonl(out).records} == {8: 100.0, 16: 200.0, 24: 300.0}


def test_files_of_two_kinds_are_not(capsys, home, file, tmp_path):
    other, out = tmp_path / "other.profile.jsonl", tmp_path / "both.profile.jsonl"
    write_jsonl(other, replace(FINGERPRINT, threads=2), [kernel(8, 150.0)])
    code, said = call(capsys, "profiles", "merge", file, other, "--out", out)
    assert (code, said["error"]["details"]["differences"]) == (3, {"threads": [1, 2]})
    assert not out.exists()
