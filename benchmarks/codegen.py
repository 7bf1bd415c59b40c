"""Compiled speed against ONNX Runtime on this computer: dense networks and irregular ones.

    python benchmarks/codegen.py --threads 1 [--json] [--models resnet18,…] [--tune 24] [--by-kernel] [--peer openvino]

Every network of the zoo at 1x3x224x224, as it is and with every width group cut to an irregular
60 %, compiled by edgeprune (schedules tuned on this computer first) and run by ONNX Runtime with all
optimisations, or by OpenVINO in fp32. Runs alternate; a row is the median of at least 20. Outputs are
compared with torch, speeds with what the processor's multiply-add units do on registers alone (peak.py).
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peak import peak_gflops
from racing import PER_TURN, iqr, onnxruntime_session, raced
from torch import nn

from edgeprune.api.progress import reporting
from edgeprune.compiler.compile import compile_network
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.devices.registry import open_device
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.network import Network, read_network
from edgeprune.home import home
from edgeprune.latency.store import ProfileStore
from edgeprune.models.zoo import build
from edgeprune.profiling.profile import ProfileOptions, profile
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.shrink import shrink
from edgeprune.targets import load_target

MODELS = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "squeezenet", "vgg11_bn")
SHAPE = (1, 3, 224, 224)
KEPT = 0.6
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Row:
    """Milliseconds are medians, spreads interquartile ranges; ``max_rel_diff`` is of the outputs, to torch.

    ``gflops`` counts the multiply-adds of direct convolution, so Winograd can pass the peak.
    """

    model: str
    variant: str
    threads: int
    edgeprune_ms: float
    edgeprune_iqr_ms: float
    peer: str
    peer_ms: float
    peer_iqr_ms: float
    ratio: float
    gflops: float
    peak_fraction: float
    max_rel_diff: float
    tuning_s: float
    compile_s: float
    evidence: str = "measured"

    def to_json(self) -> dict[str, Any]:
        """``peer_ms`` under the peer's own name: ``onnxruntime_ms``."""
        return {k.replace("peer_", f"{self.peer}_"): v for k, v in asdict(self).items()}


def main() -> int:
    options = parse()
    target, device = load_target(options.target), open_device("local:")
    rows, kernels, families, peak = [], [], [], peak_gflops(target, options.threads)
    with tempfile.TemporaryDirectory() as folder, ProfileStore(options.store) as store:
        for name in options.models.split(","):
            for variant in ("dense", "irregular"):
                network = network_of(name, variant)
                began = time.monotonic()
                tuning = ProfileOptions(threads=options.threads, points=1, tune=options.tune)
                with reporting(not options.quiet) as bar:
                    tuned = profile(network.kernels, network.channels, target, device, store, tuning, progress=bar)
                tuning_s, began = time.monotonic() - began, time.monotonic()
                bundle = Path(folder) / f"{name}-{variant}"
                book = ScheduleBook(target, tuned.profile.records())
                compile_network(network, target, bundle, book=book, name=name, threads=options.threads)
                compile_s = time.monotonic() - began
                rows.append(row(name, variant, options, network, bundle, peak, tuning_s, compile_s))
                print(text(rows[-1]), file=sys.stderr, flush=True)
                if options.by_kernel:
                    kernels += by_kernel(name, variant, network, bundle, options.threads)
                    families += by_family(name, variant, network, kernels, options.threads)
    result = summary(rows, peak)
    if options.by_kernel:
        result |= {"kernels": kernels, "families": families}
    print(json.dumps(result, indent=1) if options.json else table(rows, result))
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--tune", type=int, default=24, help="schedules tried for each kernel")
    parser.add_argument("--peer", choices=sorted(PEERS), default="onnxruntime")
    parser.add_argument("--target", default="host")
    parser.add_argument("--store", type=Path, default=home() / "codegen.sqlite3")
    parser.add_argument("--by-kernel", action="store_true", help="where the time goes, by kernel family")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    return parser.parse_args()


def network_of(name: str, variant: str) -> Network:
    options = {"image": SHAPE[-1]} if name == "vgg11_bn" else {}
    module, inputs = build(name, **options).eval(), (torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)),)
    network = read_network(module, inputs)
    if variant == "dense":
        return network
    return read_network(shrink(module, network.channels, irregular(network.channels)), inputs)


