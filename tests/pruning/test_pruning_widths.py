from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from coupling_nets import CASES, randomised
from safetensors.torch import load_file, save_file
from torch import nn

from edgeprune.errors import ModelLoadError, PlanError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.groups import analyse
from edgeprune.graph.trace import trace
from edgeprune.pruning.plan import Plan, make_plan
from edgeprune.pruning.shrink import shrink
from edgeprune.pruning.widths import WEIGHTS_FILE, WIDTHS_FILE, load_pruned, save_pruned

X = (torch.randn(2, 3, 8, 8),)


def case(name: str) -> tuple[ChannelGraph, Plan, nn.Module]:
    torch.manual_seed(0)
    module = randomised(CASES[name].net())
    graph = analyse(trace(module, X)).graph
    widths = {g.name: max(1, g.size // 2) for g in graph.prunable}
    plan = make_plan(graph, widths, {g.name: torch.rand(g.size).numpy() for g in graph.prunable})
    small = shrink(module, graph, plan)
    with torch.no_grad():  # as fine-tuning would
        for p in small.parameters():
            p.add_(0.01)
    return graph, plan, small


@pytest.mark.parametrize("name", ["residual", "grouped", "tied_weight", "depth_multiplier", "flatten"])
def test_round_trip_from_a_fresh_original(name: str, tmp_path: Path) -> None:
    graph, plan, small = case(name)
    save_pruned(small, plan, tmp_path / "new" / "run")
    original = CASES[name].net().eval()
    loaded = load_pruned(original, graph, tmp_path / "new" / "run")
    assert torch.equal(loaded(*X), small(*X))
    assert sorted(p.name for p in (tmp_path / "new" / "run").iterdir()) == [WEIGHTS_FILE, WIDTHS_FILE]


@pytest.fixture
def saved(tmp_path: Path) -> tuple[ChannelGraph, Path]:
    graph, plan, small = case("residual")
    save_pruned(small, plan, tmp_path)
    return graph, tmp_path


def refuse(saved: tuple[ChannelGraph, Path], match: str) -> None:
    with pytest.raises(ModelLoadError, match=match) as caught:
        load_pruned(CASES["residual"].net(), saved[0], saved[1])
    assert str(saved[1]) in caught.value.message


@pytest.mark.parametrize("file", [WEIGHTS_FILE, WIDTHS_FILE])
def test_missing_or_truncated_file(saved: tuple[ChannelGraph, Path], file: str) -> None:
    path = saved[1] / file
    path.write_bytes(path.read_bytes()[:50])
    refuse(saved, "sha256 differs" if file == WEIGHTS_FILE else "not JSON")
    path.unlink()
    refuse(saved, "cannot be read")


def test_weights_of_another_run(saved: tuple[ChannelGraph, Path]) -> None:
    tensors = load_file(saved[1] / WEIGHTS_FILE)
    save_file({k: v + 1 for k, v in tensors.items()}, saved[1] / WEIGHTS_FILE)
    refuse(saved, "sha256 differs")


@pytest.mark.parametrize("what", ["shape", "dtype", "lacking", "extra"])
def test_weights_that_do_not_fit_the_network(saved: tuple[ChannelGraph, Path], what: str) -> None:
    import hashlib

    tensors = load_file(saved[1] / WEIGHTS_FILE)
    if what == "shape":
        tensors["head.weight"] = tensors["head.weight"][:, 1:].contiguous()
    elif what == "dtype":
        tensors["head.weight"] = tensors["head.weight"].double()
    elif what == "lacking":
        del tensors["head.weight"]
    else:
        tensors["tail.weight"] = torch.ones(1)
    save_file(tensors, saved[1] / WEIGHTS_FILE)
    widths = json.loads((saved[1] / WIDTHS_FILE).read_text())
    widths["weights_sha256"] = hashlib.sha256((saved[1] / WEIGHTS_FILE).read_bytes()).hexdigest()
    (saved[1] / WIDTHS_FILE).write_text(json.dumps(widths))
    refuse(saved, "tail.weight" if what == "extra" else "head.weight")


def test_other_schema_and_other_network(saved: tuple[ChannelGraph, Path]) -> None:
    module = CASES["concat"].net()
    with pytest.raises(PlanError):
        load_pruned(module, analyse(trace(module, X)).graph, saved[1])
    (saved[1] / WIDTHS_FILE).write_text('{"schema": "edgeprune.widths/9"}')
    refuse(saved, "schema")


def test_failed_save_leaves_the_old_files(saved: tuple[ChannelGraph, Path]) -> None:
    before = {p.name: p.read_bytes() for p in saved[1].iterdir()}
    _graph, plan, small = case("residual")
    unspeakable = Plan(plan.keep, plan.sizes, {"latency_ms": float("nan")}, {}, {})
    with pytest.raises(ValueError, match="JSON"):
        save_pruned(small, unspeakable, saved[1])
    assert {p.name: p.read_bytes() for p in saved[1].iterdir()} == before
