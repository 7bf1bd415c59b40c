"""A bundle and a peer timed in turns on this computer, so that a restless clock meets both alike."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TURNS, PER_TURN, WARM = 4, 6, 2
REST_S = 0.2
"""The peer's threads spin for a while after a run; they must be asleep when it is our turn."""


def raced(bundle: Path, peer: Callable[[], Any], threads: int) -> tuple[list[float], list[float]]:
    """Milliseconds of single inferences, ours and the peer's, turn by turn."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(TURNS):
        time.sleep(REST_S)
        ours += bench(bundle, threads)
        for turn in range(PER_TURN + WARM):
            began = time.perf_counter()
            peer()
            if turn >= WARM:
                theirs.append((time.perf_counter() - began) * 1e3)
    return ours, theirs


def bench(bundle: Path, threads: int) -> list[float]:
    """Milliseconds of single inferences of the bundle's program, in a process of its own."""
    command = [str(bundle / "model"), "bench", "--warmup", str(WARM), "--repeats", str(PER_TURN)]
    done = subprocess.run([*command, "--threads", str(threads)], capture_output=True, text=True, check=True)
    return [ns / 1e6 for ns in json.loads(done.stdout)["samples"]]


def onnxruntime_session(model: str | bytes, threads: int) -> Any:
    """ONNX Runtime with all its optimisations on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def iqr(samples: list[float]) -> float:
    low, _, high = statistics.quantiles(samples, n=4)
    return high - low