def irregular(channels: ChannelGraph) -> Plan:
    """Keep 60 % of every group, and never a multiple of 8."""
    keep = {}
    for group in channels.prunable:
        width = max(1, int(group.size * KEPT))
        keep[group.name] = tuple(range(width - 1 if width % 8 == 0 else width))
    return Plan(keep, {g.name: g.size for g in channels.groups}, {}, {}, {})


def row(
    name: str,
    variant: str,
    options: argparse.Namespace,
    network: Network,
    bundle: Path,
    peak: float,
    tuning_s: float,
    compile_s: float,
) -> Row:
    ours, peer, diff = race(network, bundle, options.peer, options.threads)
    ms, peer_ms = statistics.median(ours), statistics.median(peer)
    macs = sum(n.spec.macs for n in network.kernels.nodes)
    return Row(
        model=name,
        variant=variant,
        threads=options.threads,
        edgeprune_ms=ms,
        edgeprune_iqr_ms=iqr(ours),
        peer=options.peer,
        peer_ms=peer_ms,
        peer_iqr_ms=iqr(peer),
        ratio=ms / peer_ms,
        gflops=2 * macs / ms / 1e6,
        peak_fraction=2 * macs / ms / 1e6 / peak,
        max_rel_diff=diff,
        tuning_s=tuning_s,
        compile_s=compile_s,
    )


def race(network: Network, bundle: Path, peer_name: str, threads: int) -> tuple[list[float], list[float], float]:
    """Milliseconds of both, turn by turn, and the largest difference to torch relative to the largest output."""
    image = network.example_inputs[0]
    run_peer = PEERS[peer_name](network.module, image, threads)
    ours, peer = raced(bundle, run_peer, threads)
    with torch.no_grad():
        expected = network.module(image).numpy()
    image.numpy().tofile(bundle / "x.bin")
    command = [str(bundle / "model"), "run", "--input", str(bundle / "x.bin"), "--output", str(bundle / "y.bin")]
    subprocess.run([*command, "--threads", str(threads)], check=True, capture_output=True)
    given = np.fromfile(bundle / "y.bin", np.float32).reshape(expected.shape)
    diff = float(np.abs(given - expected).max() / np.abs(expected).max())
    if not diff <= TOLERANCE:
        raise SystemExit(f"{bundle.name}: outputs differ from torch by {diff:.2e}")
    return ours, peer, diff


def onnx_bytes(module: nn.Module, image: torch.Tensor) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer: Any = io.BytesIO()  # what torch's types leave out, it takes
        torch.onnx.export(module, (image,), buffer, dynamo=False)
        return bytes(buffer.getvalue())


def onnxruntime_peer(module: nn.Module, image: torch.Tensor, threads: int) -> Callable[[], Any]:
    session = onnxruntime_session(onnx_bytes(module, image), threads)
    feed = {session.get_inputs()[0].name: image.numpy()}
    return lambda: session.run(None, feed)


def openvino_peer(module: nn.Module, image: torch.Tensor, threads: int) -> Callable[[], Any]:
    import openvino

    hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(onnx_bytes(module, image)), "CPU", hints)
    request, feed = compiled.create_infer_request(), [image.numpy()]
    return lambda: request.infer(feed)


PEERS: dict[str, Callable[[nn.Module, torch.Tensor, int], Callable[[], Any]]] = {
    "onnxruntime": onnxruntime_peer,
    "openvino": openvino_peer,
}


