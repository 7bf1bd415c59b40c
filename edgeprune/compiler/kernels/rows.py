"""Sliding windows over one output row, with the edges specialised.

Convolution, depthwise convolution and pooling share this walk: an output row is cut into register
tiles; tiles whose taps all fall inside the image run in one loop, the few at the left and right
edge (and the narrower tail) are written out with their missing taps left away. So padding costs
neither a copy nor a test in the inner loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeprune.compiler.kernels.emit import Expr, T, tiles


@dataclass(frozen=True, slots=True)
class Window:
    """Geometry of a 2-D sliding window: sizes as (height, width)."""

    image: tuple[int, int]
    output: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)

    def row(self, oh: Expr, kh: Expr) -> Expr:
        """Input row that tap ``kh`` of output row ``oh`` reads (may lie outside)."""
        return oh * self.stride[0] + kh * self.dilation[0] - self.padding[0]

    def row_inside(self, ih: Expr) -> Expr | None:
        """Condition for an input row to exist, ``None`` where it always does."""
        last = (self.output[0] - 1) * self.stride[0] + (self.kernel[0] - 1) * self.dilation[0] - self.padding[0]
        if self.padding[0] == 0 and last < self.image[0]:
            return None
        return T.And(ih >= 0, ih < self.image[0])

    def column(self, ow: Expr, kw: Expr) -> Expr:
        return ow * self.stride[1] + kw * self.dilation[1] - self.padding[1]

    def column_inside(self, ow: int, kw: int) -> bool:
        return bool(0 <= self.column(ow, kw) < self.image[1])

    def tile_inside(self, start: int, size: int) -> bool:
        first, last = self.column(start, 0), self.column(start + size - 1, self.kernel[1] - 1)
        return bool(first >= 0 and last < self.image[1])


TileBody = Callable[[Expr, int, Callable[[int, int], bool]], None]
"""(first output column, tile size, is tap kw of column t inside?) -> writes the tile."""


def walk_row(window: Window, width: int, body: TileBody) -> None:
    """Write all tiles of one output row, ``width`` columns each."""
    cut = tiles(window.output[1], width)
    inside = [size == width and window.tile_inside(start, size) for start, size in cut]
    i = 0
    while i < len(cut):
        run = i
        while run < len(cut) and inside[run]:
            run += 1
        if run - i >= 2:
            first = cut[i][0]
            with T.serial(0, run - i) as tile:
                body(first + tile * width, width, lambda t, kw: True)
            i = run
            continue
        start, size = cut[i]
        body(start, size, lambda t, kw, s=start: window.column_inside(s + t, kw))  # type: ignore[misc]
        i += 1
