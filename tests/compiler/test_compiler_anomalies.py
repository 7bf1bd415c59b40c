"""Anomalous inputs: what program, C interface and Python say of NaN, infinity and values beyond the data.

What is to be found is computed by NumPy, from the definition in docs/BOARD.md.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import done, refused
from torch import Tensor, nn

import edgeprune
from edgeprune.board.anomalies import MODES, Anomaly
from edgeprune.cli.main import main
from edgeprune.compiler.link import board_sources, compile_object
from edgeprune.compiler.manifest import MANIFEST, Manifest, read_manifest
from edgeprune.deploy.trials import on_trial
from edgeprune.errors import AnomalousInputError, UsageError
from edgeprune.graph.network import read_network
from edgeprune.models.interface import Interface
from edgeprune.models.ranges import InputRange
from edgeprune.targets import load_target
from edgeprune.training.halves import Batch, Targeted
from edgeprune.training.ranges import SAMPLES, input_ranges

# One worker runs them all: they share a bundle.
pytestmark = pytest.mark.xdist_group("anomalies")

SHAPES = {"x": (1, 2, 3), "h": (1, 4), "d": (1, 4), "n": (1, 3), "free": (1, 2)}
TYPES = {"x": "float32", "h": "float16", "d": "float64", "n": "int32", "free": "int64"}
RANGES = (InputRange(-1.0, 3.0, 10), InputRange(0, 1, 10), None, InputRange(-5, 100, 10), None)


class Net(nn.Module):
    """Inputs of five types: three real ones and integers with ranges, a real one and an integer without."""

    def forward(self, x: Tensor, h: Tensor, d: Tensor, n: Tensor, free: Tensor) -> tuple[Tensor, ...]:
        return 2 * x, h + 1, d + 1, n + 1, free + 1


def normal(batch: int = 1) -> dict[str, np.ndarray]:
    """Samples within all ranges, as far as these reach."""
    rng = np.random.default_rng(0)
    made = {name: rng.random((batch, *SHAPES[name][1:])) for name in SHAPES}
    made["x"][0, 0, 0], made["x"][0, 1, 2] = -1.4, 3.4  # at the widened ends
    made["d"][0, 0] = 1e30
    made["n"], made["free"] = np.full((batch, 3), 110), np.full((batch, 2), -(2**24))
    return {name: np.asarray(v, TYPES[name]) for name, v in made.items()}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from edgeprune.compiler.compile import compile_network

    examples = tuple(torch.from_numpy(v) for v in normal().values())
    held = tuple(x.float() if x.is_floating_point() else x for x in examples)
    network = read_network(Net(), held, Interface(inputs=tuple(TYPES.values()), ranges=RANGES))
    out = tmp_path_factory.mktemp("anomalies") / "bundle"
    compile_network(network, load_target("host"), out)
    return out


def run(bundle: Path, folder: Path, given: dict[str, np.ndarray], *more: object) -> subprocess.CompletedProcess[str]:
    options: list[object] = ["--batch", len(given["x"]), *more]
    for name, values in given.items():
        (folder / name).write_bytes(values.tobytes())
        options += ["--input", folder / name, "--output", folder / f"{name}.out"]
    return subprocess.run([bundle / "model", "run", *map(str, options)], capture_output=True, text=True, check=False)


def expected(given: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Every input of every sample that is anomalous, from the definition."""
    found = []
    for sample in range(len(given["x"])):
        for (name, values), known in zip(given.items(), RANGES, strict=True):
            v = values[sample].astype(np.float64)[np.newaxis]
            margin = 0 if known is None else 0.1 * (known.maximum - known.minimum)
            low, high = (-np.inf, np.inf) if known is None else (known.minimum - margin, known.maximum + margin)
            wild = ~np.isfinite(v)
            out = ~wild & ((v < low - 1e-5) | (v > high + 1e-5))
            if (wild | out).any():
                element = int(np.flatnonzero(wild if wild.any() else out)[0])
                place = [int(i) for i in np.unravel_index(element, v.shape)]
                value = float(v.reshape(-1)[element])
                said = value if np.isfinite(value) else str(value)
                row = {
                    "sample": sample,
                    "input": name,
                    "value": pytest.approx(said, rel=1e-6) if said == value else said,
                }
                row |= {"element": element, "position": place, "not_finite": int(wild.sum()), "outside": int(out.sum())}
                found.append(row)
    return found