def by_kernel(name: str, variant: str, network: Network, bundle: Path, threads: int) -> list[dict[str, Any]]:
    """Milliseconds and speed of each kernel, timed one by one."""
    command = [str(bundle / "model"), "kernels", "--warmup", "2", "--repeats", "9", "--threads", str(threads)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    manifest = json.loads((bundle / "manifest.json").read_text())
    out = []
    for node, line, entry in zip(network.kernels.nodes, lines, manifest["kernels"], strict=True):
        ms = statistics.median(json.loads(line)["samples"]) / 1e6
        out.append(
            {
                "model": name,
                "variant": variant,
                "kernel": str(node.spec),
                "ms": ms,
                "gflops": 2 * node.spec.macs / ms / 1e6,
                "schedule": entry["schedule"],
            }
        )
    return out


def by_family(
    name: str, variant: str, network: Network, kernels: list[dict[str, Any]], threads: int
) -> list[dict[str, Any]]:
    """Milliseconds by kernel family: ours from the kernels, ONNX Runtime's from its own profiler."""
    ours: dict[str, float] = {}
    mine = [k for k in kernels if (k["model"], k["variant"]) == (name, variant)]
    for node, kernel in zip(network.kernels.nodes, mine, strict=True):
        spec = node.spec
        family = "dense" if spec.op == "dense" else "other"
        if spec.op == "conv2d":
            family = conv_family(spec.attr("kernel"), spec.depthwise)
        ours[family] = ours.get(family, 0.0) + kernel["ms"]
    peer = onnxruntime_families(network.module, network.example_inputs[0], threads)
    row = {"model": name, "variant": variant}
    return [
        row | {"family": f, "edgeprune_ms": ours.get(f), "onnxruntime_ms": peer.get(f)} for f in sorted(ours | peer)
    ]


def conv_family(kernel: Sequence[int], depthwise: bool) -> str:
    return "conv depthwise" if depthwise else f"conv {kernel[0]}x{kernel[1]}"


def onnxruntime_families(module: nn.Module, image: torch.Tensor, threads: int) -> dict[str, float]:
    """Mean milliseconds of an inference by family, as ONNX Runtime's profiler counts them."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_profiling, options.profile_file_prefix = True, f"{folder}/profile"
        session = onnxruntime.InferenceSession(onnx_bytes(module, image), options, providers=["CPUExecutionProvider"])
        for _ in range(PER_TURN):
            session.run(None, {session.get_inputs()[0].name: image.numpy()})
        events = json.loads(Path(session.end_profiling()).read_text())
    total: dict[str, float] = {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        op = event["args"]["op_name"]
        shapes = [next(iter(s.values())) for s in event["args"].get("input_type_shape", []) if s]
        family = "dense" if op in ("Gemm", "FusedGemm", "MatMul") else "other"
        if "Conv" in op and len(shapes) > 1:
            family = conv_family(shapes[1][2:], shapes[1][1] == 1 and shapes[0][1] > 1)
        total[family] = total.get(family, 0.0) + event["dur"] / 1e3 / PER_TURN
    return total


def summary(rows: list[Row], peak: float) -> dict[str, Any]:
    def geomean(variant: str) -> float | None:
        ratios = [r.ratio for r in rows if r.variant == variant]
        return statistics.geometric_mean(ratios) if ratios else None

    dense = {r.model: r.edgeprune_ms for r in rows if r.variant == "dense"}
    return {
        "rows": [r.to_json() for r in rows],
        "peak_gflops": peak,
        "geomean_dense": geomean("dense"),
        "geomean_irregular": geomean("irregular"),
        "worst_ratio": max(r.ratio for r in rows),
        "irregular_faster_than_dense": all(r.edgeprune_ms < dense[r.model] for r in rows if r.variant == "irregular"),
    }


def text(r: Row) -> str:
    return (
        f"{r.model:20}{r.variant:10}{r.edgeprune_ms:9.2f} ms ours{r.peer_ms:9.2f} ms {r.peer}"
        f"{r.ratio:7.2f}x{r.gflops:8.0f} GFLOP/s ({r.peak_fraction:.0%} of peak){r.max_rel_diff:10.1e}"
        f"{r.tuning_s:7.0f} s tuning{r.compile_s:6.1f} s compile"
    )


def table(rows: list[Row], result: dict[str, Any]) -> str:
    lines = [text(r) for r in rows]
    lines += [f"{k}: {v}" for k, v in result.items() if k not in ("rows", "kernels", "families")]
    for f in result.get("families", ()):
        ours, peer = (f"{f[k]:9.3f}" if f[k] is not None else "        -" for k in ("edgeprune_ms", "onnxruntime_ms"))
        lines.append(f"{f['model']:20}{f['variant']:10}{f['family']:16}{ours} ms ours{peer} ms theirs")
    for k in result.get("kernels", ()):
        lines.append(
            f"{k['model']:20}{k['variant']:10}{k['kernel']:44}{k['ms']:9.3f} ms{k['gflops']:7.0f} {k['schedule']}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
