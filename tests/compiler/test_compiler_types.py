"""Element types at the edges of a program: values that go in and come out as the network's own types."""

from __future__ import annotations

import ctypes
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgeprune
from edgeprune.board.element_types import SIZES, in_c
from edgeprune.compiler.library import CompiledModel
from edgeprune.compiler.link import board_sources
from edgeprune.compiler.manifest import MANIFEST, read_manifest
from edgeprune.errors import BadInputError, BundleError

TYPES = ("float16", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
HALVES = np.arange(2**16, dtype=np.uint16).view(np.float16)
WHOLE = 2**24


class Edges(nn.Module):
    """Gives back what it takes, and takes a tensor of each type."""

    def forward(self, *x: Tensor) -> tuple[Tensor, ...]:
        return x


def given(**other: object) -> list[np.ndarray]:
    """Values of each type, ``other`` in place of some."""
    values = {
        "float16": HALVES,
        "float64": [0.1, -2.5, np.inf, 3e38],
        "int8": [-128, 127, 0, -1],
        "int16": [-32768, 32767, 0, -1],
        "int32": [-WHOLE, WHOLE, 0, -1],
        "int64": [-WHOLE, WHOLE, 0, -1],
        "uint8": [0, 255, 1, 128],
        "bool": [True, False, True, True],
    }
    return [np.asarray(v, t) for t, v in {**values, **other}.items()]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    examples = tuple(torch.from_numpy(np.ones_like(x)) for x in given())
    return edgeprune.compile(Edges(), example_inputs=examples, out=tmp_path_factory.mktemp("types") / "bundle").path


@pytest.fixture(scope="module")
def model(bundle: Path) -> Iterator[CompiledModel]:
    with edgeprune.load_bundle(bundle) as opened:
        yield opened


def program(bundle: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([bundle / "model", *map(str, arguments)], capture_output=True, text=True, check=False)


def test_the_types_are_the_same_in_the_header_and_in_python() -> None:
    header = (board_sources() / "edgeprune_model.h").read_text()
    listed = header.partition("typedef enum {")[2].partition("}")[0].replace("= 0", "").split(",")
    assert [name.strip() for name in listed] == [in_c(name) for name in SIZES]
    assert {name: np.dtype(name).itemsize for name in SIZES} == SIZES


def test_manifest_and_program_tell_the_types(bundle: Path) -> None:
    manifest, info = read_manifest(bundle), json.loads(program(bundle, "info").stdout)
    for ports in (manifest.inputs, manifest.outputs):
        assert tuple(p.dtype for p in ports) == TYPES
    for side in ("inputs", "outputs"):
        assert tuple(p["dtype"] for p in info[side]) == TYPES


def test_values_come_back_as_they_went_in(model: CompiledModel) -> None:
    for x, y in zip(given(), model(*given()), strict=True):
        assert y.dtype == x.dtype
        expected = x.astype(np.float32).astype(x.dtype) if x.dtype == np.float64 else x
        np.testing.assert_array_equal(y, expected)
    halves = model(*given())[0]
    finite = ~np.isnan(HALVES)
    assert (halves.view(np.uint16)[finite] == HALVES.view(np.uint16)[finite]).all(), "zeros keep their sign"


@pytest.mark.parametrize("type_", ["int32", "int64"])
@pytest.mark.parametrize("value", [WHOLE + 1, -WHOLE - 1, 2**31 - 1])
def test_an_integer_that_is_not_exact_is_refused(model: CompiledModel, type_: str, value: int) -> None:
    with pytest.raises(BadInputError, match=rf"holds {value} \(element 2\): .* whole numbers up to {WHOLE}"):
        model(*given(**{type_: [0, 1, value, 0]}))
    model(*given())  # and goes on


def test_a_double_beyond_float32_is_refused(model: CompiledModel) -> None:
    with pytest.raises(BadInputError, match=r"holds 1e\+300 .*float32"):
        model(*given(float64=[0, 1e300, 0, 0]))


@pytest.mark.parametrize(("type_", "values"), [("int8", [128]), ("uint8", [-1]), ("int64", [0.5]), ("bool", [2])])
def test_values_that_their_type_does_not_hold_are_refused(model: CompiledModel, type_: str, values: list) -> None:
    arrays = given()
    arrays[TYPES.index(type_)] = np.array([*values, 0, 0, 0])
    with pytest.raises(BadInputError, match=f"of type {type_}, which does not hold"):
        model(*arrays)
    arrays[TYPES.index(type_)] = np.array([1.0, 0.0, 1.0, 0.0])
    assert model(*arrays)[TYPES.index(type_)].tolist() == [1, 0, 1, 0]


def test_results_are_rounded_and_kept_in_range(model: CompiledModel) -> None:
    x = np.array([0.5, 1.5, 2.4999998, -0.5, -1.5, 127.5, -129, 254.5, 40000, -40000, 3e9, -3e9, 1e19, -1e19], "f4")
    x = np.concatenate([x, [np.nan, np.inf, -np.inf, 16777215.0]]).astype(np.float32)
    for name in ("int8", "int16", "int32", "int64", "uint8"):
        limits, found = np.iinfo(name), _given_by(model, name, x)
        rounded = np.rint(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=1e30, neginf=-1e30))
        expected = [min(max(int(v), limits.min), limits.max) for v in rounded]
        assert found.tolist() == expected, name
    assert _given_by(model, "bool", np.array([0.0, -0.0, 1e-30, np.nan], "f4")).tolist() == [False, False, True, True]


def test_results_in_float16_are_the_nearest(model: CompiledModel) -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, np.uint64).astype(np.uint32)
    halves = HALVES[np.isfinite(HALVES)].astype(np.float32)
    ties = (halves[:-1] + halves[1:]) / 2
    x = np.concatenate([bits.view(np.float32), halves, ties, np.nextafter(ties, np.float32(0))])
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
    found = _given_by(model, "float16", x)
    numbers = ~np.isnan(x)
    np.testing.assert_array_equal(found.view(np.uint16)[numbers], expected.view(np.uint16)[numbers])
    assert np.isnan(found[~numbers]).all()


