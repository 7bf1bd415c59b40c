"""Programs whose weights lie in them without their zeros: the same results from a smaller file, for more RAM."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import edgeprune
from edgeprune.compiler.build_check import require_built_for
from edgeprune.compiler.coding import coded
from edgeprune.compiler.compile import compile_network, lower_network
from edgeprune.compiler.elf import read_needs
from edgeprune.compiler.manifest import MANIFEST, Manifest, read_manifest
from edgeprune.compiler.memory import aligned
from edgeprune.compiler.program import Buffer, Program
from edgeprune.compiler.storage import ENTRY_BYTES, LEAST_BYTES, SPARSE, share_of_zeros, stored
from edgeprune.errors import UsageError
from edgeprune.graph.network import Network, read_network
from edgeprune.targets import Target, load_target

# What they share is compiled once.
pytestmark = pytest.mark.xdist_group("storage")

HOST, NEON, GPU = load_target("host"), load_target("rpi4"), load_target("jetson_orin_nano")
IMAGE = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@cache
def sparse(share: float, seed: int = 0) -> Network:
    """Convolutions with the smallest weights at 0, and norms with negative scales, which make -0.0 of some."""
    torch.manual_seed(seed)
    widths = [3, 32, 64, 64]
    layers: list[nn.Module] = []
    for stride, (c, n) in enumerate(pairwise(widths), start=1):
        layers += [nn.Conv2d(c, n, 3, min(stride, 2), 1, bias=False), nn.BatchNorm2d(n), nn.ReLU()]
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)).eval()
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim > 1 and share:
                p.mul_(p.abs() > p.abs().flatten().quantile(share))
        for m in module.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.weight.uniform_(-1, 1)
    return read_network(module, (IMAGE,))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The same network with 80 % zeros in each storage."""
    folder, network = tmp_path_factory.mktemp("storage"), sparse(0.8)
    for storage in ("dense", "auto", "compressed"):
        compile_network(network, HOST, folder / storage, name="net", weight_storage=storage)
    return {f.name: f for f in folder.iterdir()}


def said(bundle: Path, *command: str) -> dict[str, object]:
    done = subprocess.run([str(bundle / "model"), *command], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def outputs(bundle: Path, threads: int) -> list[bytes]:
    samples = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(2)).numpy()
    with edgeprune.load_bundle(bundle, threads=threads) as model:
        return [y.tobytes() for x in samples for y in model(x[np.newaxis])]


@pytest.mark.parametrize("threads", [1, 2])
def test_results_are_the_same_to_the_bit(threads: int, bundles: Mapping[str, Path]) -> None:
    dense = outputs(bundles["dense"], threads)
    assert len(set(dense)) == 4
    assert outputs(bundles["compressed"], threads) == outputs(bundles["auto"], threads) == dense


@pytest.mark.parametrize("storage", ["auto", "compressed"])
def test_the_file_is_smaller_by_what_the_manifest_says(storage: str, bundles: Mapping[str, Path]) -> None:
    dense, small = (read_manifest(bundles[name]) for name in ("dense", storage))
    assert small.compressed is not None
    sizes = [(bundles[name] / "model").stat().st_size for name in ("dense", storage)]
    assert sizes == [dense.memory.flash, small.memory.flash] == [small.compressed.dense_flash, small.memory.flash]
    assert small.saved_bytes == sizes[0] - sizes[1] > 0.6 * dense.memory.weights
    codes = small.compressed.constants
    assert sum(c.dense_bytes - c.bytes for c in codes) == dense.memory.weights - small.memory.weights
    assert small.memory.weights == round(small.stored_share * dense.memory.weights)
    library = [(bundles[name] / "libmodel.so").stat().st_size for name in ("dense", storage)]
    assert library[0] - library[1] > 0.6 * dense.memory.weights
    for c in codes:
        assert c.dense_bytes == aligned(4 * c.elements)
        assert 0 <= c.zeros <= c.elements
        assert c.bytes >= 4 * (c.elements - c.zeros)


