"""What a camera frame costs as the input of a program, beside floats that NumPy made of it.

ResNet-18 at 224 x 224 is compiled twice for this computer: with ``image_input``, and as it is. In turns, each gets the
same frames; the second gets what NumPy makes of them, by the usual three lines. Printed are milliseconds of both, of
NumPy's part and of the first kernel, the ratio of the two ways with its spread, and how far the results are apart.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgeprune

SPEC = "bgr:imagenet"
MEAN, STD = (np.array(v, np.float32) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def prepared(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a program without ``image_input`` takes: as applications write it."""
    x = frame[..., ::-1].astype(np.float32) / 255
    return np.ascontiguousarray(((x - MEAN) / STD).transpose(0, 3, 1, 2))


def seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def kernel_ms(program: Path) -> dict[str, float]:
    """Median of each kernel inside whole inferences."""
    done = subprocess.run([program, "kernels", "--repeats", "30"], capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["name"]: float(np.median(row["samples"])) / 1e6 for row in rows}


def measured(turns: int, size: int) -> dict[str, Any]:
    frame = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        model = edgeprune.load_model("zoo:resnet18", input_shape=(1, 3, size, size))
        frames = edgeprune.compile(model, out=Path(scratch, "frames"), image_input=SPEC)
        floats = edgeprune.compile(model, out=Path(scratch, "floats"))
        with edgeprune.load_bundle(frames.path) as taken, edgeprune.load_bundle(floats.path) as given:
            (mine,), (theirs,) = taken(frame), given(prepared(frame))
            times = []
            for turn in range(turns + 3):
                ways = (lambda: taken(frame), lambda: given(prepared(frame)), lambda: prepared(frame))
                order = range(3) if turn % 2 else reversed(range(3))
                found = dict(sorted((i, seconds(ways[i])) for i in order))
                times.append([1e3 * t for t in found.values()])
        first, *_ = kernel_ms(frames.path / frames.manifest.program).items()
    rows = np.array(times[3:])
    ratios = np.percentile(rows[:, 0] / rows[:, 1], (25, 50, 75))
    return {
        "network": f"zoo:resnet18 at {size} x {size}",
        "processor": platform.machine(),
        "turns": turns,
        "frame_ms": float(np.median(rows[:, 0])),
        "floats_with_numpy_ms": float(np.median(rows[:, 1])),
        "numpy_alone_ms": float(np.median(rows[:, 2])),
        "first_kernel_ms": first[1],
        "ratio": float(ratios[1]),
        "ratio_quartiles": [float(ratios[0]), float(ratios[2])],
        "max_difference": float(np.abs(mine - theirs).max() / np.abs(theirs).max()),
        "input_bytes": {"frame": frame.nbytes, "floats": 4 * frame.size},
        "peak_ram_bytes": {"frame": frames.manifest.memory.peak_ram, "floats": floats.manifest.memory.peak_ram},
        "evidence": "measured",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=150)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measured(args.turns, args.size)
    if args.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        print(f"{name:22} {value:.4g}" if isinstance(value, float) else f"{name:22} {value}")


if __name__ == "__main__":
    main()
