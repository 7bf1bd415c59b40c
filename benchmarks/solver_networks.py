"""Pruning problems in the shapes of known networks, with costs from a model of a small processor.

No device and no weights: a kernel's latency is its multiplications in whole vectors, the bytes it moves and a call,
times a ripple that makes tables uneven as measured ones are; a group's scores fall off as those of trained networks
do. What a solver finds hard is in there: shared groups, concatenations, stairs, tables that are not monotone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.problem import Axis, Choice, Problem, Row, Table, Term

SHARED_TOTALS = 9
"""Grid points of an axis of several groups, as the profiler times them (latency/grids.py)."""
VECTOR, GMACS_PER_MS, BYTES_PER_MS, CALL_MS = 8, 0.02e9, 4e6, 0.01


class Network:
    """Collects groups and kernels; hands out the problem.

    Args:
        candidates: widths offered to each group at most.
        ripple: of the latencies, as a standard deviation of their logarithm.
    """

    def __init__(self, seed: int = 0, *, candidates: int = 32, ripple: float = 0.03) -> None:
        self._rng = np.random.default_rng(seed)
        self._candidates, self._ripple = candidates, ripple
        self._choices: list[Choice] = []
        self._terms: list[Term] = []
        self._rows: list[Row] = []
        self._live: dict[str, tuple[Axis, int]] = {}

    def group(self, size: int) -> int:
        step = -(-size // self._candidates)
        levels = (*range(step, size, step), size)
        scores = np.sort(0.3 + self._rng.random(size) + 0.2 * self._rng.pareto(3, size))[::-1] * size**0.5
        self._choices.append(Choice(f"g{len(self._choices)}", levels, np.cumsum(scores)[np.array(levels) - 1]))
        return len(self._choices) - 1

    def _grid(self, axis: Axis) -> NDArray[np.int64]:
        totals = {axis.base}
        for c in axis.choices:
            totals = {t + w for t in totals for w in self._choices[c].levels}
        every = np.array(sorted(totals), dtype=np.int64)
        if len(set(axis.choices)) < 2 or len(every) <= SHARED_TOTALS:
            return every
        wanted = np.linspace(every[0], every[-1], SHARED_TOTALS)
        return np.unique(every[np.abs(every[None] - wanted[:, None]).argmin(axis=1)])

    def conv(
        self,
        name: str,
        reads: Sequence[int] | int,
        out: int | None,
        kernel: int,
        pixels: int,
        *,
        stays: Sequence[str] = (),
    ) -> None:
        """A convolution from groups (or constant channels) to a group, at so many output pixels.

        Args:
            out: None for a depthwise one.
            stays: tensors that live on during it, by :meth:`keep`.
        """
        axes = [Axis((), reads)] if isinstance(reads, int) else [Axis(tuple(reads))]
        if out is not None:
            axes.append(Axis((out,)))
        grids = [self._grid(a) for a in axes]
        full = np.meshgrid(*(g.astype(np.float64) for g in grids), indexing="ij")
        i, o = (full[0], full[1]) if out is not None else (np.ones_like(full[0]), full[0])
        macs: NDArray[np.float64] = i * (-(-o // VECTOR) * VECTOR) * float(kernel * pixels)
        moved = 4.0 * (i * pixels + o * pixels + i * o * kernel)
        ripple = np.exp(self._ripple * self._rng.standard_normal(macs.shape))
        latency = (CALL_MS + macs / GMACS_PER_MS + moved / BYTES_PER_MS) * ripple
        flash: NDArray[np.float64] = 200 + 4.0 * i * o * kernel
        open_axes = [n for n, a in enumerate(axes) if a.choices]
        closed = tuple(n for n, a in enumerate(axes) if not a.choices)
        self._terms.append(
            Term(
                name,
                tuple(axes[n] for n in open_axes),
                tuple(grids[n] for n in open_axes),
                latency.squeeze(axis=closed),
                flash.squeeze(axis=closed),
            )
        )
        live = [(a, 4 * pixels) for a in axes if a.choices] + [self._live[s] for s in stays]
        if out is None:
            live.append(live[0])
        self._rows.append(Row(name, 4096.0, tuple(self._bytes(a, each) for a, each in live)))

    def keep(self, name: str, groups: Sequence[int], pixels: int) -> str:
        """A tensor that stays alive over several kernels."""
        self._live[name] = (Axis(tuple(groups)), 4 * pixels)
        return name

    def _bytes(self, axis: Axis, each: int) -> Table:
        low = sum(self._choices[c].levels[0] for c in axis.choices)
        high = sum(self._choices[c].levels[-1] for c in axis.choices)
        grid = np.array(sorted({low, high}), dtype=np.int64)
        return Table((axis,), (grid,), grid.astype(np.float64) * each)

    def problem(self) -> Problem:
        total = sum(float(c.saliency[-1]) for c in self._choices)
        choices = tuple(Choice(c.name, c.levels, c.saliency / total) for c in self._choices)
        return Problem(choices, tuple(self._terms), 0.5, 50_000.0, (), tuple(self._rows))


def resnet(blocks: Sequence[int], *, bottleneck: bool, seed: int = 0, candidates: int = 32) -> Problem:
    net = Network(seed, candidates=candidates)
    x, pixels = net.group(64), 56 * 56
    net.conv("stem", 3, x, 49, 112 * 112)
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        stream = net.group(width * (4 if bottleneck else 1)) if bottleneck or stage else x
        for b in range(count):
            source, name = (x if b == 0 else stream), f"s{stage}.{b}"
            before = pixels
            if b == 0 and stage:
                pixels //= 4
            stays = [net.keep("in", [source], before)]
            a = net.group(width)
            if bottleneck:
                m = net.group(width)
                net.conv(f"{name}.1", [source], a, 1, before, stays=stays)
                net.conv(f"{name}.2", [a], m, 9, pixels, stays=stays)
                net.conv(f"{name}.3", [m], stream, 1, pixels, stays=stays)
            else:
                net.conv(f"{name}.1", [source], a, 9, pixels, stays=stays)
                net.conv(f"{name}.2", [a], stream, 9, pixels, stays=stays)
            if b == 0 and source != stream:
                net.conv(f"{name}.skip", [source], stream, 1, pixels)
        x = stream
    head = Axis((x,))
    grid = net._grid(head)
    widths = grid.astype(np.float64)
    net._terms.append(Term("head", (head,), (grid,), CALL_MS + widths * 1e-4, 4e3 * widths))
    return net.problem()


def mobilenet_v2(seed: int = 0, candidates: int = 32) -> Problem:
    net = Network(seed, candidates=candidates)
    x = net.group(32)
    net.conv("stem", 3, x, 9, 112 * 112)
    net.conv("dw0", [x], None, 9, 112 * 112)
    y = net.group(16)
    net.conv("p0", [x], y, 1, 112 * 112)
    pixels, x, have = 112 * 112, y, 16
    for t, c, n, s in ((6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):
        stream = net.group(c)
        for b in range(n):
            stays = [net.keep("in", [x], pixels)] if b else []
            e = net.group(have * t)
            net.conv(f"{c}.{b}.1", [x], e, 1, pixels, stays=stays)
            if b == 0 and s == 2:
                pixels //= 4
            net.conv(f"{c}.{b}.dw", [e], None, 9, pixels, stays=stays)
            net.conv(f"{c}.{b}.2", [e], stream, 1, pixels, stays=stays)
            x, have = stream, c
    last = net.group(1280)
    net.conv("last", [x], last, 1, 49)
    return net.problem()


def densenet(blocks: Sequence[int] = (6, 12, 24, 16), seed: int = 0, candidates: int = 32) -> Problem:
    net = Network(seed, candidates=candidates)
    x, pixels, total = net.group(64), 56 * 56, 64
    net.conv("stem", 3, x, 49, 112 * 112)
    for n, count in enumerate(blocks):
        made = [x]
        for layer in range(count):
            stays = [net.keep("all", made, pixels)]
            b, g = net.group(128), net.group(32)
            net.conv(f"d{n}.{layer}.norm", made, None, 1, pixels)
            net.conv(f"d{n}.{layer}.1", made, b, 1, pixels, stays=stays)
            net.conv(f"d{n}.{layer}.2", [b], g, 9, pixels, stays=stays)
            made.append(g)
            total += 32
        if n < len(blocks) - 1:
            x = net.group(total // 2)
            net.conv(f"t{n}", made, x, 1, pixels)
            pixels, total = pixels // 4, total // 2
    net.conv("norm", made, None, 1, pixels)
    return net.problem()


def yolo(seed: int = 0, candidates: int = 32) -> Problem:
    """A backbone of split blocks, and a neck that goes up and down with concatenations."""
    net = Network(seed, candidates=candidates)

    def split_block(name: str, reads: Sequence[int], width: int, pixels: int) -> int:
        a, b = net.group(width // 2), net.group(width // 2)
        net.conv(f"{name}.a", reads, a, 1, pixels)
        net.conv(f"{name}.b", reads, b, 1, pixels)
        m, c, out = net.group(width // 2), net.group(width // 2), net.group(width)
        net.conv(f"{name}.m1", [b], m, 9, pixels)
        net.conv(f"{name}.m2", [m], c, 9, pixels)
        net.conv(f"{name}.out", [a, b, c], out, 1, pixels)
        return out

    x = net.group(16)
    net.conv("stem", 3, x, 9, 160 * 160)
    pyramid, pixels = [], 160 * 160
    for n, width in enumerate((32, 64, 128, 256)):
        pixels //= 4
        d = net.group(width)
        net.conv(f"down{n}", [x], d, 9, pixels)
        x = split_block(f"c{n}", [d], width, pixels)
        pyramid.append((x, width, pixels))
    (p3, w3, n3), (p4, w4, n4), (p5, _, n5) = pyramid[1:]
    up4 = split_block("up4", [p5, p4], w4, n4)
    up3 = split_block("up3", [up4, p3], w3, n3)
    d3 = net.group(w3)
    net.conv("pan3", [up3], d3, 9, n4)
    out4 = split_block("out4", [d3, up4], w4, n4)
    d4 = net.group(w4)
    net.conv("pan4", [out4], d4, 9, n5)
    out5 = split_block("out5", [d4, p5], 256, n5)
    for name, group, pixels in (("head3", up3, n3), ("head4", out4, n4), ("head5", out5, n5)):
        h = net.group(64)
        net.conv(name, [group], h, 9, pixels)
    return net.problem()


def unet(seed: int = 0, candidates: int = 32) -> Problem:
    net = Network(seed, candidates=candidates)
    pixels = 128 * 128
    x = -1
    skips: list[tuple[int, int, int]] = []
    for n, width in enumerate((32, 64, 128, 256, 512)):
        a, b = net.group(width), net.group(width)
        net.conv(f"e{n}.1", [x] if n else 3, a, 9, pixels)
        net.conv(
            f"e{n}.2", [a], b, 9, pixels, stays=[net.keep(f"skip{k}", [g], p) for k, (g, _, p) in enumerate(skips)]
        )
        skips.append((b, width, pixels))
        x, pixels = b, pixels // 4
    for n, (skip, width, pixels) in enumerate(reversed(skips[:-1])):
        u, a, b = net.group(width), net.group(width), net.group(width)
        net.conv(f"u{n}.up", [x], u, 4, pixels)
        net.conv(f"u{n}.1", [u, skip], a, 9, pixels)
        net.conv(f"u{n}.2", [a], b, 9, pixels)
        x = b
    return net.problem()


NETWORKS: dict[str, Callable[[], Problem]] = {
    "resnet18": lambda: resnet((2, 2, 2, 2), bottleneck=False),
    "resnet50": lambda: resnet((3, 4, 6, 3), bottleneck=True),
    "resnet101": lambda: resnet((3, 4, 23, 3), bottleneck=True),
    "resnet152": lambda: resnet((3, 8, 36, 3), bottleneck=True),
    "mobilenet_v2": mobilenet_v2,
    "unet": unet,
    "yolo": yolo,
    "densenet121": densenet,
}
