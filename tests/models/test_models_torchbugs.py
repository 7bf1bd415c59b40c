"""Strided 1x1 convolutions of narrow images: the same values and gradients, by another way."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from edgeprune.models.torchbugs import SafeConvolutions


class Recorder(TorchDispatchMode):
    """(kernel, stride, input channels) of every convolution that reaches a backend."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[tuple[int, ...], tuple[int, ...], int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.seen.append((tuple(args[1].shape[2:]), tuple(args[3]), args[1].shape[1]))
        return func(*args, **(kwargs or {}))


def results(conv: Any, x: Tensor, weight: Tensor) -> list[Tensor]:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = conv(x, weight)
    return [
        y.detach(),
        *torch.autograd.grad((y * torch.arange(y.numel()).view_as(y).to(y.dtype).cos()).sum(), (x, weight)),
    ]


CALLS = {
    "positional": lambda x, w: F.conv2d(x, w, None, 2),
    "keywords": lambda x, w: F.conv2d(input=x, weight=w, stride=(2, 3), padding="valid"),
    "one-element tuples": lambda x, w: torch.conv2d(x, w, stride=(2,), padding=(0,)),
    "exported": lambda x, w: torch.ops.aten.conv2d.default(x, w, None, [2, 2]),
}


@pytest.mark.parametrize("name", CALLS)
def test_values_and_gradients_stay_and_the_stride_is_gone(name: str) -> None:
    conv = CALLS[name]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 7, 9, generator=generator, dtype=torch.float64)
    weight = torch.randn(10, 5, 1, 1, generator=generator, dtype=torch.float64)
    expected = results(conv, x, weight)
    with Recorder() as recorder, SafeConvolutions():
        actual = results(conv, x, weight)
    assert recorder.seen == [((1, 1), (1, 1), 5)]
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("shape", "weight", "stride", "padding"),
    [
        ((1, 16, 8, 8), (4, 16, 1, 1), (2, 2), (0, 0)),
        ((1, 5, 8, 8), (4, 5, 3, 3), (2, 2), (1, 1)),
        ((1, 5, 8, 8), (4, 5, 1, 1), (1, 1), (0, 0)),
        ((1, 5, 8, 8), (4, 5, 1, 1), (2, 2), (1, 1)),
    ],
)
def test_other_convolutions_are_left_alone(shape: Any, weight: Any, stride: Any, padding: Any) -> None:
    with Recorder() as recorder, SafeConvolutions():
        F.conv2d(torch.zeros(shape), torch.zeros(weight), stride=stride, padding=padding)
    assert recorder.seen == [(weight[2:], stride, shape[1])]


class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(5, 10, 1, stride=2)
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).mean((2, 3)))


def test_training_a_narrow_shortcut_survives() -> None:
    """Without the guard this ends in a segmentation fault on processors with AVX-512."""
    program = (
        "import torch\n"
        "from test_models_torchbugs import Shortcut\n"
        "from edgeprune.training.data import check\n"
        "from edgeprune.training.finetune import train\n"
        "x, y = torch.randn(64, 5, 56, 56), torch.arange(64) % 3\n"
        "data = check({'x_train': x, 'y_train': y, 'x_test': x, 'y_test': y}, 'noise')\n"
        "print(train(Shortcut(), data, epochs=3, batch_size=64).loss)\n"
    )
    path = os.pathsep.join([os.path.dirname(__file__), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
