"""What a call takes: every kind of model, data, device, limit and progress; and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import edgeprune
from edgeprune.api.arguments import open_data, open_model
from edgeprune.api.progress import Lines, reporting
from edgeprune.budget.promise import Limit, Promise
from edgeprune.errors import ModelLoadError, TargetError, UsageError

SHAPE = (1, 3, 8, 8)


def test_a_model_is_a_string_a_module_or_what_was_loaded(source, net):
    by_name, record = open_model(source, input_shape=SHAPE)
    assert (by_name.name, record.model) == ("net", source)
    for given in (SHAPE, list(SHAPE), torch.zeros(SHAPE), (torch.zeros(SHAPE),)):
        loaded, record = open_model(net, given)
        assert (loaded.name, record) == ("tinynet", None)
        assert loaded.source.endswith(".TinyNet")
        assert [tuple(x.shape) for x in loaded.example_inputs] == [SHAPE]
    assert open_model(net, input_shape="1x3x8x8")[0].example_inputs[0].shape == SHAPE
    assert open_model(by_name) == (by_name, None)


def test_a_module_is_left_as_it_is(net):
    loaded, _ = open_model(net.double(), SHAPE)
    assert net.training
    assert not loaded.module.training
    assert {p.dtype for p in net.parameters()} == {torch.float64}
    assert {p.dtype for p in loaded.module.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("call", "kind", "why"),
    [
        (lambda net: open_model(net), UsageError, "a module needs example inputs"),
        (lambda net: open_model(net, "1x3x8x8"), UsageError, "a module needs example inputs"),
        (lambda net: open_model(net, (1, 4, 8, 8)), ModelLoadError, "does not run on inputs"),
        (lambda net: open_model(net, (0, 3, 8, 8)), ModelLoadError, "no input shape"),
        (lambda net: open_model("zoo:resnet20", SHAPE), UsageError, "go with a torch module"),
        (lambda net: open_model("zoo:resnet17"), ModelLoadError, "resnet17"),
        (lambda net: open_model(12), ModelLoadError, "a int is no model"),
        (lambda net: open_model(edgeprune.load_model("zoo:resnet20"), input_shape=SHAPE), UsageError, "loaded here"),
    ],
)
def test_a_model_that_is_none(net, call, kind, why):
    with pytest.raises(kind, match=why):
        call(net)


def test_data_of_every_kind_is_the_same_data(source, arrays, tmp_path):
    wanted = open_data(source.replace(":net", ":data"))
    np.savez(tmp_path / "data.npz", **{k: v.numpy() for k, v in arrays.items()})
    halves = [TensorDataset(arrays[f"x_{h}"], arrays[f"y_{h}"]) for h in ("train", "test")]
    for given in (
        arrays,
        {k: v.numpy() for k, v in arrays.items()},
        tuple(arrays[k] for k in ("x_train", "y_train", "x_test", "y_test")),
        tmp_path / "data.npz",
        str(tmp_path / "data.npz"),
        tuple(halves),
        tuple(DataLoader(half, batch_size=7) for half in halves),
        wanted,
    ):
        found = open_data(given)
        for half in ("train", "test"):
            assert all(map(torch.equal, getattr(found, half), getattr(wanted, half)))
    assert open_data(None) is None
    assert not open_data((arrays["x_train"], None, arrays["x_test"], arrays["y_test"])).labelled


def test_a_loader_that_shuffles_is_read_in_an_order_that_the_seed_decides(arrays):
    half = TensorDataset(arrays["x_train"], arrays["y_train"])
    pair = (DataLoader(half, batch_size=32, shuffle=True), half)
    before = torch.random.get_rng_state()
    first, second, other = (open_data(pair, seed).train[1] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state()), "the caller's random numbers are left alone"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (12, "a int is no data set"),
        ((), "a tuple is no data set"),
        ({"x_train": np.zeros((4, 3, 8, 8))}, "has no x_test, y_test"),
        (([1], [2]), "is a list, not a torch DataLoader or Dataset"),
        ((TensorDataset(*[torch.zeros(2, 3)] * 3),) * 2, "does not yield pairs"),
        ("no.npz", "no.npz"),
    ],
)
def test_data_that_is_none(data, why):
    with pytest.raises(ModelLoadError, match=why):
        open_data(data)


def test_limits_are_texts_or_numbers():
    assert Promise.parse("12ms", "2MB") == Promise.parse(12, 2_000_000) == Promise.parse(12.0, 2e6)
    assert Promise.parse(latency="50%").latency == Limit(0.5, relative=True)
    for wrong in (0, -1.0, float("nan"), float("inf"), "12"):
        with pytest.raises(UsageError, match="is not a latency limit"):
            Promise.parse(wrong)


def test_a_device_that_the_call_opened_is_closed_and_one_that_was_given_stays_open(
    source, few, board, closed, monkeypatch
):
    urls = closed(monkeypatch)
    edgeprune.profile(source, input_shape=SHAPE, device=board, **few)
    assert len(urls) == 1
    with pytest.raises(UsageError, match="no release is installed"):
        edgeprune.bench(board)
    assert len(urls) == 2, "by an error, too"
    device = edgeprune.open_device(board)
    edgeprune.profile(source, input_shape=SHAPE, device=device, **few)
    assert len(urls) == 2
    device.close()


def test_progress_is_silence_lines_or_an_object(source, few, board, capsys):
    class Own:
        def __init__(self):
            self.stages = []

        def stage(self, name, total=None):
            self.stages.append(name)

        def advance(self, n=1): ...

        def note(self, text): ...

    own = Own()
    edgeprune.profile(source, input_shape=SHAPE, device=board, progress=own, **few)
    assert "profiling kernels" in own.stages
    edgeprune.profile(source, input_shape=SHAPE, device=board, **few)
    assert capsys.readouterr().err == ""
    edgeprune.profile(source, input_shape=SHAPE, device=board, progress=True, **few)
    assert "profiling kernels" in capsys.readouterr().err
    with reporting(True) as lines:
        assert isinstance(lines, Lines)


def test_a_target_and_a_device_that_are_none(source, few):
    with pytest.raises(TargetError, match="abacus"):
        edgeprune.profile(source, input_shape=SHAPE, target="abacus", **few)
    with pytest.raises(UsageError, match="is not a device URL"):
        edgeprune.profile(source, input_shape=SHAPE, device="board", **few)
