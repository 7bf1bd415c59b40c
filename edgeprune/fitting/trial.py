"""Bundles tried out on a device without being installed: time them, run them, leave nothing behind."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edgeprune.compiler.manifest import Manifest, read_manifest
from edgeprune.deploy.checks import BenchResult, GoldenResult, bench, check_golden, crashed, run_program
from edgeprune.deploy.installed import current_release, run_stored
from edgeprune.deploy.steady import steady_bench
from edgeprune.devices.protocol import Device, DeviceInfo
from edgeprune.devices.scratch import scratch
from edgeprune.errors import VerificationError

FOLDER = "trials"


@dataclass(frozen=True, slots=True)
class Trial:
    """A program lying on the device in the folder ``home``, and the inputs that lie there."""

    device: Device
    home: str
    manifest: Manifest
    info: DeviceInfo
    timeout_s: float
    inputs: Inputs

    def check(self) -> GoldenResult:
        """Golden input and output, compared on the device."""
        return check_golden(self.device, self.home, self.manifest, timeout_s=self.timeout_s)

    def bench(self, *, warmup: int = 5, repeats: int = 50) -> BenchResult:
        """End-to-end latency at the bundle's own thread count."""
        return self._timed(steady_bench, warmup, repeats)

    def launch(self, *, warmup: int = 5, repeats: int = 50) -> BenchResult:
        """The latency that a single launch of the program sees."""
        return self._timed(bench, warmup, repeats)

    def _timed(self, method: Callable[..., BenchResult], warmup: int, repeats: int) -> BenchResult:
        return method(
            self.device,
            self.home,
            self.manifest,
            warmup=warmup,
            repeats=repeats,
            threads=self.manifest.threads,
            timeout_s=self.timeout_s,
            info=self.info,
        )

    def kernels_ms(self, *, warmup: int = 2, repeats: int = 15) -> Mapping[str, float]:
        """Median latency of each kernel by node name, timed in whole inferences."""
        arguments = ["kernels", "--warmup", str(warmup), "--repeats", str(repeats)]
        arguments += ["--threads", str(self.manifest.threads)]
        done = run_program(self.device, self.home, self.manifest, arguments, timeout_s=self.timeout_s)
        if done.returncode != 0:
            raise crashed("kernels", done)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        if len(rows) != len(self.manifest.kernels):
            raise VerificationError(f"the program timed {len(rows)} of {len(self.manifest.kernels)} kernels")
        medians = (statistics.median(r["samples"]) / 1e6 for r in rows)
        return {k.node: ms for k, ms in zip(self.manifest.kernels, medians, strict=True)}

    def run(self, inputs: Sequence[bytes], batch: int) -> list[bytes]:
        """Outputs for ``batch`` stacked samples."""
        stored = [self.inputs.put(data) for data in inputs]
        return run_stored(self.device, self.home, self.manifest, stored, batch, timeout_s=self.timeout_s)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Inputs on the device, each sent once."""

    device: Device
    home: str
    sent: set[str] = field(default_factory=set)

    def put(self, data: bytes) -> str:
        """Where ``data`` lies."""
        path = f"{self.home}/{hashlib.sha256(data).hexdigest()}"
        if path not in self.sent:
            self.device.put(data, path)
            self.sent.add(path)
        return path


class Trials:
    """All that is tried on one device, in its folder ``home``: what is needed again is sent once.

    A console carries some kilobytes a second, and the dense network is timed beside every other one.
    """

    def __init__(self, device: Device, home: str, *, timeout_s: float = 300.0) -> None:
        self._device, self._home, self._timeout_s = device, home, timeout_s
        self._inputs = Inputs(device, f"{home}/inputs")
        self._kept: set[str] = set()
        self._info = device.describe()

    @contextmanager
    def open(self, bundle: Path, *, keep: bool = False) -> Iterator[Trial]:
        """A bundle's deployable files on the device.

        Args:
            keep: leave it there for a next time, not only for the length of this block.
        """
        manifest = read_manifest(bundle)
        home = f"{self._home}/{manifest.release_id}"
        try:
            if home not in self._kept:
                for name, entry in manifest.files.items():
                    if entry.deploy:
                        self._device.put(bundle / name, f"{home}/{name}", executable=entry.executable)
                if keep:
                    self._kept.add(home)
            yield self._trial(home, manifest)
        finally:
            if home not in self._kept:
                self._device.remove(home)

    def installed(self) -> Trial:
        """The release that is current on the device, where it is.

        Raises:
            UsageError: nothing is installed.
        """
        return self._trial(*current_release(self._device))

    def _trial(self, home: str, manifest: Manifest) -> Trial:
        return Trial(self._device, home, manifest, self._info, self._timeout_s, self._inputs)


@contextmanager
def on_trial(device: Device, *, timeout_s: float = 300.0) -> Iterator[Trials]:
    """Try bundles on a device; nothing of them stays when the block ends."""
    with scratch(device, FOLDER) as home:
        yield Trials(device, home, timeout_s=timeout_s)


@contextmanager
def trial(bundle: Path, device: Device, *, timeout_s: float = 300.0) -> Iterator[Trial]:
    """One bundle on a device for the length of the block."""
    with on_trial(device, timeout_s=timeout_s) as trials, trials.open(bundle) as tried:
        yield tried
