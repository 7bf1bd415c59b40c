"""What nodes yield while a network is cut: data on the board, and how a node sees them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch.fx import Node

from edgeprune.graph.channels import WeightRef
from edgeprune.graph.spec import Attr, TensorSpec
from edgeprune.graph.walks import View, kept_shape


@dataclass(eq=False)
class Draft:
    """A kernel being put together; handlers read it, and change it through the cutter alone.

    Attributes:
        node: the fx node whose value it yields so far.
        anchor: the fx node that it was begun for: it names the kernel and knows how the channels are made up.
        operands: what the steps of the epilogue read, in their order.
        closed: no step may follow.
        features: the width axes are the last dimensions, not dimension 1.
        axes: width axes by the weight that has them: its name, which of its dimensions, and how many times that.
            Inside of a layer, no node of the network knows how values are made up.
    """

    op: str
    node: Node
    anchor: Node
    spec: TensorSpec
    sources: list[Data]
    operands: list[Data] = field(default_factory=list)
    attrs: dict[str, Attr] = field(default_factory=dict)
    epilogue: list[str] = field(default_factory=list)
    weights: WeightRef = field(default_factory=WeightRef)
    order: int = 0
    closed: bool = False
    features: bool = False
    axes: Mapping[str, tuple[str, int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Data:
    """A tensor on the board, in the dimensions in which its reader speaks of it.

    Attributes:
        source: what computes it; the node itself, if it is a network input or a constant.
        axis: the fx node that knows how the channels are made up.
    """

    source: Draft | Node
    spec: TensorSpec
    axis: Node

    @property
    def draft(self) -> Draft | None:
        return self.source if isinstance(self.source, Draft) else None

    @property
    def tensor(self) -> str:
        """Its name."""
        return (self.source.node if isinstance(self.source, Draft) else self.source).name


@dataclass(frozen=True)
class Value:
    """What an fx node yields: data, seen through a view.

    Attributes:
        view: finds the values of ``node`` in the row-major order of the data, also where the board keeps blocks.
    """

    node: Node
    data: Data
    view: View

    @classmethod
    def stored(cls, node: Node, data: Data) -> Value:
        """Data as they are."""
        return cls(node, data, View.identity(data.spec.shape))

    @property
    def draft(self) -> Draft | None:
        return self.data.draft

    @property
    def tensor(self) -> str:
        return self.data.tensor

    @property
    def layout(self) -> str:
        return self.data.spec.layout

    @property
    def shape(self) -> tuple[int, ...]:
        """As ``node`` sees it."""
        return self.view.shape

    @property
    def unviewed(self) -> bool:
        """Whether the data are seen as they are."""
        return self.view == View.identity(self.data.spec.shape)

    @property
    def in_order(self) -> bool:
        """Whether all data are seen one after the other, in dimensions of whatever sizes."""
        return self.view in (View.identity(self.shape), View.whole(self.shape))

    @property
    def constant(self) -> bool:
        """Whether it is kept in the order in which it is seen, and computed by nothing."""
        return self.draft is None and self.view.contiguous

    @property
    def first_channel(self) -> int | None:
        """Where the view begins if it shows some channels of an image, one after the other; else None."""
        if len(self.data.spec.shape) != 4 or len(self.shape) != 4:
            return None
        n, channels, height, width = self.data.spec.shape
        count, steps = self.shape[1], self.view.steps
        start, rest = divmod(self.view.offset, height * width)
        expected = (channels * height * width, height * width, width, 1)
        same = all(a == b or size == 1 for a, b, size in zip(steps, expected, self.shape, strict=True))
        return start if self.shape == (n, count, height, width) and same and not rest else None

    @property
    def flat(self) -> bool:
        """An image seen as one row a sample."""
        n, *rest = self.data.spec.shape
        return len(rest) == 3 and self.view == View.identity((n, math.prod(rest)))

    @property
    def image(self) -> Value:
        """A line or a volume whose data is kept as an image, as that image; anything else as it is."""
        kept = self.layout == "blocked" and self.in_order and as_picture(self.shape) == self.data.spec.shape
        return Value.stored(self.node, self.data) if kept else self

    @property
    def walked(self) -> Data:
        """The data, in the dimensions that the walk of the view speaks of."""
        return replace(self.data, spec=TensorSpec(self.view.base, "plain"))

    def at(self, node: Node) -> Value:
        """The same, as what ``node`` yields."""
        return replace(self, node=node)

    def seen(self, view: View | None) -> Value:
        """The same data, seen through ``view``."""
        assert view is not None  # only dimensions of size 1 have come or gone
        return replace(self, view=view)

    def reshaped(self, shape: Sequence[int]) -> Value:
        """With dimensions of size 1 that have come or gone."""
        return self.seen(self.view.reshaped(shape))

    def permuted(self, order: Sequence[int]) -> Value:
        return self.seen(self.view.permuted(order))

    def sliced(self, dim: int, start: int, count: int, step: int = 1) -> Value:
        return self.seen(self.view.sliced(dim, start, count, step))

    def expanded(self, shape: Sequence[int]) -> Value:
        return self.seen(self.view.expanded(shape))

    def as_plain(self, shape: Sequence[int]) -> Value:
        """What is seen in order, as row-major data of ``shape``."""
        shape = tuple(shape)
        data = replace(self.data, spec=TensorSpec(kept_shape(shape), "plain"))
        return Value(self.node, data, View.whole(shape))


def walks(values: Iterable[Value]) -> dict[str, Attr]:
    """The attributes of a kernel that reads each of ``values`` as it is seen."""
    return {f"walk{i}": value.view.walk.to_attr() for i, value in enumerate(values)}


def as_picture(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The image that a tensor is computed as: (N, C, H, W) itself, one row of (N, C, L), one pixel of (N, C), of
    (N, C, D, H, W) the rows of all slices one behind the other."""
    if len(shape) == 5:
        return (*shape[:2], shape[2] * shape[3], shape[4])
    return (*shape[:2], 1, *shape[2:], 1)[:4] if len(shape) in (2, 3) else shape


def are_images(values: Sequence[Value]) -> bool:
    """Whether they are best seen as images: blocked already, constants, or network inputs, whose layout only their
    readers decide."""
    return all(
        len(v.shape) == 4
        and ((v.first_channel is not None and (v.layout == "blocked" or v.draft is None)) or v.constant)
        for v in values
    )
