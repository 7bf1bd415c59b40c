"""The verbs one after the other, as a person types them, on a fake board."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import call, done, refused

from edgeprune.cli.main import main
from edgeprune.cli.registry import COMMANDS
from edgeprune.compiler.manifest import read_manifest
from edgeprune.errors import BadInputError
from edgeprune.fitting.run_folder import load_run
from edgeprune.report.schema import read_report
from edgeprune.training.data import load_data

ROOT = Path(__file__).parents[2]
NET = ROOT / "tests" / "fitting" / "tiny_net.py"
MODEL = (f"{NET}:net", "--input-shape", "1x3x8x8")
WIDTHS = ("--points", "3", "--step", "8")

# One worker runs them all: what they share takes seconds to make.
pytestmark = pytest.mark.xdist_group("verbs")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """profile, prune, compile, flash, then the dense network flashed over it: what each printed."""
    folder = tmp_path_factory.mktemp("work")
    device, store = f"fake:{folder / 'board'}", folder / "profiles.sqlite3"
    shared = ("--store", store, "--device", device, "-q")
    said = {"folder": folder, "device": device, "store": store, "shared": shared}
    said["profile"] = done("profile", *MODEL, *WIDTHS, *shared, "--export", folder / "export.jsonl")
    said["prune"] = done("prune", *MODEL, *WIDTHS, *shared, "--latency", "60%", "--out", folder / "run")
    said["compile"] = done("compile", folder / "run", "--factory", MODEL[0], *shared, "--out", folder / "pruned")
    said["dense"] = done("compile", *MODEL, *shared, "--out", folder / "dense")
    said["flash"] = done("flash", folder / "pruned", "--device", device, "-q")
    said["bench"] = done("bench", "--device", device, "--repeats", "3")
    images = load_data(f"{NET}:data").test[0][:5].numpy()
    np.save(folder / "x.npy", images)
    said["run"] = done("run", "--device", device, "--input", folder / "x.npy", "--output", folder / "y.npy")
    said["flash_dense"] = done("flash", folder / "dense", "--device", device, "-q")
    said["bench_dense"] = done("bench", "--device", device, "--repeats", "3")
    said["status"] = done("status", "--device", device)
    said["rollback"] = done("rollback", "--device", device)
    said["after"] = done("status", "--device", device)
    return said


def test_profile(work):
    said = work["profile"]
    assert (said["schema"], said["kernels_measured"], said["kernels_reused"]) == ("edgeprune.profile/1", 20, 0)
    assert (said["kernels_failed"], said["evidence"], said["model"]) == ([], "simulated", "net")
    assert len((work["folder"] / "export.jsonl").read_text().splitlines()) == 21
    again = done("profile", *MODEL, *WIDTHS, *work["shared"])
    assert (again["kernels_measured"], again["kernels_reused"]) == (0, 20)
    assert again["fingerprint"] == said["fingerprint"]


def test_a_sampled_profile_serves_a_plan_and_a_fit(tmp_path):
    shared = ("--store", tmp_path / "p.sqlite3", "--device", f"fake:{tmp_path / 'board'}", "-q")
    said = done("profile", *MODEL, *WIDTHS, *shared, "--sampled", "--export", tmp_path / "p.jsonl")
    assert [s["share"] for s in said["sureness"]] == [0.8, 0.55], "30 % cannot be reached"
    assert said["timings"] >= said["kernels_measured"] + said["kernels_placed"]
    assert said["kernels_placed"] > said["kernels_measured"] > 6
    assert sum('"network"' in line for line in (tmp_path / "p.jsonl").read_text().splitlines()) == said["networks"] > 2
    again = done("profile", *MODEL, *WIDTHS, *shared, "--budget", "1m")
    assert (again["timings"], again["sureness"]) == (0, said["sureness"])
    plan = done("prune", *MODEL, *WIDTHS, *shared, "--latency", "60%", "--out", tmp_path / "run")
    assert any(g["kept"] < g["size"] for g in plan["groups"])
    fit = ("--latency", "60%", "--criterion", "l2", "--no-baseline", "--out", tmp_path / "fitted")
    fitted = done("fit", *MODEL, *WIDTHS, *shared, "--sampled", *fit)
    assert fitted["met"] is True
    assert fitted["measured_ms"] == pytest.approx(plan["predicted"]["latency_ms"], rel=0.1)


@pytest.mark.parametrize("budget", ["3x", "0s", "-1m", "nan s", "soon"])
def test_a_time_that_is_none_is_refused_before_anything_is_measured(tmp_path, budget):
    error = refused(2, "UsageError", "profile", *MODEL, "--store", tmp_path / "p.sqlite3", f"--budget={budget}", "-q")
    assert "3m, 90s or 1h" in error["hint"]
    assert not (tmp_path / "p.sqlite3").exists()


def test_a_time_for_all_widths_is_refused(tmp_path):
    error = refused(2, "UsageError", "profile", *MODEL, "--store", tmp_path / "p", "--exhaustive", "--budget=3m", "-q")
    assert "--exhaustive" in error["hint"]


def test_prune_says_what_it_wrote(work):
    said = work["prune"]
    widths = json.loads((work["folder"] / "run" / "widths.json").read_text())
    keep = widths["plan"]["keep"]
    assert keep
    assert {g["group"]: g["kept"] for g in said["groups"] if g["kept"] < g["size"]} == {
        g: len(k) for g, k in keep.items()
    }
    assert sorted(p.name for p in (work["folder"] / "run").iterdir()) == [
        "curves.safetensors",
        "model.safetensors",
        "problem.json",
        "run.json",
        "scores.safetensors",
        "solution.json",
        "widths.json",
    ]
    assert all(Path(p).is_file() for p in said["paths"].values())
    assert said["predicted"]["evidence"] == "simulated"


def test_compile_takes_schedules_from_the_profile(work):
    said = work["compile"]
    assert said["schedules_from"] == {"profile": said["kernels"]} == {"profile": 7}
    manifest = read_manifest(work["folder"] / "pruned")
    assert (said["release"], said["memory"]) == (manifest.release_id, manifest.memory.model_dump())
    assert said["memory"]["weights"] < work["dense"]["memory"]["weights"]


def test_what_was_predicted_is_what_bench_measures(work):
    said = work["bench"]
    assert said["latency_ms"] == pytest.approx(work["prune"]["predicted"]["latency_ms"], rel=1e-9)
    assert said["latency_ms"] <= 0.6 * work["bench_dense"]["latency_ms"]
    assert (said["samples"], said["spread_ms"], said["evidence"], said["clock"]) == (3, 0, "simulated", "virtual")
    assert work["flash"]["latency_ms"] == said["latency_ms"]


def test_run_gives_what_torch_gives(work):
    _, network = load_run(work["folder"] / "run", MODEL[0])
    images = torch.from_numpy(np.load(work["folder"] / "x.npy"))
    with torch.no_grad():
        expected = network.module(images).numpy()
    given = np.load(work["folder"] / "y.npy")
    assert (given.dtype, given.shape, work["run"]["samples"]) == (np.float32, (5, 4), 5)
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)


def test_flash_status_and_rollback(work):
    pruned, dense = work["compile"]["release"], work["dense"]["release"]
    assert (work["flash"]["release"], work["flash"]["previous"], work["flash"]["state"]) == (pruned, None, "installed")
    assert (work["flash_dense"]["release"], work["flash_dense"]["previous"]) == (dense, pruned)
    assert (work["status"]["current"], work["status"]["previous"]) == (dense, pruned)
    assert work["status"]["releases"] == sorted([pruned, dense])
    assert (work["rollback"]["release"], work["rollback"]["previous"]) == (pruned, dense)
    assert (work["after"]["current"], work["after"]["interrupted"], work["after"]["owner"]) == (pruned, None, None)


# -- fit and report -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(work) -> tuple[dict, Path]:
    out = work["folder"] / "fit"
    options = ("--data", f"{NET}:data", "--latency", "60%", "--epochs", "1", "--no-baseline", *WIDTHS)
    return done("fit", *MODEL, *options, *work["shared"], "--out", out), out


def test_fit_prints_the_documented_fields(fitted):
    body, out = fitted
    documented = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "FIT.md").read_text(), re.MULTILINE))
    assert documented == body.keys()
    assert body["met"] is True
    assert body["measured_ms"] <= body["budget_ms"]
    assert read_report(out / "report.json").to_json() == body["report"]
    assert (out / "report.html").is_file()
    assert all(Path(p).exists() for p in body["paths"].values())
    assert body["paths"].keys() >= {"weights", "widths", "run", "bundle", "report_json", "report_html"}


def test_report_shows_the_run_and_draws_its_page_anew(fitted, capsys):
    body, out = fitted
    (out / "report.html").unlink()
    assert done("report", out) == body["report"] == done("report", out / "report.json")
    assert (out / "report.html").is_file()
    assert main(["report", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "stem.0" in shown
    assert "simulated" in shown


def test_export(work: dict) -> None:
    file = work["folder"] / "pruned.onnx"
    said = done("export", work["folder"] / "run", "--factory", MODEL[0], "--out", file, "--opset", 13, "-q")
    assert (said["schema"], said["opset"], said["evidence"]) == ("edgeprune.export/1", 13, "measured")
    assert said["bytes"] == file.stat().st_size
    assert said["difference"] <= 1e-4
    again = done("profile", file, "--points", 1, "--tune", 1, *work["shared"])
    assert again["kernels_failed"] == []
    refused(2, "UsageError", "export", *MODEL, "--out", file, "--opset", 5)


def test_the_run_of_a_fit_compiles_for_another_board(fitted, work):
    named = (fitted[1], "--factory", MODEL[0])
    said = done("compile", *named, "--target", "rpi4", "--store", work["store"], "--out", work["folder"] / "rpi4")
    assert (said["target"], said["schedules_from"]) == ("rpi4", {"default": 7}), "its board need not be reachable"
    header = (work["folder"] / "rpi4" / "model").read_bytes()[:20]
    assert header[18:20] == b"\xb7\x00", "an ELF file for AArch64"


# -- what goes wrong ---------------------------------------------------------------------------------


def prune(work, *args) -> tuple:
    return ("prune", *MODEL, *WIDTHS, *work["shared"], "--out", work["folder"] / "none", *args)


@pytest.mark.parametrize(
    ("args", "code", "kind", "message"),
    [
        ((), 2, "UsageError", "no budget was given"),
        (("--latency", "12"), 2, "UsageError", "'12' is not a latency limit"),
        (("--flash", "-3MB"), 2, "UsageError", "'-3MB' is not a size limit"),
        (("--ram", "512"), 2, "UsageError", "'512' is not a size limit"),
        (("--latency", "60%", "--time-limit", "0"), 2, "UsageError", "time limit of 0.0 s"),
        (("--latency", "60%", "--solver", "guess"), 2, "UsageError", "no solver 'guess'"),
        (("--latency", "60%", "--criterion", "guess"), 2, "UsageError", "no criterion 'guess'"),
        (("--latency", "60%", "--criterion", "taylor"), 2, "UsageError", "needs data"),
        (("--latency", "60%", "--device", "board"), 2, "UsageError", "'board' is not a device URL"),
        (("--latency", "60%", "--target", "abacus"), 3, "TargetError", "abacus"),
        (("--latency", "60%", "--data", "no.npz"), 3, "ModelLoadError", "no.npz"),
        (("--latency", "60%", "--weights", "no.safetensors"), 3, "ModelLoadError", "no.safetensors"),
        (("--latency", "60%", "--threads", "3"), 3, "ProfileMismatchError", "threads is 3 here, 1 there"),
        (("--latency", "1us"), 4, "InfeasibleBudgetError", "a latency of 0.001 ms (smallest reachable: "),
        (("--ram", "1KiB"), 4, "InfeasibleBudgetError", "1.0 kB of RAM (smallest reachable: "),
    ],
)
def test_prune_refuses_and_writes_nothing(work, args, code, kind, message):
    error = refused(code, kind, *prune(work, *args))
    assert message in error["message"]
    assert not (work["folder"] / "none").exists()
    if code == 4:
        ((resource, asked),) = error["details"]["budget"].items()
        assert error["details"][resource] > asked


def test_prune_with_permission_uses_a_foreign_profile(work):
    args = ("--latency", "60%", "--threads", "3", "--allow-mismatch", "--out", work["folder"] / "foreign")
    assert done(*prune(work, *args))["groups"] == work["prune"]["groups"]


def test_prune_by_data_and_into_flash(work, tmp_path):
    data = ("--data", f"{NET}:data", "--criterion", "taylor", "--solver", "greedy")
    dense = done(*prune(work, *data, "--flash", "200%", "--out", work["folder"] / "dense-by-data"))
    assert all(g["kept"] == g["size"] for g in dense["groups"])
    said = done(*prune(work, *data, "--flash", "97%", "--out", work["folder"] / "by-data"))
    assert said["predicted"]["flash_bytes"] <= 0.97 * dense["predicted"]["flash_bytes"]
    assert any(g["kept"] < g["size"] for g in said["groups"])
    planned_by = ("--store", tmp_path / "p.sqlite3", *work["shared"][2:])  # other tests profile other networks
    done("profiles", "import", work["folder"] / "export.jsonl", *planned_by[:2])
    for name, found in (("dense-by-data", dense), ("by-data", said)):
        named = (work["folder"] / name, "--factory", MODEL[0], *planned_by)
        made = done("compile", *named, "--out", tmp_path / name)
        assert found["predicted"]["flash_bytes"] == pytest.approx(made["memory"]["flash"], rel=0.01), name


@pytest.mark.parametrize("shape", ["3x8", "1x3x-8x8", "1x3x0x8", "big", "1xx8", "1x3x8x\u00b2"])
def test_a_shape_that_is_none(work, shape):
    code, body = call("profile", f"{NET}:net", f"--input-shape={shape}", *work["shared"])
    assert code in (2, 3), body
    assert body["error"]["type"] in ("UsageError", "ModelLoadError")


def test_pickled_weights_are_refused_unread(work, tmp_path):
    flag = tmp_path / "flag"

    class Payload:
        def __reduce__(self):
            return (Path.touch, (flag,))

    torch.save({"weight": Payload()}, tmp_path / "net.pth")
    error = refused(3, "ModelLoadError", *prune(work, "--latency", "60%", "--weights", tmp_path / "net.pth"))
    assert "safetensors" in error["hint"]
    assert not flag.exists()


def test_fit_refuses_before_it_measures(work, tmp_path):
    store = tmp_path / "new.sqlite3"
    shared = ("--store", store, "--device", f"fake:{tmp_path / 'board'}", "-q", "--out", tmp_path / "out")
    refused(2, "UsageError", "fit", *MODEL, *shared)
    refused(2, "UsageError", "fit", *MODEL, *shared, "--latency", "60%")  # taylor without data
    refused(2, "UsageError", "fit", *MODEL, *shared, "--latency", "60%", "--criterion", "l2", "--solver", "guess")
    np.savez(
        tmp_path / "wide.npz",
        **{f"x_{h}": np.zeros((4, 3, 9, 9), np.float32) for h in ("train", "test")},
        **{f"y_{h}": np.arange(4) for h in ("train", "test")},
    )
    refused(3, "BadInputError", "fit", *MODEL, *shared, "--latency", "60%", "--data", tmp_path / "wide.npz")
    assert not (tmp_path / "out").exists()
    assert not [p for p in (tmp_path / "board").rglob("*") if p.is_file()]


def test_fit_below_what_is_reachable(work):
    out = work["folder"] / "impossible"
    args = ("--latency", "1us", "--criterion", "l2", *WIDTHS, *work["shared"])
    before = done("status", "--device", work["device"])
    error = refused(4, "InfeasibleBudgetError", "fit", *MODEL, *args, "--out", out)
    assert error["details"]["latency_ms"] > 0.001
    assert not out.exists()
    assert done("status", "--device", work["device"]) == before


def test_flash_refuses_what_is_no_bundle(work, tmp_path):
    refused(3, "BundleError", "flash", tmp_path, "--device", work["device"])
    alone = tmp_path / "pruned"  # with no bundle of the dense network beside it
    shutil.copytree(work["folder"] / "pruned", alone)
    refused(2, "UsageError", "flash", alone, "--device", work["device"], "--latency", "50%")


def test_flash_rolls_back_a_release_that_is_too_slow(work):
    before = done("status", "--device", work["device"])["current"]
    error = refused(
        9, "RolledBackError", "flash", work["folder"] / "dense", "--device", work["device"], "--latency", "1us", "-q"
    )
    assert error["details"]["current"] == before == done("status", "--device", work["device"])["current"]


def test_prune_into_ram_and_the_verdict_of_flash(work, tmp_path):
    folder, shared = tmp_path / "ram", work["shared"]
    said = done("prune", *MODEL, *WIDTHS, *shared, "--ram", "80%", "--time-limit", "60", "--out", folder)
    bundle = done("compile", folder, "--factory", MODEL[0], *shared, "--out", tmp_path / "bundle")
    peak = bundle["memory"]["peak_ram"]
    assert said["predicted"]["ram_bytes"] == peak <= 0.8 * work["dense"]["memory"]["peak_ram"]
    device = ("--device", f"fake:{tmp_path / 'board'}", "-q")
    (verdict,) = done("flash", tmp_path / "bundle", *device, "--ram", f"{peak}B")["verdicts"]
    assert (verdict["resource"], verdict["outcome"], verdict["value"]) == ("ram", "kept", peak)
    beside = ("--beside", work["folder"] / "dense")
    (verdict,) = done("flash", tmp_path / "bundle", *device, "--ram", "80%", *beside)["verdicts"]
    assert verdict["limit"] == 0.8 * work["dense"]["memory"]["peak_ram"]
    error = refused(7, "VerificationError", "flash", tmp_path / "bundle", *device, "--ram", f"{peak - 1}B")
    assert f"ram broken: {peak} bytes of {peak - 1}" in error["message"]


def test_flash_of_the_wrong_answer_fails_verification(work, tmp_path):
    """Golden output that is not the network's, with a manifest that agrees: only running it tells."""
    shutil.copytree(work["folder"] / "pruned", tmp_path / "wrong")
    manifest = json.loads((tmp_path / "wrong" / "manifest.json").read_text())
    (name,) = manifest["golden"]["outputs"]
    golden = tmp_path / "wrong" / name
    values = np.frombuffer(golden.read_bytes(), np.float32) + 1
    golden.write_bytes(values.tobytes())
    manifest["files"][name]["sha256"] = hashlib.sha256(golden.read_bytes()).hexdigest()
    (tmp_path / "wrong" / "manifest.json").write_text(json.dumps(manifest))
    device = f"fake:{tmp_path / 'board'}"
    refused(7, "VerificationError", "flash", tmp_path / "wrong", "--device", device, "-q")
    assert done("status", "--device", device)["current"] is None


