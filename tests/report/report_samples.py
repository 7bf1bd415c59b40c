"""Reports as plain JSON, for the tests of this folder."""

from typing import Any


def _figure(value: float, unit: str = "ms", **more: object) -> dict[str, Any]:
    return {"value": value, "unit": unit, "evidence": "simulated", **more}


def _variant(name: str, latency: float, accuracy: float, share: float) -> dict[str, Any]:
    return {
        "name": name,
        "accuracy": _figure(accuracy, "fraction", evidence="measured", samples=1000),
        "latency_ms": _figure(latency, spread=0.25, samples=50),
        "flash_bytes": _figure(1_200_000 * share, "bytes", evidence="compiled"),
        "peak_ram_bytes": _figure(400_000 * share, "bytes", evidence="compiled"),
        "macs": int(69_300_000 * share),
        "parameters": int(272_000 * share),
        "sparsity": 1 - share,
    }


def _layer(i: int, before: int, after: int) -> dict[str, Any]:
    return {
        "node": f"conv{i}",
        "module": f"stage.{i}.conv",
        "spec": f"conv2d 3x3 {before}→{before} @32x32+relu",
        "groups": [f"g{i}"],
        "before": {"in": before, "out": before},
        "after": {"in": after, "out": after},
        "dense_ms": _figure(before / 10),
        "pruned_ms": _figure(after / 10),
        "predicted_ms": _figure(after / 11, predicted=True),
    }


SAMPLE = {
    "schema": "edgeprune.report/2",
    "model": {"name": "resnet20", "source": "zoo:resnet20", "inputs": [[1, 3, 32, 32]]},
    "target": {"name": "rpi4", "title": "Raspberry Pi 4 Model B", "digest": "0f3d928acb42cedf"},
    "device": {
        "url": "fake:/tmp/board",
        "machine": "x86_64",
        "system": "Linux",
        "cpu": "fake",
        "cores": 4,
        "ram_bytes": 1 << 30,
        "threads": 2,
        "clock": "virtual",
        "evidence": "simulated",
    },
    "budget": {"latency_ms": 6.0, "flash_bytes": 800_000},
    "accuracy_name": "top-1 accuracy",
    "variants": [
        _variant("dense", 12.4, 0.912, 1.0),
        _variant("pruned", 5.9, 0.905, 0.45),
        _variant("uniform", 6.1, 0.861, 0.5),
    ],
    "layers": [_layer(i, 16 * 2 ** (i // 3), 11 * 2 ** (i // 3)) for i in range(4)],
    "groups": [
        {"name": "g0", "size": 16, "kept": 11},
        {"name": "logits", "size": 10, "kept": 10, "frozen": "graph output"},
    ],
    "rounds": [
        {
            "round": 1,
            "predicted_ms": _figure(5.8, predicted=True),
            "measured_ms": _figure(6.3),
            "interval_ms": [6.25, 6.35],
            "correction": 1.09,
            "accepted": False,
        },
        {
            "round": 2,
            "predicted_ms": _figure(5.9, predicted=True),
            "measured_ms": _figure(5.9),
            "correction": 1.0,
            "accepted": True,
        },
    ],
    "margin": 0.03,
    "plan": {
        "method": {"solver": "knapsack", "criterion": "l2"},
        "certificate": {"saliency_upper_bound": 0.934},
        "saliency_retained": 0.93,
        "dropped": {"g0": {"13": "the kernel computed something else"}},
    },
    "provenance": {
        "created": "2026-11-22T10:00:00+00:00",
        "command": ["edgeprune", "fit", "zoo:resnet20"],
        "versions": {"apache-tvm": "0.27.0.post1"},
        "seed": 0,
    },
}


TABLE = {
    "node": "conv3",
    "in": [8, 16, 24, 32],
    "out": [8, 22, 32],
    "latency_ms": [[0.1, 0.2, 0.3], [0.2, 0.5, 0.7], [0.4, 0.8, 1.1], [0.5, 1.1, 3.2]],
    "timed": [[3, 2], [0, 0]],
    "evidence": "simulated",
}
VERDICT = {
    "outcome": "kept",
    "resource": "latency",
    "statistic": "median",
    "value": 5.9,
    "low": 5.8,
    "high": 5.95,
    "limit": 6.0,
    "unit": "ms",
    "confidence": 0.95,
    "basis": "in turns with the dense network",
    "turns": 24,
    "seconds": 61.2,
    "evidence": "simulated",
}
DISTRIBUTION = {
    "samples": 10,
    "median_ms": 5.9,
    "p90_ms": 6.1,
    "p99_ms": 6.4,
    "worst_ms": 6.4,
    "evidence": "simulated",
    "histogram": [[5.9, 6], [6.0, 1], [6.1, 2], [6.4, 1]],
    "states": [
        {"slowdown": 1.0, "share": 0.7, "median_ms": 5.88},
        {"slowdown": 1.08, "share": 0.3, "median_ms": 6.24},
    ],
}


def network(kernels: int) -> list[dict[str, Any]]:
    """Layers of a deep network with names as long as they come, some of one module, some removed."""
    layers = []
    for i in range(kernels):
        layer = _layer(i, 16 * 2 ** (7 * i // kernels), 0 if i % 17 == 9 else 9 * 2 ** (7 * i // kernels))
        layer["module"] = f"backbone.stages.{i // 8}.blocks.{i % 8 // 2}.body.gate.activation"
        layer["node"] = f"{layer['module']}.kernel_{i}"
        if layer["after"]["out"] == 0:
            layer["pruned_ms"] = layer["predicted_ms"] = None
        layers.append(layer)
    return layers
