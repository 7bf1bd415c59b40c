"""A placed program: one that lies in a folder of a device, released or not, with what is known of both."""

from __future__ import annotations

import secrets
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgeprune.board.anomalies import OFF, Anomaly
from edgeprune.board.client import ExitCode, GoldenResult, Launch, NativeProgram, crashed
from edgeprune.compiler.manifest import Manifest
from edgeprune.deploy.layout import IO
from edgeprune.devices.protocol import Device, DeviceInfo
from edgeprune.devices.scratch import scratch
from edgeprune.errors import BadInputError, VerificationError


class Outputs(list[bytes]):
    """Raw outputs of a program, one for each of the network's; ``anomalies``: the samples that it flagged."""

    def __init__(self, values: Iterable[bytes], anomalies: Sequence[Anomaly] = ()) -> None:
        super().__init__(values)
        self.anomalies = tuple(anomalies)


@dataclass(frozen=True, slots=True)
class Placed:
    """The program of a bundle in the folder ``home`` of a device.

    Attributes:
        info: what the device said of itself: figures have its evidence level.
        timeout_s: longest that one run of the program may take.
    """

    device: Device
    home: str
    manifest: Manifest
    info: DeviceInfo
    timeout_s: float = 300.0

    @property
    def program(self) -> NativeProgram:
        return NativeProgram(self.device.run, (f"{self.home}/{self.manifest.program}",), self.timeout_s)

    def check(self) -> GoldenResult:
        """Golden input and output, compared on the device.

        Raises:
            VerificationError: it crashes, hangs or computes something else.
        """
        golden = self.manifest.golden
        inputs, outputs = ([f"{self.home}/{n}" for n in names] for names in (golden.inputs, golden.outputs))
        return self.program.check(inputs, outputs, rtol=golden.rtol, atol=golden.atol, threads=self.manifest.threads)

    def launch(self, *, warmup: int, repeats: int, threads: int | None = None) -> Launch:
        """Latencies of one launch; on as many threads as it was compiled for, if None."""
        return self.program.bench(warmup=warmup, repeats=repeats, threads=threads or self.manifest.threads)

    def allocated_bytes(self) -> int:
        """RAM that the program takes for itself, as it tells on the device; by its manifest, if it does not tell.

        Raises:
            VerificationError: it crashes or does not end.
        """
        found = self.launch(warmup=0, repeats=1).allocated_bytes
        return self.manifest.memory.peak_ram if found is None else found

    def kernels_ms(self, *, warmup: int = 2, repeats: int = 15) -> Mapping[str, float]:
        """Median latency of each kernel by node name, timed in whole inferences."""
        found = self.program.kernels(warmup=warmup, repeats=repeats, threads=self.manifest.threads)
        if found.ended.returncode != ExitCode.OK:
            raise crashed("kernels", found.ended)
        if len(found.rows) != len(self.manifest.kernels):
            raise VerificationError(f"the program timed {len(found.rows)} of {len(self.manifest.kernels)} kernels")
        pairs = zip(self.manifest.kernels, found.rows, strict=True)
        return {k.node: statistics.median(row.samples_ns) / 1e6 for k, row in pairs}

    def run(
        self, inputs: Sequence[bytes], batch: int = 1, *, threads: int | None = None, anomalies: str = OFF
    ) -> Outputs:
        """Outputs in the manifest's order, for ``batch`` stacked samples of each input: raw values of their types,
        little-endian.

        Args:
            anomalies: what the program does with anomalous samples; one of an earlier version does not look.

        Raises:
            AnomalousInputError: a sample is refused for its values.
            BadInputError: the number or the sizes of the inputs are not the model's.
            VerificationError: the program crashes or does not end.
        """
        with scratch(self.device, IO) as folder:
            stored = [f"{folder}/input{i}" for i in range(len(inputs))]
            for path, data in zip(stored, inputs, strict=True):
                self.device.put(data, path)
            return self.run_stored(stored, batch, threads=threads, anomalies=anomalies)

    def run_stored(
        self, inputs: Sequence[str], batch: int = 1, *, threads: int | None = None, anomalies: str = OFF
    ) -> Outputs:
        """:meth:`run` on inputs that lie on the device already, each at its path."""
        manifest = self.manifest
        if len(inputs) != len(manifest.inputs) or batch < 1:
            names = ", ".join(tensor.name for tensor in manifest.inputs)
            raise BadInputError(
                f"the model has the inputs {names}; {len(inputs)} were given, with batch {batch}",
                hint="give one array for each input and a batch of at least 1",
            )
        # Beside the input: that folder exists, whatever tools the board has.
        folder, mark = inputs[0].rpartition("/")[0], secrets.token_hex(8)
        outputs = [f"{folder}/{mark}.output{i}" for i in range(len(manifest.outputs))]
        try:
            mode = anomalies if manifest.inspects else None
            found = self.program.run(inputs, outputs, batch=batch, threads=threads or manifest.threads, anomalies=mode)
            return Outputs([self.device.get(path) for path in outputs], found)
        finally:
            for path in outputs:
                self.device.remove(path)
