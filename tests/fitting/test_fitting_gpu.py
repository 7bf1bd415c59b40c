"""The whole chain on a GPU: profiled, pruned, compiled, installed. The GPU is none (tests/fakes), the chain is real.

Programs count instead of timing, so that nothing here depends on how busy this computer is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeprune.budget.promise import Limit, Promise
from edgeprune.cli.main import main
from edgeprune.compiler.cuda.nvrtc import embedded_gpus
from edgeprune.compiler.manifest import read_manifest
from edgeprune.deploy.flash import flash
from edgeprune.deploy.installed import installed
from edgeprune.deploy.status import status
from edgeprune.devices.fake import FakeDevice
from edgeprune.devices.local.gpu import LocalGpuDevice
from edgeprune.devices.protocol import Completed, DeviceInfo
from edgeprune.errors import BundleError, DeviceError
from edgeprune.fitting.fit import fit
from edgeprune.fitting.options import FitOptions
from edgeprune.fitting.run_folder import RunRecord
from edgeprune.gpus import Gpu
from edgeprune.graph.network import read_network
from edgeprune.latency.store import ProfileStore
from edgeprune.profiling.fingerprint import fingerprint_of
from edgeprune.profiling.measure import TimingOptions
from edgeprune.profiling.profile import ProfileOptions, ProfileResult, profile
from edgeprune.report.from_fit import report_of
from edgeprune.targets import load_target
from edgeprune.training.data import DataSet

OPTIONS = FitOptions(
    epochs=2,
    lr=0.1,
    batch_size=32,
    distil_weight=0.0,
    criterion="l2",
    profile=ProfileOptions(points=2, step=8, tune=2),
    baseline=False,
)


class Counting(LocalGpuDevice):
    """``local-gpu:`` with the virtual clock of ``fake:``."""

    def describe(self) -> DeviceInfo:
        return replace(super().describe(), clock="virtual")

    def run(self, argv: Sequence[str], *, timeout_s: float = 60.0) -> Completed:
        timed = len(argv) > 1 and argv[1] in ("bench", "kernels")
        return super().run([*argv, "--virtual-clock"] if timed else argv, timeout_s=timeout_s)


def test_a_network_is_fitted_to_half_of_its_latency_and_installed(
    fake_gpu: None, tmp_path: Path, record: RunRecord, data: DataSet
) -> None:
    device, target = Counting(tmp_path / "device"), load_target("host_gpu")
    with ProfileStore(tmp_path / "profiles.sqlite3") as store:
        result = fit(
            record.load(),
            target,
            device,
            store,
            tmp_path / "run",
            Promise(Limit(0.5, relative=True)),
            data=data,
            options=OPTIONS,
            record=record,
        )
        (known,) = store.profiles()
        rules = {r.schedule["rule"] for r in store.find(known.fingerprint, allow_mismatch=False).records()}
    assert result.met
    assert result.budget.latency_ms is not None
    assert result.pruned.latency_ms <= result.budget.latency_ms <= 0.5 * result.dense.latency_ms * 1.000001
    assert result.evidence == "simulated", "no figure of a stand-in is called measured"
    assert rules <= {"cuda_result_per_thread", "cuda_channels_per_thread"}
    assert known.fingerprint.device["gpu"] == "simulated GPU 0"
    assert status(device).current == result.deployment.release
    manifest = read_manifest(tmp_path / "run" / "bundle")
    assert set(embedded_gpus((tmp_path / "run" / "bundle" / "model").read_bytes())) == {"sm_86"}
    assert {k.schedule_source for k in manifest.kernels} <= {"profile", "transfer"}
    images = data.test[0][:16]
    (raw,) = installed(device).run([images.numpy().tobytes()], len(images))
    with torch.no_grad():
        expected = result.pruned.network.module(images).numpy()
    np.testing.assert_allclose(np.frombuffer(raw, np.float32).reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)

    assert report_of(result).device.processor == "simulated GPU 0 (sm_86)"

    # Where another GPU is, the bundle is refused before anything is sent.
    device.gpu = Gpu("simulated GPU of Turing", "sm_75", 1 << 30)
    before = sorted(device.root.rglob("*"))
    with pytest.raises(BundleError, match=r"built for GPUs of sm_86; the device has simulated GPU of Turing \(sm_75\)"):
        flash(tmp_path / "run" / "bundle", device)
    assert sorted(device.root.rglob("*")) == before


def test_a_device_that_does_not_tell_its_gpu_is_profiled_too(
    fake_gpu: None, tmp_path: Path, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a board over ssh; if its GPU is another, its driver says so, and that is what is told."""
    model, target = record.load(), load_target("host_gpu")
    network = read_network(model.module, model.example_inputs)
    options = ProfileOptions(points=1, tune=1, timing=TimingOptions(warmup=0, repeats=3))

    def profiled(store: str) -> ProfileResult:
        with ProfileStore(tmp_path / store) as opened:
            return profile(network.kernels, network.channels, target, FakeDevice(tmp_path / "board"), opened, options)

    done = profiled("one.sqlite3")
    assert (done.measured, done.failed) == (len({n.spec.key for n in network.kernels.nodes}), ())
    monkeypatch.setenv("FAKE_GPUS", "sm_75")
    with pytest.raises(DeviceError, match="loading kernels for sm_86: CUDA_ERROR_NO_BINARY_FOR_GPU") as caught:
        profiled("two.sqlite3")
    assert load_target(caught.value.hint.split()[-1]).kind == "cpu"
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    with pytest.raises(DeviceError, match="no NVIDIA driver"):
        profiled("two.sqlite3")