def lines(stdout: str) -> list[Any]:
    return [json.loads(line) for line in stdout.splitlines()]


def strange() -> dict[str, np.ndarray]:
    """Five samples: normal; outside; not finite; both in one input; normal."""
    given = normal(5)
    given["x"][1, 1, 0], given["n"][1, 2] = 3.5, 111
    given["h"][2, 3], given["d"][2, 1] = np.inf, -np.inf
    given["x"][3, 0, 2], given["x"][3, 1, 1], given["x"][3, 1, 2] = 1e20, np.nan, -7
    return given


def test_every_anomalous_value_is_told(bundle: Path, tmp_path: Path) -> None:
    given = strange()
    ended = run(bundle, tmp_path, given, "--anomalies", "flag")
    said = lines(ended.stdout)
    assert (ended.returncode, said[-1]) == (0, {"samples": 5, "anomalous": 3})
    found = [line["anomaly"] for line in said[:-1]]
    ranges = {"x": [-1.4, 3.4], "h": [-0.1, 1.1], "d": None, "n": [-15.5, 110.5]}
    for row in found:
        told = row.pop("range")
        assert told == (ranges[row["input"]] and pytest.approx(ranges[row["input"]], abs=2e-4))
    assert found == expected(given)
    assert [row["input"] for row in found] == ["x", "n", "h", "d", "x"]
    np.testing.assert_array_equal(np.fromfile(tmp_path / "x.out", "f4").reshape(5, 2, 3), 2 * given["x"])


def test_normal_samples_are_told_as_before(bundle: Path, tmp_path: Path) -> None:
    """Also under the strictest mode."""
    for more in ((), ("--anomalies", "refuse")):
        ended = run(bundle, tmp_path, normal(2), *more)
        assert (ended.returncode, lines(ended.stdout), ended.stderr) == (0, [{"samples": 2}], "")


def test_what_each_mode_refuses(bundle: Path, tmp_path: Path) -> None:
    outside, wild = normal(2), normal(2)
    outside["n"][1, 1], wild["d"][1, 2] = 2**20, np.nan
    codes = {m: tuple(run(bundle, tmp_path, g, "--anomalies", m).returncode for g in (outside, wild)) for m in MODES}
    assert codes == {"guard": (0, 11), "refuse": (11, 11), "flag": (0, 0), "off": (0, 0)}
    assert run(bundle, tmp_path, outside).returncode == 0, "guard is the default"
    assert run(bundle, tmp_path, wild).returncode == 11
    assert lines(run(bundle, tmp_path, wild, "--anomalies", "off").stdout) == [{"samples": 2}]
    ended = run(bundle, tmp_path, wild, "--anomalies", "sometimes")
    assert (ended.returncode, "bad or incomplete argument: --anomalies" in ended.stderr) == (2, True)


def test_what_is_refused_is_named_and_costs_nothing(bundle: Path, tmp_path: Path) -> None:
    """All samples are looked at before the first is computed: no output is begun."""
    ended = run(bundle, tmp_path, strange(), "--anomalies", "refuse")
    assert (ended.returncode, len(lines(ended.stdout))) == (11, 5)
    assert "input x of sample 1 holds 3.5 at [0,1,0]; the range is [-1.4" in ended.stderr
    ended = run(bundle, tmp_path, strange())
    assert "input h of sample 2 holds inf at [0,3]; the range is [-0.1" in ended.stderr
    assert not list(tmp_path.glob("*.out"))