def test_a_device_that_cannot_be_made_is_unreachable(tmp_path):
    (tmp_path / "file").write_text("")
    refused(6, "DeviceUnreachableError", "status", "--device", f"fake:{tmp_path / 'file' / 'board'}")


def test_an_empty_device(tmp_path):
    device = f"fake:{tmp_path / 'board'}"
    assert done("status", "--device", device)["current"] is None
    for command in (("bench",), ("rollback",), ("run", "--input", "x.npy", "--output", "y.npy")):
        refused(2, "UsageError", *command, "--device", device)


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.zeros((5, 3, 8, 9), np.float32), "BadInputError"),
        (np.zeros((0, 3, 8, 8), np.float32), "BadInputError"),
        (np.zeros((3, 8, 8), np.float32), "BadInputError"),
        (np.float32(1), "BadInputError"),
        (np.array(["a"]), "BadInputError"),
        (np.zeros((1, 3, 8, 8), np.complex64), "BadInputError"),
        (np.array([{}], dtype=object), "BadInputError"),
    ],
)
def test_run_refuses_what_the_network_does_not_take(work, tmp_path, array, kind):
    np.save(tmp_path / "x.npy", array)
    output = tmp_path / "y.npy"
    refused(3, kind, "run", "--device", work["device"], "--input", tmp_path / "x.npy", "--output", output)
    assert not output.exists()


