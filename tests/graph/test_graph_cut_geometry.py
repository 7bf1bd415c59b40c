"""Volumes, places of maxima, sampling and indexing: which kernels they are cut into, and that these are right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import edgeprune
from edgeprune.compiler.compile import compile_network
from edgeprune.errors import UnsupportedOperatorError
from edgeprune.graph.channels import KernelGraph
from edgeprune.graph.cutting.cut import cut
from edgeprune.graph.groups import analyse
from edgeprune.graph.network import read_network
from edgeprune.graph.trace import trace

IMAGE, CLIP = torch.randn(1, 3, 8, 8), torch.randn(1, 3, 4, 8, 6)


class Net(nn.Module):
    def __init__(self, forward: Callable[..., object], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.function = forward

    def forward(self, x: Tensor) -> object:
        return self.function(self, x)


def conv(c_in: int = 3, c_out: int = 5) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, padding=1)


def conv3d(c_in: int = 3, c_out: int = 5, kernel: int = 3) -> nn.Conv3d:
    return nn.Conv3d(c_in, c_out, kernel, padding=kernel // 2)


def kernels(module: nn.Module, x: Tensor) -> KernelGraph:
    program = trace(module.eval(), (x,))
    return cut(program, analyse(program))


def shown(graph: KernelGraph) -> list[str]:
    return ["+".join([n.spec.op, *(e for e in n.spec.epilogue if e != "bias")]) for n in graph.nodes]


def test_volumes_fuse_as_images_do() -> None:
    norm = nn.BatchNorm3d(5)
    net = Net(
        lambda s, x: F.relu((y := F.max_pool3d(F.relu(s.n(s.a(x))), 2)) + s.b(y)), a=conv3d(), n=norm, b=conv3d(5)
    )
    graph = kernels(net, CLIP)
    assert shown(graph) == ["conv3d+relu", "max_pool3d", "conv3d+add+relu", "layout"]
    first, pool, second, _ = graph.nodes
    assert first.weights.norm is not None
    assert first.spec.inputs[0].layout == "plain", "the first convolution reads the caller's volume in place"
    assert (first.spec.inputs[0].shape, first.spec.attr("slices")) == ((1, 3, 4 * 8, 6), (4, 4))
    assert (pool.spec.output.shape, pool.spec.attr("slices")) == ((1, 5, 2 * 4, 3), (4, 2))
    assert second.axes["in"].groups == second.axes["out"].groups == pool.axes["out"].groups == ("a",)
    assert first.spec.macs == 5 * 4 * 8 * 6 * 3 * 27


def test_a_convolution_of_single_pixels_is_one_of_an_image() -> None:
    graph = kernels(Net(lambda s, x: s.b(s.a(x)), a=conv3d(), b=conv3d(5, 4, 1)), CLIP)
    assert shown(graph) == ["conv3d", "conv2d", "layout"]


def test_what_is_done_to_pixels_needs_no_other_layout() -> None:
    def forward(s: nn.Module, x: Tensor) -> Tensor:
        y = s.a(x)
        y = torch.cat([torch.sigmoid(y), y * y.mean((2, 3, 4), keepdim=True)], 1)
        y = F.adaptive_avg_pool3d(F.dropout(y, 0.2, s.training), (1, None, None)).squeeze(2)
        return s.fc(F.max_pool2d(y, 2).flatten(1))  # type: ignore[no-any-return]

    graph = kernels(Net(forward, a=conv3d(), fc=nn.Linear(10 * 12, 3)), CLIP)
    ops = ["conv3d", "elementwise+sigmoid", "global_avg_pool", "elementwise+mul", "concat", "avg_pool3d"]
    assert shown(graph) == [*ops, "max_pool2d", "dense"]


def test_maxima_put_back_where_they_stood() -> None:
    def forward(s: nn.Module, x: Tensor) -> Tensor:
        y, places = F.max_pool2d(F.relu(s.a(x)), 2, return_indices=True)
        return s.c(F.relu(F.max_unpool2d(s.b(y), places, 2)))  # type: ignore[no-any-return]

    graph = kernels(Net(forward, a=conv(), b=conv(5, 5), c=conv(5, 2)), IMAGE)
    assert sorted(shown(graph)[:3]) == ["conv2d+relu", "max_places2d", "max_pool2d"]
    assert shown(graph)[3:] == ["conv2d", "max_unpool2d+relu", "conv2d", "layout"]
    assert {n.axes["out"].groups for n in graph.nodes[:5]} == {("a",)}, "every kernel's width is that of the channels"


@pytest.mark.parametrize("pool", [lambda x: F.max_pool2d(x, 2, return_indices=True)[0], nn.AdaptiveMaxPool2d(2)])
def test_places_that_nobody_asks_for_cost_nothing(pool: Callable[[Tensor], Tensor]) -> None:
    graph = kernels(Net(lambda s, x: s.b(pool(s.a(x))), a=conv(), b=conv(5)), IMAGE)
    assert shown(graph) == ["conv2d", "max_pool2d", "conv2d", "layout"]
    assert graph.nodes[1].axes["out"].groups == ("a",)


def test_an_affine_grid_is_sampled_without_a_copy() -> None:
    def forward(s: nn.Module, x: Tensor) -> Tensor:
        theta = s.fc(x.mean((2, 3))).view(-1, 2, 3)
        return F.grid_sample(
            s.a(x), F.affine_grid(theta, [1, 3, 6, 9], align_corners=False), mode="nearest", align_corners=False
        ).relu()

    graph = kernels(Net(forward, a=conv(), fc=nn.Linear(3, 6)), IMAGE)
    assert sorted(shown(graph)) == sorted(
        ["layout", "global_avg_pool", "dense", "conv2d", "matmul", "grid_sample+relu", "layout"]
    )
    (sample,) = [n for n in graph.nodes if n.spec.op == "grid_sample"]
    assert sample.axes["out"].groups == ("a",)
    assert sample.spec.with_widths(out=2).inputs[1] == sample.spec.inputs[1]


def test_widths_of_entries_that_are_taken() -> None:
    x, order = torch.randn(1, 6, 8), torch.tensor([5, 0, 2])
    rows = next(n for n in kernels(Net(lambda s, x: x[:, :, order].relu()), x).nodes if n.spec.op == "take")
    assert [t.shape for t in rows.spec.with_widths(out=4).inputs] == [(1, 4, 8), (3,)]
    tokens = next(n for n in kernels(Net(lambda s, x: x[:, order].relu()), x).nodes if n.spec.op == "take")
    assert [t.shape for t in tokens.spec.with_widths(out=2).inputs] == [(1, 6, 8), (2,)]
    assert tokens.spec.family != rows.spec.family == rows.spec.with_widths(out=9).family


ORDER, TABLE = torch.tensor([2, -1, 0, 2]), torch.tensor([[0, 3], [5, 1]])
CORRECT: dict[str, tuple[Tensor, Callable[..., Tensor]]] = {
    "slices of another order": (CLIP, lambda s, x: s.v(x.transpose(2, 3))),
    "slices of the network's own": (CLIP, lambda s, x: s.v(s.v(x).transpose(2, 4)[:, :3])),
    "an image as a volume of one slice": (IMAGE, lambda s, x: s.v(s.c(x)[:, :3].unsqueeze(2))),
    "sums that broadcast in both operands": (CLIP, lambda s, x: (y := s.v(x)).amax(2, True) + y.amax(3, True)),
    "a gate a channel": (CLIP, lambda s, x: (y := s.v(x)) * y.sum((2, 3, 4), keepdim=True)),
    "a value a slice": (CLIP, lambda s, x: (y := s.v(x)) + y.mean((3, 4), keepdim=True)),
    "averages of what is there": (CLIP, lambda s, x: F.avg_pool3d(s.v(x), 3, 2, 1, count_include_pad=False)),
    "places behind overlapping windows": (
        IMAGE,
        lambda s, x: F.max_unpool2d(*F.max_pool2d(s.c(x), 3, 2, 1, return_indices=True), 3, 2, 1, (8, 8)),  # type: ignore[misc]
    ),
    "a grid the network computes": (
        IMAGE,
        lambda s, x: F.grid_sample(s.c(x), s.c(x)[:, :2].tanh().permute(0, 2, 3, 1), align_corners=True),
    ),
    "entries in order": (
        IMAGE,
        lambda s, x: s.c(x)[:, :, ORDER].index_select(3, ORDER.abs()) - s.c(x)[:, ORDER, :4, :4].mean(1, keepdim=True),
    ),
    "entries by a table": (IMAGE, lambda s, x: s.c(x)[:, :, TABLE].sum(3)),
    "the sign of zero": (IMAGE, lambda s, x: torch.sign(F.relu(s.c(x)))),
}


@pytest.mark.parametrize("name", CORRECT)
def test_gives_what_torch_gives(name: str, tmp_path: Path) -> None:
    x, forward = CORRECT[name]
    module = Net(forward, c=conv(3, 5), v=conv3d()).eval()
    compile_network(read_network(module, (x,)), edgeprune.load_target("host"), tmp_path / "bundle")
    with edgeprune.load_bundle(tmp_path / "bundle") as model:
        (actual,) = model(x.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(actual, module(x).numpy(), rtol=1e-4, atol=1e-5)


def resized(s: nn.Module, x: Tensor) -> Tensor:
    y, places = F.max_pool2d(s.c(x), 2, return_indices=True)
    return F.max_unpool2d(y, places, 2, output_size=(9, 9))


REFUSED: dict[str, Callable[..., object]] = {
    "no kernel computes part 1": lambda s, x: F.max_pool2d(s.c(x), 2, return_indices=True),
    "unpooling to": resized,
    "reflection": lambda s, x: F.grid_sample(
        s.c(x), torch.zeros(1, 4, 4, 2), padding_mode="reflection", align_corners=False
    ),
    "bicubic": lambda s, x: F.grid_sample(s.c(x), torch.zeros(1, 4, 4, 2), mode="bicubic", align_corners=False),
    "several dimensions at once": lambda s, x: s.c(x)[:, :, ORDER, ORDER],
    "shape depends on the data": lambda s, x: s.c(x)[:, torch.tensor([True, False, True, True, False])],
}


@pytest.mark.parametrize("text", REFUSED)
def test_is_refused(text: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=text) as caught:
        kernels(Net(REFUSED[text], c=conv()), IMAGE)
    assert caught.value.hint