def test_check_and_bench_look_at_nothing(bundle: Path) -> None:
    """The golden sample is noise, far outside of what the ranges allow here."""
    golden = read_manifest(bundle).golden
    noise = np.fromfile(bundle / golden.inputs[1], "f2")
    assert noise.min() < -0.1
    named = [part for n in golden.inputs for part in ("--input", bundle / n)]
    named += [part for n in golden.outputs for part in ("--expect", bundle / n)]
    for arguments in (["check", *named, "--rtol", "1e-2"], ["bench", "--repeats", "2"]):
        ended = subprocess.run([bundle / "model", *map(str, arguments)], capture_output=True, text=True, check=False)
        assert (ended.returncode, "anomal" in ended.stdout) == (0, False), ended.stderr


def test_the_library_finds_what_the_program_finds(bundle: Path) -> None:
    given = strange()
    with edgeprune.load_bundle(bundle) as model:
        found = [(s, a) for s in range(5) for a in model.inspect(*(v[s : s + 1] for v in given.values()))]
        told = [{**a.to_json(), "sample": s} for s, a in found]
        assert [{k: v for k, v in row.items() if k != "range"} for row in told] == expected(given)
        with pytest.raises(UsageError, match="takes 5 inputs"):
            model.inspect(given["x"])
        lib, count = model._lib, ctypes.c_int(len(SHAPES))
        lib.ep_input_range.restype = ctypes.POINTER(ctypes.c_double)
        assert [bool(lib.ep_input_range(i)) for i in range(-1, count.value + 1)] == [
            False, *(r is not None for r in RANGES), False
        ]  # fmt: skip
        assert lib.ep_input_range(0)[1] == RANGES[0].high
        floats = np.array([0, np.nan, 0, 0], np.float32)
        inspect, values = lib.ep_inspect_floats, ctypes.c_void_p(floats.ctypes.data)
        assert (inspect(1, values, None), inspect(9, values, None), lib.ep_inspect(-1, values, None)) == (2, -1, -1)
        floats[1] = 2
        assert (inspect(1, values, None), inspect(2, values, None)) == (1, 0)


def test_a_program_of_an_application_compiles_with_the_header(tmp_path: Path) -> None:
    """As C and as C++ reads it: the names that docs/BOARD.md gives."""
    (tmp_path / "app.c").write_text(
        '#include "edgeprune_model.h"\n'
        "int app(const void *frame) {\n"
        "  ep_anomaly found;\n"
        "  const ep_range *range = ep_input_range(0);\n"
        "  return ep_inspect(0, frame, &found) != EP_NORMAL && range && found.value > range->high;\n"
        "}\n"
    )
    shutil.copy2(board_sources() / "edgeprune_model.h", tmp_path)
    compile_object(load_target("rpi4"), [tmp_path / "app.c"], tmp_path / "app.o")


# ---- through devices -------------------------------------------------------------------------------


def test_python_hands_the_mode_on(bundle: Path, tmp_path: Path) -> None:
    from edgeprune.api.boards import outputs_of

    given = strange()
    with edgeprune.open_device(f"local:{tmp_path}") as board, on_trial(board) as trials:
        placed = trials.keep(bundle)
        results = outputs_of(placed, list(given.values()), anomalies="flag")
        assert [(a.sample, a.input) for a in results.anomalies] == [(e["sample"], e["input"]) for e in expected(given)]
        np.testing.assert_array_equal(results[0], 2 * given["x"])
        with pytest.raises(AnomalousInputError, match=r"input 'h' holds 1 values .* inf at \[0, 3\] of sample 2") as e:
            outputs_of(placed, list(given.values()))
        assert e.value.exit_code == 11
        json.dumps(e.value.to_json(), allow_nan=False)
        assert e.value.details["anomalies"][2]["value"] == "inf"
        with pytest.raises(AnomalousInputError, match=r"input 'x' holds 1 values outside -1.4.* to 3.4.*: 3.5 at"):
            outputs_of(placed, list(given.values()), anomalies="refuse")
        assert outputs_of(placed, list(given.values()), anomalies="off").anomalies == ()
        with pytest.raises(UsageError, match="'loud' says nothing of anomalies"):
            outputs_of(placed, list(given.values()), anomalies="loud")


