"""Instructions of one inference on an emulated Cortex-A72, edgeprune against ONNX Runtime's aarch64 wheel."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from arm_emulator import Emulator, EmulatorError, prepare
from codegen import network_of, onnx_bytes

from edgeprune.compiler.compile import compile_network
from edgeprune.graph.network import Network
from edgeprune.targets import Target

MODELS = ("mobilenet_v2", "mobilenet_v3_small", "resnet18", "squeezenet")
VARIANTS = ("dense", "irregular")
PEER = Path(__file__).with_name("arm_peer.py")


@dataclass(frozen=True)
class Instructions:
    """Executed by one inference, on one thread; schedules are the compiler's defaults, no board having tuned them."""

    model: str
    variant: str
    edgeprune: int
    onnxruntime: int
    ratio: float
    evidence: str = "emulated"

    def __str__(self) -> str:
        return (
            f"{self.model:20}{self.variant:10}{self.edgeprune / 1e6:8.1f} M instructions ours"
            f"{self.onnxruntime / 1e6:8.1f} M onnxruntime{self.ratio:6.2f}x"
        )


def instruction_rows(target: Target, models: Sequence[str], cache: Path) -> Iterator[Instructions]:
    """A row for each model and variant, as it is ready."""
    try:
        emulator = prepare(cache, [f"{name}=={metadata.version(name)}" for name in ("onnxruntime", "numpy")])
        for name in models:
            for variant in VARIANTS:
                with tempfile.TemporaryDirectory() as folder:
                    network = network_of(name, variant)
                    ours = count_ours(emulator, network, target, Path(folder))
                    peer = count_peer(emulator, network, Path(folder))
                yield Instructions(name, variant, ours, peer, ours / peer)
    except EmulatorError as e:
        sys.exit(str(e))


def count_ours(emulator: Emulator, network: Network, target: Target, folder: Path) -> int:
    """Instructions of an inference of the compiled program, whose answer is compared with torch's first."""
    golden = compile_network(network, target, folder / "bundle").golden
    program, pairs = folder / "bundle/model", (("--input", golden.inputs), ("--expect", golden.outputs))
    emulator.count([program, "check", *(a for flag, files in pairs for f in files for a in (flag, program.parent / f))])
    one, two = (emulator.count([program, "bench", "--warmup", "0", "--repeats", n])[-1] for n in ("1", "2"))
    return two - one


def count_peer(emulator: Emulator, network: Network, folder: Path) -> int:
    """Instructions of ONNX Runtime's second inference, counted inside of one run: Python's start varies."""
    file = folder / "model.onnx"
    file.write_bytes(onnx_bytes(network.module, network.example_inputs[0]))
    *_, before, after, _ = emulator.count_python(PEER, file)
    return after - before


def geomean_ratio(rows: Sequence[Instructions]) -> float:
    return statistics.geometric_mean(r.ratio for r in rows)
