"""Pruning problems from real profiles: measured kernels, rows of RAM as programs are laid out, 32 widths a group.

The kernels of :mod:`profiled_networks` are timed by edgeprune's profiler at a few widths of each axis, with one
schedule and few repeats; between these the tables are interpolated, as for plans of finer widths everywhere. That is
enough to solve problems like real ones, and too little to prune by, so these profiles are not among those that are
shipped. Saliency is drawn, for a network with random weights has none: log-normal scores from a fixed seed, scaled by a
log-normal factor for each group, which fall off within a group and differ between groups as those of trained networks.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from profiled_networks import PROFILED

from edgeprune.budget import Problem, save_problem
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.devices.registry import open_device
from edgeprune.errors import BadInputError
from edgeprune.fitting.planned_ram import PlannedRam
from edgeprune.graph.channels import ChannelGraph, KernelNode
from edgeprune.graph.network import Network, read_network
from edgeprune.importance.curves import Curves, Saliency
from edgeprune.latency.grids import levels_for, split
from edgeprune.latency.jsonl import ProfileFile, read_jsonl, write_jsonl
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.problem import bindings_of, build_problem, kernels_to_measure, usable_levels
from edgeprune.latency.records import KernelRecord
from edgeprune.latency.store import ProfileStore
from edgeprune.profiling.fingerprint import weight_span
from edgeprune.profiling.measure import TimingOptions
from edgeprune.profiling.profile import ProfileOptions, profile
from edgeprune.progress import Progress
from edgeprune.targets import Target, load_target

CANDIDATES = 32
SEED = 0
REPEATS = 7
OF_CHANNELS, OF_GROUPS = 0.8, 0.4
"""Standard deviations of the logarithms of scores: within a group, and of the groups' factors."""

Levels = dict[str, tuple[int, ...]]


def network(name: str) -> Network:
    """A traced network; raises BadInputError if its parameters are not as many as published."""
    entry = PROFILED[name]
    module = entry.make().eval()
    count = sum(p.numel() for p in module.parameters()) / 1e6
    if entry.parameters_m is not None and abs(count - entry.parameters_m) > 0.006:
        raise BadInputError(f"{name} has {count:.3f} M parameters; published are {entry.parameters_m} M")
    return read_network(module, (torch.zeros(1, 3, entry.side, entry.side),))


