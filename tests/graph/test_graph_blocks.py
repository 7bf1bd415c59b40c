"""Blocks: found where there is a way around, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgeprune.graph.channels import Block
from edgeprune.graph.groups import analyse
from edgeprune.graph.trace import trace


def conv(c_in: int, c_out: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2)


class Residual(nn.Module):
    def __init__(self, *, pre: bool = False) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.norm = nn.BatchNorm2d(8) if pre else nn.Identity()
        self.a, self.b, self.c = conv(8, 4, 1), conv(4, 6), conv(6, 8, 1)
        self.head = conv(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.c(torch.relu(self.b(torch.relu(self.a(self.norm(x)))))))


class Branches(nn.Module):
    """A concatenation of three branches, the last one pooled first."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.one, self.two, self.wide, self.three = conv(8, 4, 1), conv(8, 4, 1), conv(4, 12), conv(8, 4, 1)
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.head = conv(20, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(torch.cat([self.one(x), self.wide(self.two(x)), self.three(self.pool(x))], 1))


class Sum(nn.Module):
    """Two branches added up, and no way around both."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = conv(3, 4), conv(3, 6), conv(4, 8), conv(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.a(x))) + self.d(torch.relu(self.b(x)))


class Gate(nn.Module):
    """A gate of a channel each, and one for each pixel that looks at the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.squeeze, self.excite = conv(3, 8), conv(8, 2, 1), conv(2, 8, 1)
        self.pixels, self.head = conv(8, 1), conv(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x * torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head(x * torch.sigmoid(self.pixels(x)))


class TwoHeads(nn.Module):
    """The second output needs the branch, so the branch is no block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.head, self.second = conv(3, 8), conv(8, 4), conv(4, 8), conv(8, 2), conv(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        inner = torch.relu(self.a(x))
        return self.head(x + self.b(inner)), self.second(inner)


def blocks(module: nn.Module) -> dict[tuple[str, ...], Block]:
    found = analyse(trace(module.eval(), (torch.randn(1, 3, 8, 8),))).graph.blocks
    assert len({b.name for b in found}) == len(found)
    return {b.groups: b for b in found}


def test_the_inside_of_a_residual_branch() -> None:
    (block,) = blocks(Residual()).values()
    assert block.groups == ("a", "b")
    assert {"conv2d_1", "relu", "conv2d_2", "relu_1", "conv2d_3"} == block.idle


def test_what_only_the_branch_needs_is_idle_too() -> None:
    (block,) = blocks(Residual(pre=True)).values()
    assert "batch_norm" in block.idle


def test_branches_of_a_concatenation_but_for_the_largest() -> None:
    found = blocks(Branches())
    assert set(found) == {("one",), ("three",)}
    assert "max_pool2d" in found["three",].idle


def test_of_branches_that_are_added_up_one_stays() -> None:
    assert len(blocks(Sum())) == 1


def test_gates() -> None:
    found = blocks(Gate())
    assert set(found) == {("squeeze",)}, "a mask of pixels without channels has no place beside an image"
    assert "mean" in found["squeeze",].idle


@pytest.mark.parametrize("module", [nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 4), conv(4, 2)), TwoHeads()])
def test_without_a_way_around_there_is_none(module: nn.Module) -> None:
    assert blocks(module) == {}


def test_a_long_chain_of_blocks_is_read_in_linear_time() -> None:
    """Counted in steps, not in seconds: the nodes of all blocks together are no more than the network has."""

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = conv(3, 4), conv(4, 2)
            self.inner = nn.ModuleList(conv(4, 4, 1) for _ in range(60))
            self.outer = nn.ModuleList(conv(4, 4, 1) for _ in range(60))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for a, b in zip(self.inner, self.outer, strict=True):
                x = x + b(torch.relu(a(x)))
            return self.head(x)

    found = blocks(Chain())
    assert len(found) == 60
    assert all(len(b.idle) == 3 for b in found.values())