def test_the_command_line_says_what_was_flagged(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, files = strange(), ("--input", tmp_path / "all.npz", "--output", tmp_path / "out.npz")
    np.savez(tmp_path / "all.npz", **given)
    body = done("run", bundle, *files, "--anomalies", "flag")
    assert [{k: v for k, v in row.items() if k != "range"} for row in body["anomalies"]] == expected(given)
    with np.load(tmp_path / "out.npz") as results:
        np.testing.assert_array_equal(results[next(iter(results.files))], 2 * given["x"])
    assert done("run", bundle, *files, "--anomalies", "off")["anomalies"] == []
    (tmp_path / "out.npz").unlink()
    error = refused(11, "AnomalousInputError", "run", bundle, *files)
    assert [row["sample"] for row in error["details"]["anomalies"]] == [1, 1, 2, 2, 3]
    assert not (tmp_path / "out.npz").exists()
    assert "'loud' says nothing" in refused(2, "UsageError", "run", bundle, *files, "--anomalies", "loud")["message"]
    assert main(["run", *map(str, (bundle, *files)), "--anomalies", "flag"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["2", "h", "inf"] in [row[:3] for row in rows], "the table has them, too"


def test_a_bundle_of_an_earlier_version(bundle: Path, tmp_path: Path) -> None:
    """Its manifest says nothing of ranges, and its program does not know the option; here that is a script."""
    from edgeprune.api.boards import outputs_of

    old = tmp_path / "old"
    shutil.copytree(bundle, old)
    said = json.loads((old / MANIFEST).read_text())
    del said["inspects"]
    for port in said["inputs"]:
        port.pop("range", None)
    (old / "model").rename(old / "real")
    (old / "model").write_text(
        f'#!/bin/sh\ncase "$*" in *anomalies*) exit 2;; esac\nexec {old}/real "$@" --anomalies off\n'
    )
    (old / "model").chmod(0o755)
    manifest = Manifest.from_json(said)
    assert json.loads(manifest.to_text()) == said, "an old manifest keeps its text, and its release its name"
    digest = __import__("hashlib").sha256((old / "model").read_bytes()).hexdigest()
    said["files"]["model"] |= {"sha256": digest, "bytes": (old / "model").stat().st_size}
    (old / MANIFEST).write_text(json.dumps(said))
    given = list(normal().values())
    with edgeprune.open_device(f"local:{tmp_path / 'board'}") as board, on_trial(board) as trials:
        placed = trials.keep(old)
        for mode in ("guard", "off"):
            np.testing.assert_array_equal(outputs_of(placed, given, anomalies=mode)[0], 2 * given[0])
        for mode in ("refuse", "flag"):
            with pytest.raises(UsageError, match="built by a version that does not look at inputs"):
                outputs_of(placed, given, anomalies=mode)
        given[2][0, 0] = np.nan
        with pytest.raises(AnomalousInputError, match="holds 1 values that are NaN"):
            outputs_of(placed, given)
    with edgeprune.load_bundle(old) as model, pytest.raises(UsageError, match="does not look at its inputs"):
        model.inspect(*given)


def test_an_anomaly_comes_back_from_json() -> None:
    a = Anomaly(3, "x", float("-inf"), 5, (0, 5), 1, 0, (0.0, 1.0))
    said = json.loads(json.dumps(a.to_json(), allow_nan=False))
    assert said["value"] == "-inf"
    assert Anomaly.from_json({**said, "value": float(said["value"])}) == a


# ---- the range of data -----------------------------------------------------------------------------


def test_the_range_of_a_training_half_is_in_the_bundle(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    data = {f"x_{h}": rng.normal(size=(n, 3, 2, 2)).astype("f4") for h, n in (("train", 50), ("test", 9))}
    data |= {f"y_{h}": np.arange(len(data[f"x_{h}"])) % 2 for h in ("train", "test")}
    data["x_test"][0, 0, 0, 0] = 99  # not what the network saw
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(16, 2))
    made = edgeprune.compile(net, example_inputs=(1, 3, 2, 2), data=data, out=tmp_path / "bundle")
    found = read_manifest(made.path).inputs[0].range
    assert found is not None
    low, high = data["x_train"].min(), data["x_train"].max()
    assert (found.minimum, found.maximum, found.samples) == (low, high, 50)
    assert (found.low, found.high) == pytest.approx((low - 0.1 * (high - low), high + 0.1 * (high - low)), abs=1e-4)
    with edgeprune.load_bundle(made.path) as model:
        (seen,) = model.inspect(data["x_test"][:1])
        assert (seen.value, seen.position, seen.range) == (99, (0, 0, 0, 0), (found.low, found.high))
    framed = edgeprune.compile(
        net, example_inputs=(1, 3, 2, 2), data=data, image_input="rgb", out=tmp_path / "framed"
    ).manifest
    assert framed.inputs[0].range is None, "a camera gives all grey levels"


class Read:
    """A half that is read sample by sample, draws random numbers, and is wild where it is not looked at."""

    size, fixed = 5 * SAMPLES, False

    def __init__(self) -> None:
        self.seen: list[int] = []

    def take(self, chosen: Tensor) -> Batch:
        self.seen += chosen.tolist()
        torch.rand(3)
        return Batch((chosen.float().reshape(-1, 1) / self.size, chosen.reshape(-1, 1) > 0))


class Two(nn.Module):
    def forward(self, x: Tensor, b: Tensor) -> Tensor:
        return x * b


def test_of_a_large_half_a_spread_of_samples_is_read() -> None:
    network = read_network(Two(), (torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.bool)))

    def never(batch: Batch) -> Any:
        raise AssertionError("targets are not needed")

    half, before = Read(), torch.random.get_rng_state()
    ranges = input_ranges(network, Targeted(half, never))
    assert torch.equal(before, torch.random.get_rng_state())
    assert (len(half.seen), half.seen[0], half.seen[-1]) == (SAMPLES, 0, half.size - 1)
    assert ranges == (InputRange(0.0, float(np.float32((half.size - 1) / half.size)), SAMPLES), None)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 70, 99])