def test_the_gpu_is_part_of_the_fingerprint_and_threads_are_not(
    fake_gpu: None, tmp_path: Path, record: RunRecord
) -> None:
    model = record.load()
    kernels = read_network(model.module, model.example_inputs).kernels
    info, target, cores = LocalGpuDevice(tmp_path).describe(), load_target("host_gpu"), load_target("host")
    other = replace(info, gpu=Gpu("simulated RTX 3090", "sm_86", 1 << 34))
    digest = fingerprint_of(target, info, 1, kernels).digest
    assert fingerprint_of(target, other, 1, kernels).digest != digest
    assert fingerprint_of(target, info, 4, kernels).digest == digest
    assert fingerprint_of(cores, other, 1, kernels).digest == fingerprint_of(cores, info, 1, kernels).digest


def test_profile_and_prune_on_the_command_line(
    fake_gpu: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --device: that of the target. The budget is one of bytes, which no clock decides."""
    net = f"{Path(__file__).with_name('tiny_net.py')}:net"
    store_file = str(tmp_path / "profiles.sqlite3")
    options = ["--input-shape", "1x3x8x8", "--target", "host_gpu", "--points", "2", "--store", store_file, "--json"]
    assert main(["profile", net, *options, "--tune", "1", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["board"] == "simulated GPU 0"
    with ProfileStore(tmp_path / "profiles.sqlite3") as store:
        (known,) = store.profiles()
        records = list(store.find(known.fingerprint, allow_mismatch=False).records())
    assert known.fingerprint.target == load_target("host_gpu").name
    assert records
    assert all(r.ok and r.evidence == "simulated" and r.median_ns > 0 for r in records)
    assert main(["prune", net, *options, "--flash", "95%", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"].startswith("edgeprune.prune/")


def test_compiling_for_a_gpu_that_is_elsewhere_needs_none_here(
    fake_gpu: None, tmp_path: Path, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = load_target("host_gpu").name
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    with ProfileStore(tmp_path / "profiles.sqlite3"):
        pass  # a store that has nothing of this target
    net = f"{Path(__file__).with_name('tiny_net.py')}:net"
    command = ["compile", net, "--input-shape", "1x3x8x8", "--target", name, "--out", str(tmp_path / "bundle")]
    assert main([*command, "--store", str(tmp_path / "profiles.sqlite3"), "--quiet"]) == 0
    assert {k.schedule_source for k in read_manifest(tmp_path / "bundle").kernels} == {"default"}