@pytest.mark.parametrize("storage", ["dense", "auto", "compressed"])
def test_the_program_takes_the_ram_that_its_manifest_says(storage: str, bundles: Mapping[str, Path]) -> None:
    manifest, dense = read_manifest(bundles[storage]), read_manifest(bundles["dense"])
    info = said(bundles[storage], "info")
    decoded = 0
    if manifest.compressed is None:
        assert "compressed" not in info
    else:
        codes, decoded = manifest.compressed.constants, manifest.compressed.decoded
        assert decoded == sum(c.dense_bytes for c in codes)
        expected = {"constants": len(codes), "bytes": sum(c.bytes for c in codes), "decoded_bytes": decoded}
        assert info["compressed"] == expected
    assert manifest.memory.peak_ram == dense.memory.peak_ram + decoded == info["peak_ram_bytes"]
    assert info["weight_bytes"] == manifest.memory.weights
    for threads in ("1", "2"):
        bench = said(bundles[storage], "bench", "--warmup", "0", "--repeats", "1", "--threads", threads)
        assert bench["allocated_bytes"] == manifest.memory.peak_ram


def test_manifests_of_dense_programs_are_as_they_were(bundles: Mapping[str, Path]) -> None:
    assert "compressed" not in json.loads((bundles["dense"] / MANIFEST).read_text())
    text = (bundles["auto"] / MANIFEST).read_text()
    assert Manifest.from_json(json.loads(text)).to_text() == text
    assert read_manifest(bundles["auto"]).compressed_json() is not None


def test_a_network_without_enough_zeros_gives_the_same_release(tmp_path: Path) -> None:
    network = sparse(0.2)
    dense, auto = (compile_network(network, HOST, tmp_path / s, weight_storage=s) for s in ("dense", "auto"))
    assert (auto.compressed, auto.release_id) == (None, dense.release_id)


def test_nothing_that_gets_smaller_leaves_the_program_dense(tmp_path: Path) -> None:
    """A layer of 8 by 8: no file is smaller for a decoder."""
    torch.manual_seed(0)
    layer = nn.Linear(8, 8)
    with torch.no_grad():
        layer.weight.mul_(torch.eye(8))
    network = read_network(layer.eval(), (torch.randn(1, 8),))
    assert stored(lower_network(network, HOST, name="net").program, HOST, "compressed", 1.0).codes
    made = [compile_network(network, HOST, tmp_path / s, weight_storage=s) for s in ("dense", "compressed")]
    assert made[0].release_id == made[1].release_id


def test_a_damaged_program_is_refused_when_it_is_opened(bundles: Mapping[str, Path], tmp_path: Path) -> None:
    whole = (bundles["compressed"] / "model").read_bytes()
    program = stored(lower_network(sparse(0.8), HOST, name="net").program, HOST, "compressed", 1.0)
    assert program.weights is not None
    at = whole.index(program.weights.tobytes())
    for number in (0, len(program.codes) - 1):
        damaged = bytearray(whole)
        damaged[at + program.codes[number].offset] = 200  # of words in a unit
        file = tmp_path / "model"
        file.write_bytes(damaged)
        file.chmod(0o755)
        done = subprocess.run([str(file), "bench"], capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout) == (6, "")
        assert f"compressed weights are damaged (number {number})" in done.stderr
        file.unlink()


@pytest.mark.parametrize("name", ["rpi4", "armv7_generic"])
def test_programs_for_other_processors_are_built(name: str, tmp_path: Path) -> None:
    target = load_target(name)
    layer = nn.Linear(64, 256).eval()
    with torch.no_grad():
        layer.weight.mul_(layer.weight.abs() > layer.weight.abs().quantile(0.8))
    manifest = compile_network(read_network(layer, (torch.randn(1, 64),)), target, tmp_path / "bundle")
    assert manifest.compressed is not None
    assert manifest.saved_bytes > 0.6 * sum(c.dense_bytes for c in manifest.compressed.constants)
    require_built_for(target, read_needs(tmp_path / "bundle" / "model"))


# -- the rule ---------------------------------------------------------------------------------------------------


