"""Bundles for GPUs. None is here: machine code is looked at, and the kernels' CUDA source is run on the processor."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import locale
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from compiler_nets import net
from fake_nvrtc import header
from long_tests import long
from torch import Tensor, nn

from edgeprune.cli.main import main
from edgeprune.compiler.build_check import check_one, small_network
from edgeprune.compiler.bundle import peak_ram_bytes
from edgeprune.compiler.compile import compile_network, lower_network
from edgeprune.compiler.cuda import nvrtc
from edgeprune.compiler.cuda.nvrtc import compile_cubin, embedded_gpus, gpu_of, require_cubin
from edgeprune.compiler.elf import read_needs
from edgeprune.compiler.failures import KernelBuildError
from edgeprune.compiler.kernels.registry import schedules_for
from edgeprune.compiler.manifest import read_manifest
from edgeprune.compiler.objects import build_object, find_object
from edgeprune.compiler.schedules import Chosen, ScheduleBook
from edgeprune.compiler.storage import stored
from edgeprune.deploy.flash import flash
from edgeprune.devices.fake import FakeDevice
from edgeprune.errors import BundleError, MissingDependencyError, UnsupportedOperatorError
from edgeprune.gpus import COMPILED_FOR
from edgeprune.graph.network import read_network
from edgeprune.graph.spec import KernelSpec
from edgeprune.models.interface import Interface
from edgeprune.targets import Target, load_target

JETSONS = {
    "jetson_nano": "sm_53",
    "jetson_xavier_nx": "sm_72",
    "jetson_orin_nano": "sm_87",
    "jetson_agx_orin": "sm_87",
}
HOST = load_target("host")
installed = importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.cuda_nvrtc") is not None
needs_nvrtc = pytest.mark.skipif(not installed, reason="NVRTC is missing: pip install 'edgeprune[jetson]'")


class Varied(nn.Module):
    """Grouped, dilated and strided convolutions, averages that do and do not count padding, joins, gates."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = (
            nn.Conv2d(3, 10, 3, 2, 1),
            nn.Conv2d(10, 20, (3, 5), padding=(2, 2), dilation=(2, 1), groups=5),
        )
        self.squeeze, self.excite = nn.Conv2d(20, 7, 1), nn.Conv2d(7, 20, 1)
        self.head = nn.Linear(30 * 9 * 9, 300)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.hardswish(self.stem(x))
        y = F.silu(self.grouped(x))
        y = y * torch.sigmoid(self.excite(F.leaky_relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        both = torch.cat([F.avg_pool2d(x, 3, 1, 1), F.avg_pool2d(y, 3, 1, 1, count_include_pad=False)], 1)
        low = F.max_pool2d(both, 2, ceil_mode=True)
        return F.elu(self.head(F.gelu(low).flatten(1))), torch.tanh(low)


def varied() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(3)
    return Varied().eval(), (torch.randn(1, 3, 35, 35),)


@pytest.fixture
def board(fake_gpu: None) -> Target:
    """A GPU target with this computer's cores, whose machine code is of this computer too."""
    nano = load_target("jetson_xavier_nx")
    cores = {name: getattr(HOST, name) for name in ("arch", "llvm", "zig_target", "requires")}
    return nano.model_copy(update=cores)


@pytest.fixture
def ready(
    tmp_path: Path, board: Target, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Callable[..., subprocess.CompletedProcess[str]]]:
    """``ready(module, inputs)``: the network compiled, and a function that runs its program beside the driver."""
    monkeypatch.setenv("FAKE_GPUS", "sm_72")

    def prepare(
        module: nn.Module,
        inputs: tuple[Tensor, ...],
        book: ScheduleBook | None = None,
        interface: Interface | None = None,
    ) -> Callable[..., subprocess.CompletedProcess[str]]:
        bundle = tmp_path / "bundle"
        manifest = compile_network(read_network(module, inputs, interface), board, bundle, book=book, name="net")
        golden = manifest.golden
        files = [("--input", n) for n in golden.inputs] + [("--expect", n) for n in golden.outputs]
        check = [str(part) for option, name in files for part in (option, bundle / name)]

        def run(command: str, *arguments: str, **wrong: str) -> subprocess.CompletedProcess[str]:
            whole = [str(bundle / "model"), command, *(check if command == "check" else []), *arguments]
            return subprocess.run(
                whole, env={**os.environ, **wrong}, capture_output=True, text=True, check=False, timeout=60
            )

        return run

    return prepare


NETS = ["residual", "squeeze_excite", "pyramid", "two_inputs", "resnet20", "varied"]


@pytest.mark.parametrize("name", long(NETS, ["squeeze_excite", "pyramid", "two_inputs", "resnet20"]))
def test_the_kernels_compute_what_torch_computes(name: str, ready: Callable[..., Callable[..., object]]) -> None:
    done = ready(*(varied() if name == "varied" else net(name)))("check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["max_abs_diff"] <= 1e-5 * json.loads(done.stdout)["scale"]
    assert done.stderr == "", "all memory and modules of the GPU are given back"


def test_the_whole_interface_of_a_program(ready: Callable[..., Callable[..., object]]) -> None:
    run = ready(*net("residual"))
    info = json.loads(run("info").stdout)
    bench = json.loads(run("bench", "--warmup", "1", "--repeats", "3").stdout)
    assert bench["allocated_bytes"] == info["peak_ram_bytes"]
    assert len(bench["samples"]) == 3
    *rows, whole = [json.loads(x) for x in run("kernels", "--warmup", "0", "--repeats", "1").stdout.splitlines()]
    assert len(whole["whole"]) == 1
    assert [row["name"] for row in rows] == info["kernels"]
    assert all(row["finite"] for row in rows)


def test_values_of_other_types_go_through_one_buffer(
    ready: Callable[..., Callable[..., object]], tmp_path: Path
) -> None:
    run = ready(*net("two_inputs"), interface=Interface(("float64", "float16"), ("float64",)))
    checked = run("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    info, manifest = json.loads(run("info").stdout), read_manifest(tmp_path / "bundle")
    assert [p["dtype"] for p in info["inputs"] + info["outputs"]] == ["float64", "float16", "float64"]
    bench = json.loads(run("bench", "--repeats", "1").stdout)
    assert bench["allocated_bytes"] == info["peak_ram_bytes"] == manifest.memory.peak_ram
    (tmp_path / "bundle" / manifest.golden.inputs[0]).write_bytes(np.full(manifest.inputs[0].shape, 1e300).tobytes())
    refused = run("check")
    assert refused.returncode == 3
    assert "holds 1e+300" in refused.stderr


def test_compressed_weights_are_decoded_into_the_gpus_memory(
    ready: Callable[..., Callable[..., object]], board: Target, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3)).eval()
    with torch.no_grad():
        for layer in (module[0], module[2]):
            layer.weight.mul_(layer.weight.abs() > layer.weight.abs().quantile(0.8))
    inputs = (torch.randn(1, 3, 12, 12),)
    run = ready(module, inputs)
    checked, info = run("check"), json.loads(run("info").stdout)
    assert (checked.returncode, checked.stderr) == (0, "")
    manifest, program = read_manifest(tmp_path / "bundle"), lower_network(read_network(module, inputs), board, name="n")
    assert manifest.compressed is not None
    assert max(c.elements for c in manifest.compressed.constants) > 3 * 4096, "more than is decoded at a time"
    assert manifest.saved_bytes > 0.6 * program.program.weight_bytes
    # As much as with dense weights, which are copied there, too.
    took = json.loads(run("bench", "--repeats", "1").stdout)["allocated_bytes"]
    assert took == info["peak_ram_bytes"] == manifest.memory.peak_ram == peak_ram_bytes(program.program, board)
    whole = bytearray((tmp_path / "bundle" / "model").read_bytes())
    coded = stored(program.program, board, "auto", 1.0)
    whole[whole.index(coded.weights.tobytes()) + coded.codes[-1].offset] = 200
    (tmp_path / "bundle" / "model").write_bytes(whole)
    refused = run("bench")
    assert (refused.returncode, refused.stdout) == (6, "")
    assert f"compressed weights are damaged (number {len(coded.codes) - 1})" in refused.stderr


WRONG = (
    ({"LD_LIBRARY_PATH": ""}, 6, "no NVIDIA driver"),
    ({"FAKE_CUDA": "cuInit"}, 6, "starting the NVIDIA driver: CUDA_ERROR"),
    ({"FAKE_CUDA": "cuModuleLoadData"}, 6, "loading kernels for sm_72: CUDA_ERROR"),
    ({"FAKE_GPUS": "sm_86"}, 6, "loading kernels for sm_72: CUDA_ERROR_NO_BINARY_FOR_GPU"),
    ({"FAKE_CUDA": "cuMemAlloc"}, 6, "CUDA_ERROR_OUT_OF_MEMORY"),
    ({"FAKE_CUDA": "cuLaunchKernel"}, 1, "starting it: CUDA_ERROR"),
    ({"FAKE_CUDA": "cuCtxSynchronize"}, 1, "running the kernels: CUDA_ERROR"),
)


def test_a_driver_that_fails_is_told(ready: Callable[..., Callable[..., object]]) -> None:
    run = ready(*net("residual"))
    for wrong, code, says in WRONG:
        done = run("check", **wrong)
        assert done.returncode == code, wrong
        assert says in done.stderr


class Tiled(nn.Module):
    """Convolutions 3x3 and 1x1 with stride and residual, and a linear layer, whose channels several tiles divide."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.point = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16 * 9 * 7, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return self.head((x + F.hardswish(self.point(x))).flatten(1))  # type: ignore[no-any-return]


class Nth(ScheduleBook):
    """Schedule ``n`` of each kernel, or its last one."""

    def __init__(self, target: Target, n: int) -> None:
        super().__init__(target)
        self.n = n

    def choose(self, spec: KernelSpec) -> Chosen:
        space = schedules_for(spec, self.target)
        return Chosen(space[min(self.n, len(space) - 1)], "profile")


def test_every_schedule_computes_the_same(ready: Callable[..., Callable[..., object]], board: Target) -> None:
    torch.manual_seed(4)
    module, inputs = Tiled().eval(), (torch.randn(2, 3, 17, 13),)
    spaces = [schedules_for(node.spec, board) for node in read_network(module, inputs).kernels.nodes]
    assert {schedule.get("channels") for space in spaces for schedule in space} == {None, 2, 4, 8}
    for n in range(max(map(len, spaces))):
        done = ready(module, inputs, Nth(board, n))("check")
        assert done.returncode == 0, (n, done.stdout + done.stderr)
        assert json.loads(done.stdout)["max_abs_diff"] <= 1e-5 * json.loads(done.stdout)["scale"]


def test_only_what_divides_the_channels_is_tried(board: Target) -> None:
    odd = read_network(nn.Sequential(nn.Conv2d(3, 7, 3)), (torch.randn(1, 3, 8, 8),)).kernels.nodes[0].spec
    assert {s["rule"] for s in schedules_for(odd, board)} == {"cuda_result_per_thread"}


def test_a_kernel_without_a_rule_is_named(board: Target) -> None:
    network = read_network(
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 4, 2, 2)), (torch.randn(1, 3, 4, 4),)
    )
    with pytest.raises(UnsupportedOperatorError, match="cannot be built for a GPU yet") as caught:
        lower_network(network, board, name="net")
    assert caught.value.details["op"] == "conv_transpose2d"


@pytest.mark.parametrize(
    "data", [b"", b'extern "C" __global__ void k() {}', b".version 7.8\n.target sm_87\n", b"\x7fELF" + bytes(80)]
)
def test_source_and_ptx_are_no_machine_code(data: bytes) -> None:
    """What TVM embeds without a word where it finds no driver."""
    with pytest.raises(KernelBuildError, match="no machine code"):
        require_cubin(data, "sm_87", [])
    assert embedded_gpus(b"program" + data) == []


def test_machine_code_of_another_gpu_or_without_a_kernel() -> None:
    assert gpu_of(header("sm_72")) == "sm_72"
    with pytest.raises(KernelBuildError, match="sm_72 instead of sm_87"):
        require_cubin(header("sm_72"), "sm_87", [])
    with pytest.raises(KernelBuildError, match="lacks ep_k_kernel"):
        require_cubin(header("sm_87"), "sm_87", ["ep_k_kernel"])
    require_cubin(header("sm_87") + b"\0.text.ep_k_kernel\0", "sm_87", ["ep_k_kernel"])


def test_without_nvrtc_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    nvrtc._library.cache_clear()
    nvrtc._folder.cache_clear()
    monkeypatch.setattr(nvrtc.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError) as caught:
        compile_cubin("", "sm_87", [])
    assert caught.value.hint == "pip install 'edgeprune[jetson]'"
    result = check_one(small_network(), load_target("jetson_nano"))
    assert (result.status, result.exit_code) == ("failed", 5)
    assert "edgeprune[jetson]" in result.why
    command = ["compile", "zoo:resnet20", "--target", "jetson_nano", "--out", str(tmp_path / "bundle"), "--quiet"]
    assert main(command) == 5
    assert "pip install 'edgeprune[jetson]'" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


@needs_nvrtc
@pytest.mark.parametrize(
    ("name", "arch"),
    long(JETSONS.items(), list(JETSONS.items())[1:]),
)
def test_a_bundle_carries_machine_code_of_the_boards_gpu(name: str, arch: str, tmp_path: Path) -> None:
    target = load_target(name)
    manifest = compile_network(small_network(), target, tmp_path / "bundle")
    for file in ("model", "libmodel.so"):
        data = (tmp_path / "bundle" / file).read_bytes()
        assert set(embedded_gpus(data)) == {arch}
        assert b"__global__" not in data, "no source"
        assert b".target sm_" not in data, "no PTX"
        assert all(f"\0.text.{k.symbol}_kernel\0".encode() in data for k in manifest.kernels)
    needs = read_needs(tmp_path / "bundle" / "model")
    assert needs is not None
    assert (needs.architecture, needs.bits) == ("aarch64", 64)
    assert not [library for library in needs.libraries if "cud" in library or "tvm" in library]
    assert manifest.versions[nvrtc.PACKAGE]


@pytest.mark.long
@needs_nvrtc
def test_nvrtc_takes_every_schedule(tmp_path: Path) -> None:
    target = load_target("jetson_orin_nano")
    for node in read_network(Tiled().eval(), (torch.randn(1, 3, 17, 13),)).kernels.nodes:
        for schedule in schedules_for(node.spec, target):
            built = build_object(node.spec, schedule, target, tmp_path)
            assert embedded_gpus(built.path.read_bytes()) == ["sm_87"]
            assert built == find_object(node.spec, schedule, target, tmp_path)


@needs_nvrtc
def test_source_that_nvrtc_refuses_is_quoted() -> None:
    with pytest.raises(KernelBuildError, match=r"for sm_87: kernels\.cu\(1\): error"):
        compile_cubin("nonsense;", "sm_87", [])


@needs_nvrtc
def test_nvrtc_leaves_the_caller_its_locale() -> None:
    before = locale.getencoding()
    compile_cubin('extern "C" __global__ void k() {}', "sm_87", ["k"])
    assert locale.getencoding() == before


@needs_nvrtc
def test_the_list_of_gpus_is_that_of_nvrtc() -> None:
    library, count = nvrtc._library(), ctypes.c_int()
    library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    known = (ctypes.c_int * count.value)()
    library.nvrtcGetSupportedArchs(known)
    assert tuple(known) == COMPILED_FOR


@needs_nvrtc
def test_a_gpu_that_nvrtc_does_not_know() -> None:
    with pytest.raises(KernelBuildError, match="sm_110"):
        compile_cubin("", "sm_110", [])


@needs_nvrtc
def test_the_build_check_calls_it_compiled_and_no_more() -> None:
    result = check_one(small_network(), load_target("jetson_xavier_nx"))
    assert (result.status, result.evidence, result.architecture) == ("built", "compiled", "aarch64 64 bit + sm_72")
    assert result.why == "never run: it needs the board's GPU"
    assert "may refuse code of CUDA 11" in check_one(small_network(), load_target("jetson_nano")).why


def test_flash_refuses_a_board_of_another_processor(tmp_path: Path, board: Target) -> None:
    compile_network(small_network(), board.model_copy(update=_cores("rpi4")), tmp_path / "bundle")
    device = FakeDevice(tmp_path / "board")
    if device.describe().machine == "aarch64":
        pytest.skip("this computer is of that processor")
    with pytest.raises(BundleError, match="built for aarch64"):
        flash(tmp_path / "bundle", device)


def _cores(name: str) -> dict[str, object]:
    return {field: getattr(load_target(name), field) for field in ("arch", "llvm", "zig_target", "requires")}