def test_run_refuses_files_that_do_not_go_together(work, tmp_path):
    x = work["folder"] / "x.npy"
    at = ("run", "--device", work["device"])
    refused(2, "UsageError", *at, "--input", x, "--input", x, "--output", tmp_path / "y.npy")
    refused(2, "UsageError", *at, "--input", x, "--output", tmp_path / "no" / "y.npy")
    refused(3, "BadInputError", *at, "--input", tmp_path / "none.npy", "--output", tmp_path / "y.npy")
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 3, 8, 8), np.float32), z=np.zeros(3))
    refused(2, "UsageError", *at, "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npy")


def test_compile_refuses_a_folder_that_is_no_run(work, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    error = refused(3, BadInputError.__name__, "compile", tmp_path, "--out", tmp_path / "bundle")
    assert str(tmp_path) in error["message"]
    assert not (tmp_path / "bundle").exists()


def test_compile_takes_no_folder_that_holds_something_else(work):
    refused(2, "UsageError", "compile", work["folder"] / "run", "--out", work["folder"] / "run", *work["shared"])
    assert (work["folder"] / "run" / "run.json").is_file()


def test_compile_with_a_named_device_insists_on_its_profile(work, tmp_path):
    args = ("compile", *MODEL, "--out", tmp_path / "bundle", "-q")
    refused(3, "ProfileError", *args, "--device", work["device"], "--store", tmp_path / "empty.sqlite3")
    refused(3, "ProfileMismatchError", *args, "--device", "local:", "--store", work["store"])
    assert not (tmp_path / "bundle").exists()


def test_report_of_what_is_no_run(tmp_path):
    refused(3, "BadInputError", "report", tmp_path)


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name, capsys):
    assert main([name, "--help"]) == 0
    assert "--json" in capsys.readouterr().out