def program_of(*constants: np.ndarray) -> Program:
    """Calls of one constant each, the first of which two calls read."""
    parts, at, calls = [], 0, []
    spec = lower_network(read_network(nn.ReLU().eval(), (IMAGE,)), HOST, name="net").program.calls[0]
    for i, values in enumerate(constants):
        size = aligned(4 * values.size)
        parts.append(np.pad(values.reshape(-1), (0, size // 4 - values.size)))
        buffers = (Buffer("arena", 0, 16), Buffer("weights", at, values.size), Buffer("arena", 64, 16))
        calls.append(replace(spec, name=f"call{i}", buffers=buffers))
        at += size
    calls.append(replace(calls[0], name="again"))
    return Program("net", tuple(calls), (), (), 128, at, np.concatenate(parts))


def noise(elements: int, zeros: float) -> np.ndarray:
    random = np.random.default_rng(elements)
    values = random.standard_normal(elements).astype(np.float32)
    values[: int(zeros * elements)] = 0
    random.shuffle(values)
    return values


def chosen(program: Program, target: Target, storage: str, share: float = 1.0, **more: bool) -> list[str]:
    return [c.name for c in stored(program, target, storage, share, **more).codes]


def test_auto_takes_what_saves_half_of_its_ram() -> None:
    program = program_of(noise(10_000, 0.9), noise(10_000, 0.45), noise(10_000, 0.0), noise(10_000, 0.6))
    sizes = [len(coded(noise(10_000, share))) + ENTRY_BYTES for share in (0.9, 0.45, 0.6)]
    assert [s <= 20_000 for s in sizes] == [True, False, True]
    assert chosen(program, HOST, "auto") == ["call0[0]", "call3[0]"]
    assert chosen(program, HOST, "compressed") == ["call0[0]", "call1[0]", "call3[0]"]
    assert chosen(program, GPU, "auto") == ["call0[0]", "call1[0]", "call3[0]"], "a GPU has a copy of all anyway"
    assert chosen(program, HOST, "dense") == []


def test_auto_leaves_ram_alone_that_has_a_limit_and_networks_without_zeros() -> None:
    program = program_of(noise(10_000, 0.9))
    assert chosen(program, HOST, "auto", ram_limited=True) == []
    assert chosen(program, HOST, "compressed", ram_limited=True) == ["call0[0]"]
    assert chosen(program, GPU, "auto", ram_limited=True) == ["call0[0]"]
    assert chosen(program, HOST, "auto", SPARSE) == ["call0[0]"]
    for target in (HOST, GPU):
        assert chosen(program, target, "auto", SPARSE * 0.99) == []


def test_auto_wants_some_kilobytes() -> None:
    few = noise(LEAST_BYTES // 4, 0.9)
    assert chosen(program_of(few), HOST, "auto") == []
    assert chosen(program_of(few), HOST, "compressed") == ["call0[0]"]
    assert len(chosen(program_of(few, noise(LEAST_BYTES // 4 + 1, 0.9)), HOST, "auto")) == 2


def test_constants_keep_their_values_and_every_reader_its_own() -> None:
    values = [noise(1001, 0.9), noise(33, 0.0), noise(5000, 0.8), noise(7, 0.0)]
    program = program_of(*values)
    made = stored(program, HOST, "compressed", 1.0)
    assert made.weights is not None
    places = [next(b for b in c.buffers if b.space != "arena") for c in made.calls]
    assert [p.space for p in places] == ["decoded", "weights", "decoded", "weights", "decoded"]
    assert places[4] == places[0]
    codes = {c.decoded_offset: c for c in made.codes}
    for place, array in zip(places, values, strict=False):
        assert (place.offset % 64, place.elements) == (0, array.size)
        if place.space == "weights":
            assert made.weights[place.offset :][: 4 * array.size].tobytes() == array.tobytes()
        else:
            code = codes[place.offset]
            assert made.weights[code.offset :][: code.bytes].tobytes() == coded(array)
            assert (code.elements, code.zeros) == (array.size, int((array == 0).sum()))
    assert made.decoded_bytes == aligned(4 * 1001) + aligned(4 * 5000)
    assert made.plain_bytes == aligned(4 * 33) + aligned(4 * 7)
    assert made.weight_bytes == len(made.weights)


def test_an_unknown_storage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no weight storage 'zip'"):
        compile_network(sparse(0.8), HOST, tmp_path / "bundle", weight_storage="zip")
    with pytest.raises(UsageError, match="no weight storage 'zip'"):
        edgeprune.compile(nn.ReLU(), example_inputs=(IMAGE,), weight_storage="zip", out=tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_zeros_of_either_sign_count() -> None:
    state = {"a": np.array([0.0, -0.0, 1.0, np.nan], np.float32), "b": np.zeros(100, np.int64)}
    assert share_of_zeros(state) == 0.5
    assert share_of_zeros({}) == 0


def test_what_a_call_says(bundles: Mapping[str, Path], tmp_path: Path) -> None:
    bundle = edgeprune.compile(sparse(0.8).module, example_inputs=(IMAGE,), out=tmp_path / "bundle")
    told = bundle.to_json()["compressed"]
    manifest = read_manifest(bundles["auto"])
    assert manifest.compressed is not None
    assert told["constants"] == len(manifest.compressed.constants)
    assert told["decoded_bytes"] == manifest.compressed.decoded
    assert told["saved_bytes"] == manifest.saved_bytes
