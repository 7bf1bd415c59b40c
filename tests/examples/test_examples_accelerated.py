"""The trainer on accelerate, in as many processes as are asked for; skipped where its package is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from edgeprune.training.data import load_data
from edgeprune.training.finetune import train
from edgeprune.training.foreign import finetuned

ROOT = Path(__file__).parents[2]


def loaded(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("processes", ["1", "2"])
def test_each_process_trains_and_the_weights_come_back(processes, monkeypatch):
    pytest.importorskip("accelerate")
    monkeypatch.setenv("EDGEPRUNE_PROCESSES", processes)
    example, tiny = loaded(ROOT / "examples" / "accelerated.py"), ROOT / "tests" / "fitting" / "tiny_net.py"
    data, net = load_data(f"{tiny}:data"), loaded(tiny).net
    torch.manual_seed(0)
    teacher, module = net().eval(), net().eval()
    train(teacher, data, epochs=3, lr=0.1, batch_size=32)
    history = finetuned(
        module,
        data,
        example.classification(),
        epochs=4,
        lr=0.1,
        batch_size=16,
        seed=0,
        teacher=teacher,
        distil_weight=0.5,
        temperature=4.0,
        progress=None,
    )
    assert history["metric"][0] > 0.9
    assert history["loss"][-1] < history["loss"][0]