def test_data_that_are_not_finite_give_no_range(bad: float, at: int) -> None:
    from edgeprune.training.halves import Stacked

    x = torch.linspace(0, 1, 100).reshape(100, 1)
    x[at] = bad
    network = read_network(Two(), (torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.bool)))
    assert input_ranges(network, Stacked((x, x > 0))) == (None, None)


def test_a_range_is_widened_and_stays_finite() -> None:
    assert (InputRange(0, 10, 1).low, InputRange(0, 10, 1).high) == pytest.approx((-1, 11), abs=1e-4)
    same = InputRange(5, 5, 1)
    assert same.low < np.nextafter(np.float32(5), np.float32(0)) < 5 < same.high < 5.001
    widest = InputRange(-1.7e308, 1.7e308, 1)
    assert np.isfinite([widest.low, widest.high]).all()
    for wrong in ((1, 0, 1), (float("nan"), 1, 1), (0, float("inf"), 1), (0, 1, 0)):
        with pytest.raises(ValueError, match="is no range"):
            InputRange(*wrong)


def test_false_flags_are_as_rare_as_is_promised() -> None:
    """The page promises at most 2 / (N + 1) for samples of one kind, of any tails; the margin lowers it."""
    rng, many, n = np.random.default_rng(2), 4000, 50
    drawn = rng.exponential(size=(many, n + 1, 4))
    seen, new = drawn[:, :n], drawn[:, n]
    margin = 0.1 * (seen.max((1, 2)) - seen.min((1, 2)))
    outside = (new.max(1) > seen.max((1, 2))) | (new.min(1) < seen.min((1, 2)))
    assert 1.5 / (n + 1) < outside.mean() <= 2.6 / (n + 1)
    widened = (new.max(1) > seen.max((1, 2)) + margin) | (new.min(1) < seen.min((1, 2)) - margin)
    assert widened.mean() < 1 / (n + 1)
