"""Whole networks compiled and run on this computer: the program, the library and the manifest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compiler_nets import NETS, net
from long_tests import long
from numpy.typing import NDArray
from torch import Tensor, nn

import edgeprune
from edgeprune.board.client import NativeProgram
from edgeprune.compiler.compile import compile_network
from edgeprune.compiler.cost import virtual_cost_ns
from edgeprune.compiler.elf import read_needs, version_of
from edgeprune.compiler.link import LinkError
from edgeprune.compiler.manifest import MANIFEST, Manifest, read_manifest, sha256_file
from edgeprune.errors import BundleError, UsageError, VerificationError
from edgeprune.graph.network import read_network
from edgeprune.graph.spec import KernelSpec
from edgeprune.models.zoo import ZOO, build
from edgeprune.targets import load_target

pytestmark = pytest.mark.xdist_group("bundles")

TARGET = load_target("host")
BATCH = 3


@dataclass(frozen=True)
class Compiled:
    folder: Path
    manifest: Manifest
    module: nn.Module
    inputs: tuple[Tensor, ...]

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(self.folder / self.manifest.program), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def rows(self, *arguments: object) -> list[Any]:
        """What the program prints, line by line."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    @property
    def check(self) -> list[object]:
        """Arguments of ``check`` with the golden sample."""
        golden = self.manifest.golden
        files = [("--input", n) for n in golden.inputs] + [("--expect", n) for n in golden.outputs]
        named = [a for option, name in files for a in (option, self.folder / name)]
        return ["check", *named, "--rtol", golden.rtol, "--atol", golden.atol]

    @property
    def specs(self) -> list[KernelSpec]:
        return [KernelSpec.from_json(k.spec) for k in self.manifest.kernels]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Compiled]:
    done: dict[str, Compiled] = {}

    def get(name: str) -> Compiled:
        if name not in done:
            module, inputs = net(name)
            folder = tmp_path_factory.mktemp("bundles") / name
            manifest = compile_network(read_network(module, inputs), TARGET, folder, name=name)
            done[name] = Compiled(folder, manifest, module, inputs)
        return done[name]

    return get


def torch_outputs(module: nn.Module, inputs: Sequence[Tensor]) -> list[NDArray[np.float32]]:
    with torch.no_grad():
        y = module(*inputs)
    return [t.numpy() for t in (y if isinstance(y, tuple) else (y,))]


