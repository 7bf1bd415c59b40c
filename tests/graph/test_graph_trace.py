"""Tracing, and what cannot be traced (docs/FAULTS.md, 5): it is named, with what to do about it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from edgeprune.errors import ModelLoadError, UnsupportedOperatorError
from edgeprune.graph.nodes import module_path, source_line
from edgeprune.graph.trace import parameter_names, trace, user_inputs, user_outputs

X = torch.ones(1, 3, 4, 4)
HERE = "test_graph_trace.py"


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.tied, self.norm = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.tied.weight = self.conv.weight
        self.register_buffer("offset", torch.ones(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        z = self.conv(self.conv(x)) + y
        return {"a": self.norm(self.tied(z) - self.offset), "b": z}


def test_what_a_program_tells() -> None:
    module = Twice()
    program = trace(module, (X, X))
    calls = [n for n in program.graph.nodes if n.op == "call_function"]
    assert [str(n.target) for n in calls][:2] == ["aten.conv2d.default"] * 2
    assert [module_path(n) for n in calls[:2]] == ["conv", "conv"]
    assert module_path(calls[2]) == ""
    assert source_line(calls[0]).rpartition(":")[0].endswith(HERE)
    assert [n.name for n in user_inputs(program)] == ["x", "y"]
    assert [str(n.target) for n in user_outputs(program)] == ["aten.batch_norm.default", "aten.add.Tensor"]
    weights = {n.args[1].name for n in calls if "conv2d" in str(n.target)}
    assert {parameter_names(program)[w] for w in weights} == {"conv.weight"}
    assert set(parameter_names(program).values()) >= {"offset", "norm.running_mean", "tied.bias"}


def test_training_flags_come_back_also_after_a_failure() -> None:
    module = Twice()
    module.norm.eval()
    for inputs in ((X, X), (X, torch.ones(1, 2, 4, 4))):
        with contextlib.suppress(ModelLoadError):
            trace(module, inputs)
        assert module.training
        assert module.conv.training
        assert not module.norm.training


def test_wrong_example_input() -> None:
    with pytest.raises(ModelLoadError, match=r"\[1, 5, 4, 4\].*module 'conv'") as caught:
        trace(Twice(), (torch.ones(1, 5, 4, 4), X))
    assert caught.value.details["module"] == "conv"
    assert HERE in caught.value.details["source"]
    assert caught.value.hint


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class DynamicShape(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0].nonzero()


@pytest.mark.parametrize("inner", [Branch, DynamicShape])
def test_data_dependent_networks_are_refused_by_name(inner: type[nn.Module]) -> None:
    with pytest.raises(UnsupportedOperatorError) as caught:
        trace(nn.Sequential(nn.ReLU(), inner()), (X,))
    error = caught.value
    assert HERE in error.details["source"]
    assert "module '1'" in error.message
    assert error.hint
    assert error.exit_code == 3


def test_one_tensor_given_twice_is_two_inputs() -> None:
    program = trace(Twice(), (X, X))
    assert all(n.users for n in user_inputs(program))


@dataclass
class Scores:
    boxes: Tensor


class Returns(nn.Module):
    def forward(self, x: Tensor) -> Scores:
        return Scores(x + 1)


def test_an_output_of_another_type_is_named() -> None:
    with pytest.raises(UnsupportedOperatorError, match="Returns cannot be captured: it returns a Scores") as caught:
        trace(Returns(), (X,))
    assert "tuples" in caught.value.hint


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_module_is_named() -> None:
    scripted = nn.Sequential(nn.Conv2d(3, 3, 1), torch.jit.script(nn.Conv2d(3, 3, 1)))
    with pytest.raises(UnsupportedOperatorError, match="module '1' is a ScriptModule") as caught:
        trace(scripted, (X,))
    assert "scripted or traced from" in caught.value.hint
