"""Which networks go all the way: traced, grouped, pruned exactly, compiled, and right on this computer.

    python benchmarks/coverage.py [--json] [--only resnet18,…] [--timm N] [--seed 0]

The networks of tests/architectures, written the way strangers write them, and with ``--timm N`` the first N of
timm's that can be made (pip install timm; nothing is downloaded). Every prunable group is cut to a random 50 to
90 % of its width; the pruned network must give what the masked one gives, and the compiled one what torch gives.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bars import bar, told
from torch import Tensor, nn

import edgeprune
from edgeprune.compiler.compile import compile_network
from edgeprune.errors import EdgepruneError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.groups import analyse
from edgeprune.graph.network import Network, read_network
from edgeprune.graph.trace import trace
from edgeprune.pruning.mask import check_equal, mask
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink
from edgeprune.targets import load_target

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from architectures import ARCHITECTURES

EXACT, CLOSE, COVERED = 1e-5, 1e-4, 0.95
"""Bars: masked against shrunk and compiled against torch, relative to the largest output; convolution parameters."""

OF_TIMM = ((60, 55 / 60, None), (100, 85 / 100, 95 / 100))
"""Up to how many of timm's networks: the share that has to be compiled, and right, and the share that has to be pruned
exactly; the more, the odder. All of ours have to."""


@dataclass
class Row:
    """``None``: not reached; ``reason`` says why. Differences are relative to the largest output."""

    network: str
    convolutional: bool
    exported: bool = False
    groups: int = 0
    prunable_fraction_of_parameters: float | None = None
    masked_equals_shrunk: float | None = None
    compiled: bool = False
    compiled_equals_torch: float | None = None
    seconds: float = 0.0
    reason: str = ""
    evidence: str = "measured"

    @property
    def faults(self) -> list[str]:
        """What of the bars it misses."""
        found = []
        if not self.exported:
            found.append("not exported")
        elif not within(self.masked_equals_shrunk, EXACT):
            found.append("pruned differs")
        if self.convolutional and (self.prunable_fraction_of_parameters or 0) < COVERED:
            found.append("few prunable")
        if not self.compiled:
            found.append("not compiled")
        elif not within(self.compiled_equals_torch, CLOSE):
            found.append("compiled differs")
        return found


def within(difference: float | None, bar: float) -> bool:
    return difference is not None and difference <= bar


Entry = tuple[str, Callable[[], nn.Module], Callable[[], tuple[Tensor, ...]], bool]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", default="", help="names, comma separated")
    parser.add_argument("--timm", type=int, default=0, metavar="N", help="also N networks of timm")
    parser.add_argument("--seed", type=int, default=0, help="of the widths and channels that are kept")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # torch.export of recurrent layers
    wanted = set(filter(None, options.only.split(",")))
    entries: Iterator[Entry] = ((a.name, a.factory, a.inputs, a.convolutional) for a in ARCHITECTURES.values())
    rows = []
    for name, factory, inputs, convolutional in itertools.chain(entries, timm_networks(options.timm)):
        if not wanted or name in wanted or (options.timm and name.startswith("timm/")):
            rows.append(measured(name, factory, inputs, convolutional, options.seed))
            print(line(rows[-1]), file=sys.stderr if options.json else sys.stdout, flush=True)
    totals = {
        "networks": len(rows),
        "exported": sum(r.exported for r in rows),
        "masked_equals_shrunk": sum(within(r.masked_equals_shrunk, EXACT) for r in rows),
        "compiled": sum(r.compiled for r in rows),
        "compiled_equals_torch": sum(within(r.compiled_equals_torch, CLOSE) for r in rows),
        "meeting_all_bars": sum(not r.faults for r in rows),
    }
    if not options.json:
        print(", ".join(f"{v} {k}" for k, v in totals.items()))
    faults = {r.network: r.faults for r in rows if r.faults}
    body = {"rows": [asdict(r) for r in rows], **totals, "faults": faults}
    return told("edgeprune.coverage-benchmark/1", body, bars_of(rows), options.json)


def bars_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """All networks of this project meet every bar; of timm's, most are compiled and right."""
    ours = [r for r in rows if not r.network.startswith("timm/")]
    theirs = [r for r in rows if r.network.startswith("timm/")]
    bars = []
    if ours:
        right = sum(not r.faults for r in ours)
        bars.append(bar("networks that meet all bars", right, len(ours), right == len(ours)))
    if theirs:
        right = sum(within(r.compiled_equals_torch, CLOSE) for r in theirs)
        exact = sum(within(r.masked_equals_shrunk, EXACT) for r in theirs)
        _, compiled_share, exact_share = next((o for o in OF_TIMM if len(theirs) <= o[0]), OF_TIMM[-1])
        limit = round(compiled_share * len(theirs))
        bars.append(bar("networks of timm that are compiled and right", right, limit, right >= limit))
        if exact_share is not None:
            limit = round(exact_share * len(theirs))
            bars.append(
                bar("networks of timm whose pruned network equals the masked one", exact, limit, exact >= limit)
            )
    return bars


