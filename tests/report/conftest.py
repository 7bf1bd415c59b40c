import copy

import pytest

from edgeprune.report.schema import Report


def _figure(value, unit="ms", **more):
    return {"value": value, "unit": unit, "evidence": "simulated", **more}


def _variant(name, latency, accuracy, share):
    return {
        "name": name,
        "accuracy": _figure(accuracy, "fraction", evidence="measured", where="host", samples=1000),
        "robustness": {"noise 0.1": _figure(accuracy - 0.05, "fraction", evidence="measured", where="host")},
        "latency_ms": _figure(latency, spread=0.25, samples=50),
        "flash_bytes": _figure(1_200_000 * share, "bytes", evidence="compiled"),
        "peak_ram_bytes": _figure(400_000 * share, "bytes", evidence="compiled"),
        "macs": int(69_300_000 * share),
        "parameters": int(272_000 * share),
        "sparsity": 1 - share,
    }


def _layer(i, before, after):
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
    "schema": "edgeprune.report/1",
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
    "plan": {"method": {"solver": "lagrangian", "criterion": "l2"}, "certificate": {"gap": 0.004}},
    "provenance": {
        "created": "2026-11-22T10:00:00+00:00",
        "command": ["edgeprune", "fit", "zoo:resnet20"],
        "versions": {"apache-tvm": "0.27.0.post1"},
        "seed": 0,
    },
}


@pytest.fixture
def sample():
    """A whole report as plain JSON; change it at will."""
    return copy.deepcopy(SAMPLE)


@pytest.fixture
def report(sample):
    return Report.model_validate(sample)
