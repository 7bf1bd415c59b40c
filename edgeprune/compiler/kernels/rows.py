"""Sliding windows over one output row, with the edges specialised.

Convolution, depthwise convolution and pooling share this walk: an output row is cut into register
tiles; tiles whose taps all fall inside the image run in one loop, the few at the left and right
edge (and the narrower tail) are written out with their missing taps left away. So padding costs
neither a copy nor a test in the inner loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

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

    def row_inside(self, oh: Expr, kh: Expr) -> Expr | None:
        """Condition for the input row that tap ``kh`` of output row ``oh`` reads to exist, ``None`` where all do."""
        last = (self.output[0] - 1) * self.stride[0] + (self.kernel[0] - 1) * self.dilation[0] - self.padding[0]
        if self.padding[0] == 0 and last < self.image[0]:
            return None
        ih = self.row(oh, kh)
        return T.And(ih >= 0, ih < self.image[0])

    def rows_inside(self, oh: Expr) -> Expr:
        """How many rows of the window of output row ``oh`` exist (dilation 1)."""
        return T.min(self.row(oh, self.kernel[0] - 1) + 1, self.image[0]) - T.max(self.row(oh, 0), 0)

    def column(self, ow: Expr, kw: Expr) -> Expr:
        return ow * self.stride[1] + kw * self.dilation[1] - self.padding[1]

    def column_inside(self, ow: int, kw: int) -> bool:
        return bool(0 <= self.column(ow, kw) < self.image[1])

    def tile_inside(self, start: int, size: int) -> bool:
        first, last = self.column(start, 0), self.column(start + size - 1, self.kernel[1] - 1)
        return bool(first >= 0 and last < self.image[1])

    @property
    def single_pixel(self) -> bool:
        """Every result is made of the one pixel at its own place."""
        return self.kernel == (1, 1) and self.stride == (1, 1) and self.padding == (0, 0)


@dataclass(frozen=True, slots=True)
class Volume(Window):
    """A window over slices too. Their rows lie one behind the other, as those of one tall image; so do its taps.

    Kernels that walk through a window's rows then walk through a volume's: a row number stands for slice and row.
    ``stride``, ``padding`` and ``dilation`` are those inside of a slice.

    Attributes:
        across: the axis of slices, as the rows of a window.
        within: the window inside of one slice.
    """

    across: Window = field(kw_only=True)
    within: Window = field(kw_only=True)

    @classmethod
    def of(cls, across: Window, within: Window) -> Volume:
        """The two windows as one."""
        image, output, kernel = (
            (a[0] * w[0], w[1])
            for a, w in zip(
                (across.image, across.output, across.kernel), (within.image, within.output, within.kernel), strict=True
            )
        )
        settings = within.stride, within.padding, within.dilation
        return cls(image, output, kernel, *settings, across=across, within=within)

    def row(self, oh: Expr, kh: Expr) -> Expr:
        od, oh, kd, kh = self._split(oh, kh)
        return self.across.row(od, kd) * self.within.image[0] + self.within.row(oh, kh)

    def row_inside(self, oh: Expr, kh: Expr) -> Expr | None:
        od, oh, kd, kh = self._split(oh, kh)
        found = [c for c in (self.across.row_inside(od, kd), self.within.row_inside(oh, kh)) if c is not None]
        return T.And(*found) if len(found) == 2 else found[0] if found else None

    def rows_inside(self, oh: Expr) -> Expr:
        od, oh, _, _ = self._split(oh, 0)
        return self.across.rows_inside(od) * self.within.rows_inside(oh)

    def _split(self, oh: Expr, kh: Expr) -> tuple[Expr, Expr, Expr, Expr]:
        """Slice and row of a result, slice and row of a tap."""
        rows, taps = self.within.output[0], self.within.kernel[0]
        return oh // rows, oh % rows, kh // taps, kh % taps

    @property
    def single_pixel(self) -> bool:
        return self.within.single_pixel and self.across.single_pixel


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
