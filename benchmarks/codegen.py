"""Compiled speed against ONNX Runtime on this computer: dense networks and irregular ones.

    python benchmarks/codegen.py --threads 1 [--json] [--models resnet18,…] [--tune 24] [--by-kernel]

Every network of the zoo at 1x3x224x224, as it is and with every width group cut to an irregular
60 %, compiled by edgeprune (schedules tuned on this computer first) and run by ONNX Runtime with all
optimisations. Runs alternate; a row is the median of at least 20. Outputs are compared with torch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeprune.cli.progress import progress
from edgeprune.compiler.compile import Network, compile_network, read_network
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.devices.registry import open_device
from edgeprune.graph.channels import ChannelGraph
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
TURNS, PER_TURN = 4, 6
REST_S = 0.2
"""The peer's threads spin for a while after a run; they must be asleep when it is our turn."""


@dataclass(frozen=True)
class Row:
    """Milliseconds are medians, spreads interquartile ranges; ``max_rel_diff`` is of the outputs, to torch."""

    model: str
    variant: str
    threads: int
    edgeprune_ms: float
    edgeprune_iqr_ms: float
    onnxruntime_ms: float
    onnxruntime_iqr_ms: float
    ratio: float
    gflops: float
    max_rel_diff: float
    tuning_s: float
    compile_s: float
    evidence: str = "measured"


def main() -> int:
    options = parse()
    target, device = load_target(options.target), open_device("local:")
    rows, kernels = [], []
    with tempfile.TemporaryDirectory() as folder, ProfileStore(options.store) as store:
        for name in options.models.split(","):
            for variant in ("dense", "irregular"):
                network = network_of(name, variant)
                began = time.monotonic()
                tuning = ProfileOptions(threads=options.threads, points=1, tune=options.tune)
                with progress(options.quiet) as bar:
                    tuned = profile(network.kernels, network.channels, target, device, store, tuning, progress=bar)
                tuning_s, began = time.monotonic() - began, time.monotonic()
                bundle = Path(folder) / f"{name}-{variant}"
                book = ScheduleBook(target, tuned.profile.records())
                compile_network(network, target, bundle, book=book, name=name, threads=options.threads)
                compile_s = time.monotonic() - began
                rows.append(row(name, variant, options.threads, network, bundle, tuning_s, compile_s))
                print(text(rows[-1]), file=sys.stderr, flush=True)
                if options.by_kernel:
                    kernels += by_kernel(name, variant, network, bundle, options.threads)
    result = summary(rows)
    if options.by_kernel:
        result["kernels"] = kernels
    print(json.dumps(result, indent=1) if options.json else table(result))
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--tune", type=int, default=24, help="schedules tried for each kernel")
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
    name: str, variant: str, threads: int, network: Network, bundle: Path, tuning_s: float, compile_s: float
) -> Row:
    ours, peer, diff = race(network, bundle, threads)
    ms, peer_ms = statistics.median(ours), statistics.median(peer)
    macs = sum(n.spec.macs for n in network.kernels.nodes)
    return Row(
        model=name,
        variant=variant,
        threads=threads,
        edgeprune_ms=ms,
        edgeprune_iqr_ms=iqr(ours),
        onnxruntime_ms=peer_ms,
        onnxruntime_iqr_ms=iqr(peer),
        ratio=ms / peer_ms,
        gflops=2 * macs / ms / 1e6,
        max_rel_diff=diff,
        tuning_s=tuning_s,
        compile_s=compile_s,
    )


def race(network: Network, bundle: Path, threads: int) -> tuple[list[float], list[float], float]:
    """Milliseconds of both, turn by turn, and the largest difference to torch relative to the largest output."""
    image = network.example_inputs[0]
    session = peer_session(network.module, image, threads)
    feed = {session.get_inputs()[0].name: image.numpy()}
    ours: list[float] = []
    peer: list[float] = []
    for _ in range(TURNS):
        time.sleep(REST_S)
        ours += bench(bundle, threads)
        for turn in range(PER_TURN + 2):
            began = time.perf_counter()
            session.run(None, feed)
            if turn >= 2:
                peer.append((time.perf_counter() - began) * 1e3)
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


def bench(bundle: Path, threads: int) -> list[float]:
    command = [str(bundle / "model"), "bench", "--warmup", "2", "--repeats", str(PER_TURN), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [ns / 1e6 for ns in json.loads(done.stdout)["samples"]]


def peer_session(module: nn.Module, image: torch.Tensor, threads: int) -> Any:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = f"{folder}/model.onnx"
        torch.onnx.export(module, (image,), file, dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


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


def iqr(samples: list[float]) -> float:
    low, _, high = statistics.quantiles(samples, n=4)
    return high - low


def summary(rows: list[Row]) -> dict[str, Any]:
    def geomean(variant: str) -> float | None:
        ratios = [r.ratio for r in rows if r.variant == variant]
        return statistics.geometric_mean(ratios) if ratios else None

    dense = {r.model: r.edgeprune_ms for r in rows if r.variant == "dense"}
    return {
        "rows": [asdict(r) for r in rows],
        "geomean_dense": geomean("dense"),
        "geomean_irregular": geomean("irregular"),
        "worst_ratio": max(r.ratio for r in rows),
        "irregular_faster_than_dense": all(r.edgeprune_ms < dense[r.model] for r in rows if r.variant == "irregular"),
    }


def text(r: Row) -> str:
    return (
        f"{r.model:20}{r.variant:10}{r.edgeprune_ms:9.2f} ms ours{r.onnxruntime_ms:9.2f} ms ONNX Runtime"
        f"{r.ratio:7.2f}x{r.gflops:8.0f} GFLOP/s{r.max_rel_diff:10.1e}"
        f"{r.tuning_s:7.0f} s tuning{r.compile_s:6.1f} s compile"
    )


def table(result: dict[str, Any]) -> str:
    lines = [text(Row(**r)) for r in result["rows"]]
    lines += [f"{k}: {v}" for k, v in result.items() if k not in ("rows", "kernels")]
    for k in result.get("kernels", ()):
        lines.append(
            f"{k['model']:20}{k['variant']:10}{k['kernel']:44}{k['ms']:9.3f} ms{k['gflops']:7.0f} {k['schedule']}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