def candidates(channels: ChannelGraph) -> Levels:
    """At most :data:`CANDIDATES` widths for each group, evenly spread."""
    return {g.name: (g.size,) if g.frozen else levels_for(g.size, -(-g.size // CANDIDATES)) for g in channels.groups}


@dataclass(frozen=True, slots=True)
class FewWidths(ProfileOptions):
    """Measures ``points`` of the candidates of a group, the narrowest and the widest among them."""

    def levels(self, channels: ChannelGraph, target: Target) -> Levels:
        return {name: few(widths, self.points) for name, widths in candidates(channels).items()}


def few(widths: tuple[int, ...], points: int) -> tuple[int, ...]:
    at = np.linspace(0, len(widths) - 1, points).round().astype(int)
    return tuple(widths[i] for i in sorted(set(at.tolist())))


def measure(names: Iterable[str], device: str, store: Path, folder: Path, progress: Progress) -> list[Path]:
    """Profile networks on a device, and write what their problems need: a file for each size of weights.

    What the store holds already is not measured again.
    """
    wanted: dict[str, set[str]] = defaultdict(set)
    written: dict[str, Path] = {}
    with open_device(device) as board, ProfileStore(store) as opened:
        target, info = load_target("host"), board.describe()
        for name in names:
            progress.note(name)
            net = network(name)
            options = FewWidths(points=PROFILED[name].points, tune=1, timing=TimingOptions(repeats=REPEATS))
            made = profile(net.kernels, net.channels, target, board, opened, options, info=info, progress=progress)
            fingerprint = made.profile.fingerprint
            nodes = tuple(spread_out(net))
            specs = kernels_to_measure(replace(net.kernels, nodes=nodes), net.channels, made.levels)
            wanted[fingerprint.digest] |= {s.key for s in specs}
            path = folder / f"{target.name}-{fingerprint.weight_span >> 20}MiB.jsonl"
            records = [r for r in made.profile.records() if r.spec.key in wanted[fingerprint.digest]]
            write_jsonl(path, fingerprint, records)
            written[path.name] = path
    return list(written.values())


def spread_out(net: Network) -> Iterator[KernelNode]:
    """The kernels whose widths are kept: of many that differ in a concatenation's width alone, the ends.

    Layers of a dense block are one family, and have 9 totals each; between those of the first and the last
    the table is interpolated.
    """
    alike: dict[object, list[tuple[int, KernelNode]]] = defaultdict(list)
    every: Levels = {g.name: (1, g.size) for g in net.channels.groups if not g.frozen}
    every |= {g.name: (g.size,) for g in net.channels.groups if g.frozen}
    for node in net.kernels.nodes:
        bindings = bindings_of(node, net.channels)
        shared = {a for a, b in bindings.items() if len(set(split(b, every)[0])) > 1}
        if not shared:
            yield node
            continue
        own = tuple(w for a, w in node.spec.widths.items() if a not in shared)
        alike[node.spec.family, own, tuple(sorted(shared))].append((sum(node.spec.widths[a] for a in shared), node))
    for nodes in alike.values():
        yield from {id(n): n for n in (min(nodes, key=_total)[1], max(nodes, key=_total)[1])}.values()


def _total(found: tuple[int, KernelNode]) -> int:
    return found[0]


@dataclass(frozen=True, slots=True)
class Measured:
    """The committed profiles."""

    files: tuple[tuple[Path, ProfileFile], ...]

    @classmethod
    def read(cls, folder: Path) -> Measured:
        """Raises BadInputError where there are none, ProfileError for one that does not check."""
        paths = sorted(folder.glob("*.jsonl"))
        if not paths:
            raise BadInputError(f"there are no profiles in {folder}", hint="measure some: --profile")
        return cls(tuple((p, read_jsonl(p)) for p in paths))

    def of(self, net: Network) -> tuple[Path, Target, tuple[KernelRecord, ...]]:
        """The profile whose kernels pass through as many bytes of weights as those of a network.

        Raises:
            BadInputError: there is none, or there are several.
        """
        found = [
            (path, target, file.records)
            for path, file in self.files
            if weight_span(net.kernels, target := load_target(file.fingerprint.target)) == file.fingerprint.weight_span
        ]
        if len(found) != 1:
            raise BadInputError(
                f"{len(found)} profiles fit this network: {[p.name for p, _, _ in found]}",
                hint="give a folder with those of one device: --profiles FOLDER, or measure: --profile",
            )
        return found[0]


def problem(name: str, profiles: Path, folder: Path, progress: Progress) -> Path:
    """The file of a network's problem, which is built if it is not there: tracing and rows of RAM take a while."""
    code = Path(__file__).read_bytes() + Path(__file__).with_name("profiled_networks.py").read_bytes()
    data = b"".join(p.read_bytes() for p in sorted(profiles.glob("*.jsonl")))
    path = folder / f"{name}-{hashlib.sha256(code + data).hexdigest()[:12]}.json"
    if not path.exists():
        progress.note(f"{name}: its problem is built")
        folder.mkdir(parents=True, exist_ok=True)
        save_problem(path, built(name, profiles))
    return path


def built(name: str, profiles: Path) -> Problem:
    """The problem of a network. Raises what is raised where a profile does not cover it."""
    net = network(name)
    _, target, records = Measured.read(profiles).of(net)
    model = LatencyModel(records)
    levels, _ = usable_levels(net.kernels, net.channels, candidates(net.channels), model)
    made = build_problem(net.kernels, net.channels, curves(net.channels), levels, model, estimate=True)
    ram = PlannedRam(net, ScheduleBook(target, records), limited=True)
    return replace(made, ram=ram.rows(made, levels))


def curves(channels: ChannelGraph, seed: int = SEED) -> Curves:
    """What each width of each group retains, of scores that are drawn."""
    rng = np.random.default_rng(seed)
    scores = {
        g.name: np.exp(OF_GROUPS * rng.standard_normal() + OF_CHANNELS * rng.standard_normal(g.size))
        for g in channels.groups
    }
    return Saliency.summed(scores).curves
