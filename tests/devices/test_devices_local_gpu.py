"""``local-gpu:`` and the targets of its GPUs. The GPUs here are none: tests/fakes says what stands in for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeprune.cli.main import main
from edgeprune.devices.local.device import LocalDevice
from edgeprune.devices.local.gpu import LocalGpuDevice
from edgeprune.devices.registry import list_devices, open_device
from edgeprune.errors import DeviceUnreachableError, MissingDependencyError, TargetError, UsageError
from edgeprune.gpus import code_for, local_gpus, runs_on
from edgeprune.profiling.fingerprint import require_match
from edgeprune.targets import Target, load_target

UUID = "GPU-abababab-abab-abab-abab-ababababab%02x"


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the driver would be, lies something else, even on a computer that has one."""
    (tmp_path / "libcuda.so.1").write_text("no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))


def test_without_a_driver_the_way_out_is_told(no_driver: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MissingDependencyError, match="no NVIDIA driver here") as caught:
        open_device("local-gpu:")
    assert "--device local:" in caught.value.hint
    with pytest.raises(MissingDependencyError):
        load_target("host_gpu")
    for where in (["--device", "local-gpu:"], ["--target", "host_gpu"]):
        assert main(["profile", "zoo:resnet20", "--json", *where]) == 5
        assert "NVIDIA driver" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert not [row for row in list_devices() if row.url.startswith("local-gpu")]


@pytest.mark.parametrize(
    ("gpus", "fails", "why"),
    [("", "", "finds no GPU"), ("sm_86", "cuInit", r"cuInit of the NVIDIA driver: CUDA_ERROR")],
)
def test_a_driver_without_a_gpu(
    fake_gpu: None, monkeypatch: pytest.MonkeyPatch, gpus: str, fails: str, why: str
) -> None:
    monkeypatch.setenv("FAKE_GPUS", gpus)
    monkeypatch.setenv("FAKE_CUDA", fails)
    with pytest.raises(DeviceUnreachableError, match=why) as caught:
        open_device("local-gpu:")
    assert "nvidia-smi" in caught.value.hint


def test_it_is_this_computer_and_says_which_gpu(fake_gpu: None, tmp_path: Path) -> None:
    info = open_device(f"local-gpu:{tmp_path}").describe()
    assert info.gpu is not None
    assert (info.gpu.name, info.gpu.arch, info.gpu.memory_bytes, info.gpu.uuid) == (
        "simulated GPU 0",
        "sm_86",
        1 << 30,
        UUID % 0,
    )
    assert info.evidence == "simulated", "what a stand-in takes is never measured"
    assert replace(info, gpu=None, evidence="measured") == LocalDevice(tmp_path).describe()
    assert replace(info.gpu, name="NVIDIA GeForce RTX 3080").evidence == "measured"


def test_the_list_names_it(fake_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = (row for row in list_devices() if row.url.startswith("local-gpu"))
    assert (row.url, row.description, row.details["arch"]) == (
        "local-gpu:",
        "this computer's GPU: simulated GPU 0",
        "sm_86",
    )
    monkeypatch.setenv("FAKE_GPUS", "sm_86,sm_75")
    assert [row.url for row in list_devices() if row.url.startswith("local-gpu")] == ["local-gpu:0", "local-gpu:1"]


def test_between_two_nobody_chooses_for_the_user(
    fake_gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FAKE_GPUS", "sm_86,sm_75")
    with pytest.raises(UsageError, match="has 2 GPUs") as caught:
        open_device(f"local-gpu:{tmp_path}")
    assert "local-gpu:0 (simulated GPU 0, sm_86), local-gpu:1 (simulated GPU 1, sm_75)" in caught.value.hint
    second = LocalGpuDevice.from_url(f"local-gpu:1{tmp_path}")
    assert second.gpu.arch == "sm_75"
    # Its programs see no other, and take the first that they see.
    assert second.run(["sh", "-c", "echo $CUDA_VISIBLE_DEVICES"]).stdout.strip() == UUID % 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", UUID % 1)
    assert [gpu.arch for gpu in local_gpus()] == ["sm_75"]
    with pytest.raises(DeviceUnreachableError, match="there is no GPU 1, this computer has 1"):
        open_device("local-gpu:1")


@pytest.mark.parametrize("url", ["local-gpu:x", "local-gpu:1x", "local-gpu:folder", "local-gpu:-1", "local-gpu:/a\nb"])
def test_a_url_that_names_no_gpu(url: str) -> None:
    with pytest.raises(UsageError, match="names no GPU"):
        open_device(url)


# -- targets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "code"),
    [
        ("sm_86", "sm_86"),
        ("sm_87", "sm_87"),
        ("sm_88", "sm_86"),
        ("sm_90", "sm_90"),
        ("sm_100", None),
        ("sm_120", None),
    ],
)
def test_the_newest_code_that_a_gpu_runs(gpu: str, code: str | None) -> None:
    assert code_for(gpu) == code


@pytest.mark.parametrize(
    ("code", "gpu", "runs"),
    [
        ("sm_80", "sm_86", True),
        ("sm_86", "sm_80", False),
        ("sm_75", "sm_86", False),
        ("sm_90", "sm_100", False),
        ("sm_86", "sm_87", False),
        ("sm_70", "sm_72", False),
    ],
)
def test_which_code_runs_where(code: str, gpu: str, runs: bool) -> None:
    assert runs_on(code, gpu) is runs


def test_the_target_of_the_gpu_here(fake_gpu: None) -> None:
    target = load_target("host_gpu")
    assert target.cuda is not None
    assert (target.kind, target.cuda.arch, target.default_device) == ("cuda", "sm_86", "local-gpu:")
    assert target.arch == load_target("host").arch
    assert load_target(target.name) == target, "its name is enough where there is no GPU"
    assert Target.model_validate(target.to_json()) == target


def test_a_gpu_that_is_too_new_and_two_that_differ(fake_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_GPUS", "sm_100")
    with pytest.raises(TargetError, match=r"simulated GPU 0 is an sm_100; .* own generation") as caught:
        load_target("host_gpu")
    assert "--target host" in caught.value.hint
    with pytest.raises(TargetError, match="nothing can be compiled for sm_100"):
        load_target("x86_64_sm_100")
    monkeypatch.setenv("FAKE_GPUS", "sm_86,sm_75")
    with pytest.raises(TargetError, match="of several kinds") as caught:
        load_target("host_gpu")
    assert all(code in caught.value.hint for code in ("sm_75", "sm_86"))
    monkeypatch.setenv("FAKE_GPUS", "sm_86,sm_86")
    assert load_target("host_gpu").name.endswith("_sm_86")


def test_another_gpu_is_refused_before_anything_is_sent(fake_gpu: None, tmp_path: Path) -> None:
    target, device = load_target("host_gpu"), LocalGpuDevice(tmp_path / "device")
    other = load_target(target.name.replace("sm_86", "sm_75"))
    require_match(target, device.describe())
    with pytest.raises(TargetError, match=r"GPUs of sm_75, the device has simulated GPU 0 \(sm_86\)") as caught:
        require_match(other, device.describe())
    assert "host_gpu" in caught.value.hint
    # A device that does not tell its GPU may have the right one: its driver is asked by the program itself.
    require_match(other, replace(device.describe(), gpu=None))