def assert_agrees(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()


def samples(bundle: Compiled) -> list[Tensor]:
    """A batch of different samples for each input."""
    generator = torch.Generator().manual_seed(5)
    return [torch.randn((BATCH, *x.shape[1:]), generator=generator) for x in bundle.inputs]


def run_batch(bundle: Compiled, batch: Sequence[Tensor], folder: Path, threads: int) -> list[NDArray[np.float32]]:
    arguments: list[object] = ["run", "--batch", BATCH, "--threads", threads]
    for i, x in enumerate(batch):
        (folder / f"in{i}").write_bytes(x.numpy().tobytes())
        arguments += ["--input", folder / f"in{i}"]
    for i in range(len(bundle.manifest.outputs)):
        arguments += ["--output", folder / f"out{i}"]
    assert bundle.rows(*arguments) == [{"samples": BATCH}]
    shapes = [(BATCH, *port.shape) for port in bundle.manifest.outputs]
    return [np.fromfile(folder / f"out{i}", np.float32).reshape(shape) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("name", NETS)
def test_the_program_gives_what_torch_gives(name: str, compiled: Callable[[str], Compiled], tmp_path: Path) -> None:
    bundle = compiled(name)
    batch = samples(bundle)
    one = run_batch(bundle, batch, tmp_path, threads=1)
    two = run_batch(bundle, batch, tmp_path, threads=2)
    for i in range(BATCH):
        for actual, expected in zip(one, torch_outputs(bundle.module, [x[i : i + 1] for x in batch]), strict=True):
            assert_agrees(actual[i], expected)
    assert [y.tobytes() for y in one] == [y.tobytes() for y in two], "threads may not change a bit"


@pytest.mark.parametrize("name", NETS)
def test_the_library_gives_what_the_program_gives(
    name: str, compiled: Callable[[str], Compiled], tmp_path: Path
) -> None:
    bundle = compiled(name)
    batch = samples(bundle)
    program = run_batch(bundle, batch, tmp_path, threads=1)
    for threads in (1, 2):
        with edgeprune.load_bundle(bundle.folder, threads=threads) as model:
            for i in (0, 1, 2, 0):  # the last: nothing of the samples between is left over
                outputs = model(*(x[i : i + 1].numpy() for x in batch))
                assert [y.tobytes() for y in outputs] == [y[i].tobytes() for y in program]


@pytest.mark.parametrize("name", NETS)
def test_info_is_the_manifest(name: str, compiled: Callable[[str], Compiled]) -> None:
    bundle = compiled(name)
    manifest = bundle.manifest
    (info,) = bundle.rows("info")

    def ports(entries: Sequence[Any]) -> list[dict[str, Any]]:
        return [{"name": p.name, "dtype": p.dtype, "shape": list(p.shape)} for p in entries]

    assert info == {
        "name": name,
        "inputs": ports(manifest.inputs),
        "outputs": ports(manifest.outputs),
        "arena_bytes": manifest.memory.arena,
        "peak_ram_bytes": manifest.memory.peak_ram,
        "weight_bytes": manifest.memory.weights,
        "kernels": [k.node for k in manifest.kernels],
    }
    assert NativeProgram(lambda argv, *, timeout_s: bundle.run(*argv[1:]), ("model",), 60).info() == info
    assert len(set(info["kernels"])) == len(info["kernels"])
    assert [list(x.shape) for x in bundle.inputs] == [p["shape"] for p in info["inputs"]]
    assert manifest.memory.flash == (bundle.folder / manifest.program).stat().st_size
    assert read_manifest(bundle.folder) == manifest
    assert {f.name for f in bundle.folder.iterdir()} == {MANIFEST, *manifest.files}


LARGE = {"mobilenet_v2", "mobilenet_v3_small", "resnet18", "resnet50", "squeezenet", "vgg11_bn"}


@pytest.mark.parametrize("name", long(sorted(ZOO), LARGE))
def test_a_network_of_the_zoo_takes_the_memory_that_its_manifest_says(name: str, tmp_path: Path) -> None:
    """Counted by the program itself, byte by byte; kernels that want memory of their own are not built."""
    module = build(name, image=32) if name == "vgg11_bn" else build(name)
    manifest = compile_network(read_network(module.eval(), (torch.randn(1, 3, 32, 32),)), TARGET, tmp_path / "bundle")
    command = [str(tmp_path / "bundle" / manifest.program), "bench", "--warmup", "0", "--repeats", "1"]
    for threads in (1, 2):
        done = subprocess.run([*command, "--threads", str(threads)], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["allocated_bytes"] == manifest.memory.peak_ram


@pytest.mark.parametrize("name", ["pyramid", "two_inputs", "mobilenet_v3_small"])
def test_check_finds_an_altered_output(name: str, compiled: Callable[[str], Compiled], tmp_path: Path) -> None:
    bundle = compiled(name)
    (good,) = bundle.rows(*bundle.check)
    assert good["ok"] is True
    assert 0 < good["max_abs_diff"] <= 1e-4 * good["scale"]
    for output in bundle.manifest.golden.outputs:
        whole = bytearray((bundle.folder / output).read_bytes())
        whole[-1] ^= 0x40  # the exponent of the very last value
        altered = tmp_path / output
        altered.write_bytes(whole)
        done = bundle.run(*(altered if a == bundle.folder / output else a for a in bundle.check))
        assert (done.returncode, json.loads(done.stdout)["ok"]) == (7, False)


def test_check_refuses_what_is_not_a_number(compiled: Callable[[str], Compiled], tmp_path: Path) -> None:
    bundle = compiled("residual")
    (name,) = bundle.manifest.golden.outputs
    values = np.fromfile(bundle.folder / name, np.float32)
    values[0] = np.nan
    values.tofile(tmp_path / name)
    done = bundle.run(*(tmp_path / name if a == bundle.folder / name else a for a in bundle.check))
    assert done.returncode == 7
    assert json.loads(done.stdout)["max_abs_diff"] is None


USAGE = [
    [],
    ["sing"],
    ["info", "now"],
    ["bench", "--repeats", "0"],
    ["bench", "--repeats", "2x"],
    ["bench", "--repeats"],
    ["bench", "--threads", "-1"],
    ["bench", "--colour", "red"],
    ["run", "--batch", "0"],
    ["run"],
    ["run", "--input", "{input}"],
    ["run", "--input", "{input}", "--input", "{input}", "--output", "{output}"],
    ["check", "--input", "{input}"],
    ["check", "--input", "{input}", "--expect", "{expect}", "--rtol", "-1"],
    ["check", "--input", "{input}", "--expect", "{expect}", "--atol", "nan"],
]


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_usage_errors(arguments: list[str], compiled: Callable[[str], Compiled], tmp_path: Path) -> None:
    done = with_files(compiled("residual"), arguments, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("residual: ")
    assert not (tmp_path / "output").exists()


BAD_INPUT = [
    ["run", "--input", "{short}", "--output", "{output}"],
    ["run", "--input", "{missing}", "--output", "{output}"],
    ["run", "--input", "{folder}", "--output", "{output}"],
    ["run", "--input", "{input}", "--output", "{output}", "--batch", "2"],
    ["run", "--input", "{input}", "--output", "{missing}/y"],
    ["check", "--input", "{short}", "--expect", "{expect}"],
    ["check", "--input", "{input}", "--expect", "{short}"],
]


@pytest.mark.parametrize("arguments", BAD_INPUT, ids=" ".join)
def test_bad_input_files(arguments: list[str], compiled: Callable[[str], Compiled], tmp_path: Path) -> None:
    done = with_files(compiled("residual"), arguments, tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert any(a in done.stderr for a in done.args if a.startswith("/") and a != done.args[0]), "no file is named"
    assert not (tmp_path / "output").exists()


def with_files(bundle: Compiled, arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    golden = bundle.manifest.golden
    (folder / "short").write_bytes(bytes(8))
    names = {"input": bundle.folder / golden.inputs[0], "expect": bundle.folder / golden.outputs[0], "folder": folder}
    names |= {name: folder / name for name in ("short", "missing", "output")}
    return bundle.run(*(a.format(**names) for a in arguments))


@pytest.mark.parametrize("name", ["residual", "squeeze_excite", "pyramid"])
def test_the_virtual_clock_is_the_cost_model(name: str, compiled: Callable[[str], Compiled]) -> None:
    bundle = compiled(name)
    costs = [virtual_cost_ns(spec) for spec in bundle.specs]
    (bench,) = bundle.rows("bench", "--virtual-clock", "--warmup", 1, "--repeats", 4)
    allocated = bundle.manifest.memory.peak_ram
    said = {"clock": "virtual", "unit": "ns", "reference": [], "allocated_bytes": allocated}
    assert bench == {**said, "samples": [sum(costs)] * 4}
    *rows, whole = bundle.rows("kernels", "--virtual-clock", "--warmup", 0, "--repeats", 2)
    assert whole == {"whole": [sum(costs)] * 2}
    assert rows == [
        {"index": i, "name": k.node, "samples": [costs[i]] * 2, "finite": True, "reference": []}
        for i, k in enumerate(bundle.manifest.kernels)
    ]
    assert bundle.rows("kernels", "--virtual-clock", "--warmup", 0, "--repeats", 2, "--first", 2) == [*rows[2:], whole]
    (last,) = bundle.rows("kernels", "--virtual-clock", "--warmup", 0, "--repeats", 2, "--first", len(rows))
    assert last == whole


def test_the_real_clock_gives_times(compiled: Callable[[str], Compiled]) -> None:
    (bench,) = compiled("residual").rows("bench", "--repeats", 3, "--min-ns", 1000)
    assert bench["clock"] == "monotonic"
    assert len(bench["samples"]) == 3
    assert len(bench["reference"]) == 3
    assert all(ns > 0 for ns in (*bench["samples"], *bench["reference"]))
    *rows, whole = compiled("residual").rows("kernels", "--repeats", 2)
    for one, calls in zip(whole["whole"], zip(*(row["samples"] for row in rows), strict=True), strict=True):
        assert one >= sum(calls), "what is in an inference takes no longer than it"
    assert all((len(row["samples"]), len(row["reference"])) == (2, 3) for row in rows)
    assert all(ns > 0 for row in rows for ns in row["reference"])


def test_the_manifest_says_what_the_board_must_have(compiled: Callable[[str], Compiled]) -> None:
    files = compiled("residual").manifest.files
    assert {name for name, entry in files.items() if entry.needs} == {"model", "libmodel.so"}
    for name in ("model", "libmodel.so"):
        needs = files[name].needs
        assert needs == read_needs(compiled("residual").folder / name)
        assert needs is not None
        assert needs.architecture == TARGET.arch
        assert () < needs.glibc <= version_of(TARGET.libc)


def compile_again(bundle: Compiled, out: Path, **options: Any) -> Manifest:
    return compile_network(read_network(bundle.module, bundle.inputs), TARGET, out, name="again", **options)


def test_the_same_network_gives_the_same_release(compiled: Callable[[str], Compiled], tmp_path: Path) -> None:
    bundle = compiled("squeeze_excite")
    first = compile_again(bundle, tmp_path / "a" / "bundle")
    second = compile_again(bundle, tmp_path / "somewhere else")
    assert first.release_id == second.release_id
    assert compile_again(bundle, tmp_path / "c", seed=1).release_id != first.release_id


def test_what_is_not_a_bundle_is_left_alone(compiled: Callable[[str], Compiled], tmp_path: Path) -> None:
    folder, file, web = tmp_path / "folder", tmp_path / "file", tmp_path / "web"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    file.write_text("years of work")
    web.mkdir()
    (web / MANIFEST).write_text('{"name": "a web page keeps such a file too"}')
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for out in (folder, file, web):
        with pytest.raises(UsageError, match="exists and is not a bundle"):
            compile_again(compiled("squeeze_excite"), out)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert sorted(tmp_path.iterdir()) == [file, folder, web]


def test_a_bundle_is_replaced_whole(compiled: Callable[[str], Compiled], tmp_path: Path) -> None:
    old, new = compiled("two_inputs"), compiled("squeeze_excite")
    out = tmp_path / "bundle"
    shutil.copytree(old.folder, out)
    manifest = compile_again(new, out)
    assert read_manifest(out) == manifest
    assert {f.name for f in out.iterdir()} == {MANIFEST, *manifest.files}
    assert list(tmp_path.iterdir()) == [out]


def test_a_compile_that_fails_leaves_the_old_bundle(
    compiled: Callable[[str], Compiled], tmp_path: Path, home: Path
) -> None:
    bundle = compiled("squeeze_excite")
    out = tmp_path / "bundle"
    shutil.copytree(bundle.folder, out)
    # Hidden: files that another test is about to finish.
    objects = Path(os.environ["EDGEPRUNE_TEST_HOME"]) / "objects"
    shutil.copytree(objects, home / "objects", ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
    (home / "objects" / f"{bundle.manifest.kernels[0].symbol}.o").write_bytes(b"not an object")
    with pytest.raises(LinkError):
        compile_again(bundle, out)
    assert read_manifest(out) == bundle.manifest
    assert sorted(tmp_path.iterdir()) == sorted([out, home])


@pytest.fixture
def copy(compiled: Callable[[str], Compiled], tmp_path: Path) -> Path:
    return Path(shutil.copytree(compiled("squeeze_excite").folder, tmp_path / "copy"))


def edit(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads((bundle / MANIFEST).read_text())
    change(data)
    (bundle / MANIFEST).write_text(json.dumps(data))


def test_an_altered_file_is_refused(copy: Path) -> None:
    for name, entry in read_manifest(copy).files.items():
        data = (copy / name).read_bytes()
        (copy / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(VerificationError, match=name) as caught:
            read_manifest(copy)
        assert caught.value.details["expected"] == entry.sha256
        read_manifest(copy, verify=False)
        (copy / name).write_bytes(data)
    read_manifest(copy)


def test_a_missing_file_is_refused(copy: Path) -> None:
    (copy / "model").unlink()
    with pytest.raises(VerificationError, match="model") as caught:
        read_manifest(copy)
    assert caught.value.details["actual"] == "missing"


@pytest.mark.parametrize("name", ["../model", "/etc/passwd", "sub/model", "..", ""])
@pytest.mark.parametrize("verify", [True, False])
def test_a_file_outside_the_bundle_is_refused(copy: Path, name: str, verify: bool) -> None:
    edit(copy, lambda data: data["files"].update({name: data["files"]["model"]}))
    with pytest.raises(BundleError, match="outside the bundle"):
        read_manifest(copy, verify=verify)


def test_what_is_not_a_manifest_is_refused(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"holds no manifest\.json"):
        read_manifest(tmp_path)
    with pytest.raises(BundleError, match=r"holds no manifest\.json"):
        read_manifest(copy / "model")
    edit(copy, lambda data: data.update(surprise=1))
    with pytest.raises(BundleError, match="surprise"):
        read_manifest(copy)
    edit(copy, lambda data: data.update(schema="edgeprune.bundle/999"))
    with pytest.raises(BundleError, match=r"not a edgeprune\.bundle/1 manifest"):
        read_manifest(copy)
    for text in (b"[]", b"{", b"", b"\xff\xfe", b"null"):
        (copy / MANIFEST).write_bytes(text)
        with pytest.raises(BundleError):
            read_manifest(copy)


def test_the_library_checks_what_it_is_given(compiled: Callable[[str], Compiled], copy: Path) -> None:
    x = compiled("squeeze_excite").inputs[0].numpy()
    with edgeprune.load_bundle(copy) as model:
        with pytest.raises(UsageError, match="takes 1 inputs, 2 given"):
            model(x, x)
        with pytest.raises(UsageError, match=r"shape \(1, 3, 9, 8\)"):
            model(x[..., :8])
        # Any memory order and any kind of number will do.
        turned = np.asfortranarray(x.astype(np.float64))
        assert model(turned)[0].tobytes() == model(x)[0].tobytes()
    with pytest.raises(UsageError, match="closed"):
        model(x)
    model.close()


def test_a_library_of_another_computer_is_refused(copy: Path) -> None:
    (copy / "libmodel.so").write_bytes(b"\x7fELF of another kind")
    digest = sha256_file(copy / "libmodel.so")
    edit(copy, lambda data: data["files"]["libmodel.so"].update(sha256=digest))
    with pytest.raises(BundleError, match="does not load here"):
        edgeprune.load_bundle(copy)
    edit(copy, lambda data: data["files"].pop("libmodel.so"))
    with pytest.raises(BundleError, match="holds no library"):
        edgeprune.load_bundle(copy)
