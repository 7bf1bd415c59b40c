"""A bundle tried out on a device without being installed: time it, run it, leave nothing behind."""

from __future__ import annotations

import json
import secrets
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeprune.compiler.manifest import Manifest, read_manifest
from edgeprune.deploy.checks import BenchResult, GoldenResult, bench, check_golden, crashed, run_program
from edgeprune.deploy.installed import run_release
from edgeprune.deploy.steady import steady_bench
from edgeprune.devices.protocol import Device
from edgeprune.errors import VerificationError

FOLDER = "trials"


@dataclass(frozen=True, slots=True)
class Trial:
    """A program lying on the device in a folder of its own."""

    device: Device
    home: str
    manifest: Manifest
    evidence: str
    timeout_s: float

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
            evidence=self.evidence,
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
        return run_release(self.device, self.home, self.manifest, inputs, batch, timeout_s=self.timeout_s)


@contextmanager
def trial(bundle: Path, device: Device, *, timeout_s: float = 300.0) -> Iterator[Trial]:
    """Put a bundle's deployable files on the device for the length of the block."""
    manifest = read_manifest(bundle)
    home = f"{FOLDER}/{secrets.token_hex(8)}"
    try:
        for name, entry in manifest.files.items():
            if entry.deploy:
                device.put(bundle / name, f"{home}/{name}", executable=entry.executable)
        yield Trial(device, home, manifest, device.describe().evidence, timeout_s)
    finally:
        device.remove(home)