SMALL = ("test_", "atto", "femto", "pico", "nano", "tiny", "mini", "small", "_xs", "xxs", "18", "_b0", "b0_", "_050")
"""What timm's names of small networks have in them."""


def timm_networks(count: int) -> Iterator[Entry]:
    """Small networks of timm, one of a family before a second one, random weights, at the size each is meant for."""
    if not count:
        return
    try:
        import timm
    except ImportError:
        sys.exit("timm is not installed: pip install timm")
    families: dict[str, list[str]] = {}
    for name in timm.list_models():
        if any(part in name for part in SMALL):
            families.setdefault(re.split(r"[\d]", name.removeprefix("test_"))[0].rstrip("_"), []).append(name)
    turns = itertools.zip_longest(*families.values())
    for name in itertools.islice((n for turn in turns for n in turn if n), count):
        size = timm.create_model(name).default_cfg["input_size"]

        def factory(name: str = name) -> nn.Module:
            torch.manual_seed(0)
            return timm.create_model(name).eval()  # type: ignore[no-any-return]

        yield f"timm/{name}", factory, lambda size=size: (torch.randn(1, *size),), False  # type: ignore[misc]


def measured(
    name: str,
    factory: Callable[[], nn.Module],
    inputs: Callable[[], tuple[Tensor, ...]],
    convolutional: bool,
    seed: int,
) -> Row:
    """One network as far as it goes; what stops it is in ``reason``."""
    row, start = Row(name, convolutional), time.perf_counter()
    with contextlib.ExitStack() as stack:
        try:
            module, x = factory().eval(), inputs()
            channels = analyse(trace(module, x)).graph
            row.exported, row.groups = True, len(channels.prunable)
            row.prunable_fraction_of_parameters = prunable_fraction(module, channels)
            small, row.masked_equals_shrunk = pruned(module, channels, x, seed)
            network = read_network(small, x)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            row.compiled_equals_torch = compiled(network, x, folder)
            row.compiled = True
        except EdgepruneError as error:
            row.reason = str(error).splitlines()[0]
        except Exception as error:  # a defect, to be seen in the table and not to end it
            row.reason = f"{type(error).__name__}: {error}".splitlines()[0]
    row.seconds = time.perf_counter() - start
    return row


def prunable_fraction(module: nn.Module, channels: ChannelGraph) -> float:
    """Share of the convolution parameters that lie in a layer which can lose inputs or outputs."""
    touched = {m.param for g in channels.prunable for m in g.members}
    layers = {n: m for n, m in module.named_modules() if isinstance(m, nn.modules.conv._ConvNd)}
    sizes = {n: sum(p.numel() for p in m.parameters()) for n, m in layers.items()}
    return sum(s for n, s in sizes.items() if f"{n}.weight" in touched) / max(sum(sizes.values()), 1)


def pruned(module: nn.Module, channels: ChannelGraph, x: Sequence[Tensor], seed: int) -> tuple[nn.Module, float]:
    """The shrunk network, and how far it is from the masked one."""
    random = np.random.default_rng(seed)
    widths = {g.name: max(1, round(g.size * random.uniform(0.5, 0.9))) for g in channels.prunable}
    plan = make_plan(channels, widths, {g.name: random.random(g.size) for g in channels.prunable})
    small = shrink(module, channels, plan)
    found = check_equal(mask(module, channels, plan), small, tuple(x), graph=channels, plan=plan)
    return small, found.max_abs_diff / found.scale if found.scale else 0.0


def compiled(network: Network, x: Sequence[Tensor], folder: Path) -> float:
    """How far the bundle is from torch, over the largest output."""
    compile_network(network, load_target("host"), folder / "bundle")
    with edgeprune.load_bundle(folder / "bundle") as model:
        actual = model(*(t.numpy() for t in x))
    with torch.no_grad():
        result = network.module(*(t.clone() for t in x))
    expected = [t.double().numpy() for t in torch.utils._pytree.tree_leaves(result) if isinstance(t, Tensor)]
    return max(float(np.abs(a - e).max() / max(np.abs(e).max(), 1e-6)) for a, e in zip(actual, expected, strict=True))


def number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def line(row: Row) -> str:
    return (
        f"{row.network:22}{row.groups:5} groups {number(row.prunable_fraction_of_parameters, '6.1%')} prunable  "
        f"masked-shrunk {number(row.masked_equals_shrunk, '.1e'):>8}  compiled-torch "
        f"{number(row.compiled_equals_torch, '.1e'):>8} {row.seconds:6.1f} s  "
        f"{', '.join(row.faults)} {row.reason[:150]}"
    )


if __name__ == "__main__":
    sys.exit(main())
