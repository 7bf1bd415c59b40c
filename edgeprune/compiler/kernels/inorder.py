"""The register tile for cores that issue and complete in order: its instructions stand as they are written.

LLVM schedules for such a core (Cortex-A53) load by load between multiply-adds, and in its own model of the core every
one of those loads waits until the multiply-adds before it are almost done (llvm-mca: 0.5 to 0.67 of the peak). Here
one loop over the channel blocks is written in assembler: a tile of 2 output blocks by 8 columns takes all 32
registers, and four vectors come with one instruction, into registers whose last reader went before, so that what the
next channel block needs is there when its turn comes (0.83 of the peak). docs/KERNELS.md has the loops that were tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from edgeprune.compiler.kernels.emit import Expr, Registers, T
from edgeprune.targets import Target

BLOCKS, COLUMNS, LANES = 2, 8, 4
_CORES = ("cortex-a53",)
_WEIGHTS, _INPUTS = BLOCKS * COLUMNS, BLOCKS * COLUMNS + BLOCKS * LANES
"""First registers of the weights (a channel each, block by block) and of the inputs (a column each)."""
_FUNCTION = "ep_tile_in_order"


def completes_in_order(target: Target) -> bool:
    return target.arch == "aarch64" and target.llvm.mcpu in _CORES


def accumulate_blocks(
    acc: Sequence[Registers], inputs: tuple[Any, Expr, int], weights: tuple[Any, Sequence[Expr], int], blocks: int
) -> None:
    """``acc[block][column] += weight[block, channel] * value[column, channel]`` over ``blocks`` channel blocks.

    Args:
        inputs: buffer, index of the first column of the first channel block (columns lie together), and the elements
            from one channel block to the next.
        weights: buffer, index of each output block's vector for the first channel (channels lie together), and the
            elements from one channel block to the next.
    """
    (x, at, x_step), (weight, weight_at, weight_step) = inputs, weights
    starts = [T.address_of(weight[i]) for i in weight_at]
    starts += [T.address_of(x[at]), T.address_of(x[at + COLUMNS // 2 * LANES])]
    steps = [T.int64(4 * weight_step), T.int64(4 * x_step), T.int64(blocks - 1)]
    # The pragma belongs to no value; TVM links the module into the kernel's, and LLVM inlines the function.
    with T.attr(T.int32(0), "pragma_import_llvm", _module()):
        T.evaluate(T.call_extern("int32", _FUNCTION, *(a.address() for a in acc), *starts, *steps))


def _multiply_adds(block: int, columns: Sequence[int], lane: int) -> list[str]:
    weight = _WEIGHTS + block * LANES + lane
    return [f"fmla v{block * COLUMNS + c}.4s, v{weight}.4s, v{_INPUTS + c}.s[{lane}]" for c in columns]


def _load(first: int, pointer: str) -> list[str]:
    registers = ", ".join(f"v{first + i}.4s" for i in range(4))
    return [f"ld1 {{{registers}}}, [{pointer}]"]


def _body(*, load: bool) -> list[str]:
    """One channel block; with ``load`` the next one's operands as soon as their registers are free."""
    left, right = range(COLUMNS // 2), range(COLUMNS // 2, COLUMNS)
    lines: list[str] = []
    for lane in range(LANES - 1):
        for block in range(BLOCKS):
            lines += _multiply_adds(block, range(COLUMNS), lane)
    # Arithmetic between the two last loads costs least: no younger load waits for it, and it for no multiply-add.
    last = [*_load(_INPUTS + 4, "x12"), *_advance(9, 10, 11, 12), "subs x15, x15, #1", *_load(_WEIGHTS + LANES, "x10")]
    parts = (
        (_multiply_adds(0, range(COLUMNS), LANES - 1), _load(_WEIGHTS, "x9")),
        (_multiply_adds(1, left, LANES - 1), _load(_INPUTS, "x11")),
        (_multiply_adds(1, right, LANES - 1), last),
    )
    return lines + [line for compute, loads in parts for line in compute + (loads if load else [])]


def _advance(*pointers: int) -> list[str]:
    """To the next channel block: x9, x10 are of weights (step x13), x11, x12 of inputs (step x14)."""
    return [f"add x{p}, x{p}, x{13 if p < 11 else 14}" for p in pointers]


def _assembler() -> list[str]:
    """x15: channel blocks after the first. The last one has no loads behind it, which might be beside the buffer."""
    return [
        *(_load(_WEIGHTS, "x9") + _load(_INPUTS, "x11") + _load(_INPUTS + 4, "x12") + _load(_WEIGHTS + LANES, "x10")),
        *_advance(9, 11, 12),
        "cbz x15, 2f",
        "1:",
        *_body(load=True),
        "b.ne 1b",
        "2:",
        *_body(load=False),
    ]


@cache
def _module() -> str:
    """LLVM IR of a function that is inlined wherever it is called, and its accumulators then kept in registers."""
    tile = range(BLOCKS * COLUMNS)
    where = [f"%a{i // COLUMNS}, i64 {16 * (i % COLUMNS)}" for i in tile]
    # Values that come in these registers and go out in them, changed; the steps, in x13 and x14, only come in.
    registers = [f"{{v{i}}}" for i in tile] + [f"{{x{i}}}" for i in (9, 10, 11, 12, 15)]
    kinds = ["<4 x float>"] * len(tile) + ["ptr"] * 4 + ["i64"]
    result = "{ " + ", ".join(kinds) + " }"
    clobbered = [f"~{{v{i}}}" for i in range(len(tile), 32)] + ["~{cc}", "~{memory}"]
    outputs, inputs = ["=&" + r for r in registers], [str(i) for i in range(len(registers))]
    constraints = ",".join([*outputs, *inputs, "{x13}", "{x14}", *clobbered])
    values = [f"<4 x float> %v{i}" for i in tile] + ["ptr %w0", "ptr %w1", "ptr %x0", "ptr %x1"]
    values += ["i64 %n", "i64 %ws", "i64 %xs"]
    text = r"\0A".join(_assembler())
    return "\n".join(
        [
            f"define internal i32 @{_FUNCTION}(ptr %a0, ptr %a1, ptr %w0, ptr %w1, ptr %x0, ptr %x1, "
            "i64 %ws, i64 %xs, i64 %n) alwaysinline nounwind {",
            *(f"  %p{i} = getelementptr i8, ptr {at}" for i, at in enumerate(where)),
            *(f"  %v{i} = load <4 x float>, ptr %p{i}, align 16" for i in tile),
            f'  %r = call {result} asm sideeffect "{text}", "{constraints}"({", ".join(values)})',
            *(f"  %o{i} = extractvalue {result} %r, {i}" for i in tile),
            *(f"  store <4 x float> %o{i}, ptr %p{i}, align 16" for i in tile),
            "  ret i32 0",
            "}",
        ]
    )