def _given_by(model: CompiledModel, name: str, x: np.ndarray) -> np.ndarray:
    found = np.empty(len(x), name)
    pointers = (ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(found.ctypes.data))
    model._lib.ep_give(list(SIZES).index(name), *pointers, ctypes.c_uint64(len(x)))
    return found


def test_floats_for_everything(model: CompiledModel) -> None:
    """The easy path of C: numbers as the program computes with them, whatever the types."""
    floats = [x.astype(np.float32) for x in given(float64=[1, 2, 3, 4])]
    floats[5][:] = 3e9  # no integer of the type: nothing is checked
    results = [np.empty_like(x) for x in floats]
    pointers = [(ctypes.c_void_p * 8)(*(x.ctypes.data for x in arrays)) for arrays in (floats, results)]
    assert model._lib.ep_run_floats(ctypes.c_void_p(model._handle), *pointers) == 0
    for x, y in zip(floats, results, strict=True):
        np.testing.assert_array_equal(x, y)


def test_raw_files_of_a_batch(bundle: Path, tmp_path: Path) -> None:
    arrays, options = given(), []
    for i, x in enumerate(arrays):
        (tmp_path / f"x{i}").write_bytes(x.tobytes() + x[::-1].tobytes())
        options += ["--input", tmp_path / f"x{i}", "--output", tmp_path / f"y{i}"]
    done = program(bundle, "run", *options, "--batch", 2)
    assert (done.returncode, "holds inf at [31744]" in done.stderr) == (11, True), "infinity and NaN are among HALVES"
    options += ["--anomalies", "off"]
    assert program(bundle, "run", *options, "--batch", 2).returncode == 0
    for i, x in enumerate(arrays):
        if x.dtype != np.float64:
            y = np.fromfile(tmp_path / f"y{i}", x.dtype)
            np.testing.assert_array_equal(y, np.concatenate([x, x[::-1]]))
    (tmp_path / "x5").write_bytes(np.array([0, 0, 0, WHOLE + 1] * 2, np.int64).tobytes())
    done = program(bundle, "run", *options, "--batch", 2)
    assert done.returncode == 3
    assert f"holds {WHOLE + 1}" in done.stderr


def test_the_golden_sample_and_the_memory(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    golden = manifest.golden
    files = [("--input", n) for n in golden.inputs] + [("--expect", n) for n in golden.outputs]
    assert [(bundle / n).stat().st_size for n in golden.inputs] == [x.nbytes for x in given()]
    named = [a for option, name in files for a in (option, bundle / name)]
    assert program(bundle, "check", *named, "--rtol", golden.rtol, "--atol", golden.atol).returncode == 0
    bench = json.loads(program(bundle, "bench", "--repeats", 2).stdout)
    assert bench["allocated_bytes"] == manifest.memory.peak_ram


def test_a_type_that_nobody_knows_is_refused(bundle: Path, tmp_path: Path) -> None:
    text = (bundle / MANIFEST).read_text()
    (tmp_path / MANIFEST).write_text(text.replace('"int16"', '"int12"'))
    with pytest.raises(BundleError, match="no element type 'int12'; the types are float32"):
        read_manifest(tmp_path, verify=False)


def test_a_program_of_floats_is_told_as_before(tmp_path: Path) -> None:
    made = edgeprune.compile(nn.Conv2d(3, 4, 1), example_inputs=(1, 3, 2, 2), out=tmp_path / "bundle")
    ports = made.manifest.to_json()
    assert ports["inputs"] == [{"name": "input", "shape": [1, 3, 2, 2], "dtype": "float32"}]
    assert ports["outputs"] == [{"name": "conv2d", "shape": [1, 4, 2, 2], "dtype": "float32"}]
    with edgeprune.load_bundle(made.path) as model:
        (y,) = model(np.ones((1, 3, 2, 2)))  # of doubles, as ever
    assert y.dtype == np.float32
