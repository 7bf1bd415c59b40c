"""From a traced network, its saliency and a latency model to the arrays a solver takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeprune.budget.problem import PER_CENT, Axis, Choice, Problem, Term
from edgeprune.errors import PlanError, ProfileError
from edgeprune.graph.channels import AxisBinding, Block, ChannelGraph, KernelGraph, KernelNode, WidthGroup
from edgeprune.graph.resized import width_of
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.densities import WHOLE, Densities, Density, at_density, quickest
from edgeprune.latency.grids import grid_for, split
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.tables import widths_on

Levels = Mapping[str, tuple[int, ...]]
_ALL: Densities = {}
"""No layer is offered another density."""


def build_problem(
    kernels: KernelGraph,
    channels: ChannelGraph,
    curves: Mapping[str, ArrayLike],
    levels: Levels,
    model: LatencyModel,
    *,
    densities: Densities = _ALL,
    estimate: bool = False,
) -> Problem:
    """The pruning problem of a network on a device.

    A kernel is a term over its axes that leave a choice, with tables at :func:`grid_for`'s widths and the
    model's correction applied; a kernel without a free axis is a constant cost. Where groups may lose all
    channels (:func:`edgeprune.latency.grids.with_blocks`), a kernel without channels costs nothing, and kernels that
    are removed with a block are gated by its first group. The retained saliency of level k is that of the group's
    curve at width k, over the sum of all curves at full width.

    Args:
        curves: for each group that leaves a choice, what each of its widths 0 … size retains, in any unit that all
            groups share: shape (size + 1,), at least 0, non-decreasing (:mod:`edgeprune.importance.curves`).
        levels: for each group its levels, ascending, the last its size, or the most that a rule lets stay; one level
            for a frozen group, or for one that is left no choice
            (:func:`edgeprune.latency.grids.levels_of`, then :func:`usable_levels` where kernels failed).
        densities: of layers of whose weights blocks may go; each is one more choice, named after the parameter, and
            what it retains counts beside the channels.
        estimate: interpolate widths that were not measured between measured ones.

    Raises:
        PlanError: levels or curves do not fit the groups, or an axis does not add up to its kernel's width.
        ProfileError: widths were not measured, or a kernel failed on the device.
    """
    _check_levels(channels, levels)
    # A group that a rule leaves a single width is worth something, too; an axis takes that width for a constant.
    free = [g.name for g in channels.groups if len(levels[g.name]) > 1 or levels[g.name][-1] < g.size]
    index = {name: i for i, name in enumerate(free)}
    blocks = [b for b in channels.blocks if all(levels[g][0] == 0 for g in b.groups)]
    going = {b.name: [n.name for n in kernels.nodes if _goes(n, bindings_of(n, channels), b)] for b in blocks}
    gone = {name for names in going.values() for name in names}
    densities = {name: d.or_nothing() if name in gone else d for name, d in densities.items()}
    choices = _choices(channels, free, curves, levels, densities.values())
    index |= {d.weight: len(free) + i for i, d in enumerate(densities.values())}
    terms: list[Term] = []
    base_latency_ms, base_flash_bytes = model.beyond_ms, 0.0
    for node in kernels.nodes:
        bindings = bindings_of(node, channels)
        split_axes = {name: split(binding, levels) for name, binding in bindings.items()}
        grids = tuple(grid_for(binding, levels) for binding in bindings.values())
        density = densities.get(node.name)
        open_axes = tuple(i for i, (groups, _) in enumerate(split_axes.values()) if groups)
        latency_ms, flash_bytes = _costs(node, density, grids, open_axes, model, estimate=estimate)
        axes = tuple(Axis(tuple(index[g] for g in groups), base) for groups, base in split_axes.values() if groups)
        steps = tuple(grids[i] for i in open_axes)
        if density:
            axes += (Axis((index[density.weight],)),)
            steps += (np.array(density.levels),)
        gate = _gate(node, bindings, blocks)
        if gate and not (density and density.may_go):
            latency_ms, flash_bytes = (np.stack([np.zeros_like(c), c], axis=-1) for c in (latency_ms, flash_bytes))
            axes += (Axis((index[gate],)),)
            steps += (np.array([0, levels[gate][1]]),)
        latency_ms = latency_ms * model.correction
        if axes:
            terms.append(Term(node.name, axes, steps, latency_ms, flash_bytes))
        else:
            base_latency_ms += float(latency_ms)
            base_flash_bytes += float(flash_bytes)
    # A layer that goes with a block retains nothing of its weights either.
    names = [(*b.groups, *(densities[n].weight for n in going[b.name] if n in densities)) for b in blocks]
    indices = tuple(tuple(index[name] for name in together) for together in names)
    return Problem(choices, tuple(terms), base_latency_ms, base_flash_bytes, indices)


def _costs(
    node: KernelNode,
    density: Density | None,
    grids: tuple[NDArray[np.int64], ...],
    open_axes: tuple[int, ...],
    model: LatencyModel,
    *,
    estimate: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latency and flash of a kernel over its open axes, and over its densities last where it has some."""
    closed = tuple(i for i in range(len(grids)) if i not in open_axes)
    timed, found = tuple(g[g > 0] for g in grids), []
    for level in density.stored if density else (WHOLE,):
        try:
            table = model.table(at_density(node.spec, level), grids=timed, estimate=estimate)
        except ProfileError as e:
            raise ProfileError(f"{node.name}: {e.message}", hint=e.hint, node=node.name, **e.details) from e
        costs = (table.latency_ms, table.flash_bytes)
        found.append(tuple(_with_zeros(cells, grids).squeeze(axis=closed) for cells in costs))
    latency_ms, flash_bytes = zip(*found, strict=True)
    if density is None:
        return latency_ms[0], flash_bytes[0]
    latency, flash = quickest(latency_ms, flash_bytes)
    nothing = [*[(0, 0)] * (latency.ndim - 1), (int(density.may_go), 0)]
    return np.pad(latency, nothing), np.pad(flash, nothing)


def kernels_at(
    kernels: KernelGraph,
    channels: ChannelGraph,
    levels: Levels,
    chosen: Mapping[str, int],
    densities: Mapping[str, int] | None = None,
) -> list[KernelSpec]:
    """The kernels that run where groups have the ``chosen`` widths, and others their only one; those without channels,
    or gone with a block, do not.

    Of a concat only the total is known here, not its parts.

    Args:
        levels: as of :func:`build_problem`: they say which blocks may go.
        densities: node -> what stays of the blocks of its weights, in per cent.
    """
    blocks = [b for b in channels.blocks if all(levels[g][0] == 0 for g in b.groups)]
    widths, specs = {g.name: levels[g.name][-1] for g in channels.groups} | dict(chosen), []
    for node in kernels.nodes:
        bindings = bindings_of(node, channels)
        axes = {axis: width_of(binding, widths) for axis, binding in bindings.items()}
        gate = _gate(node, bindings, blocks)
        if all(axes.values()) and not (gate and widths[gate] == 0):
            specs.append(at_density(node.spec.with_widths(**axes), (densities or {}).get(node.name, WHOLE)))
    return specs


def _with_zeros(table: NDArray[np.float64], grids: tuple[NDArray[np.int64], ...]) -> NDArray[np.float64]:
    """The table, extended by width 0 where a grid begins with it: a kernel without channels costs nothing."""
    return np.pad(table, [(int(g[0] == 0), 0) for g in grids])


def _gate(node: KernelNode, bindings: Mapping[str, AxisBinding], blocks: Sequence[Block]) -> str | None:
    """The group whose width 0 removes a kernel with a block, if none of the kernel's own widths are in the block."""
    around = [b for b in blocks if _idle(node, b)]
    if not around:
        return None
    block = min(around, key=lambda b: len(b.idle))
    return None if _own(bindings, block) else block.groups[0]


def _goes(node: KernelNode, bindings: Mapping[str, AxisBinding], block: Block) -> bool:
    """Whether a kernel is gone where a block is."""
    return _idle(node, block) or _own(bindings, block)


def _idle(node: KernelNode, block: Block) -> bool:
    return node.output.partition(".")[0] in block.idle


def _own(bindings: Mapping[str, AxisBinding], block: Block) -> bool:
    """Whether a kernel has an axis that has no width without the block."""
    return any(not b.base and b.groups and set(b.groups) <= set(block.groups) for b in bindings.values())


def usable_levels(
    kernels: KernelGraph, channels: ChannelGraph, levels: Levels, model: LatencyModel
) -> tuple[dict[str, tuple[int, ...]], dict[str, dict[int, str]]]:
    """Levels at which no kernel failed on the device, and the levels that were dropped, with the reason.

    A failure is laid on the kernel's out axis, or on its in axis where the out axis leaves no choice or is
    at its full width; on an axis that several groups make up it cannot be laid on one of them, and stays.
    Fewer levels can move the grid of such an axis: build the problem with ``estimate`` then.

    Returns:
        The levels left, and group -> level -> why it is not offered.

    Raises:
        ProfileError: a kernel failed at widths that no choice of levels avoids.
    """
    _check_levels(channels, levels)
    left = {name: list(ks) for name, ks in levels.items()}
    sizes = {g.name: g.size for g in channels.groups}
    dropped: dict[str, dict[int, str]] = {}
    for node in kernels.nodes:
        bindings = bindings_of(node, channels)
        grids = [grid_for(b, levels) for b in bindings.values()]
        for record in (r for r in model.family(node.spec) if not r.ok):
            cell = widths_on(tuple(bindings), record)
            if not all(w in g for w, g in zip(cell, grids, strict=True)):
                continue
            widths = dict(zip(bindings, cell, strict=True))
            culprit = _culprit(bindings, levels, widths, sizes)
            if culprit is None:
                if any(len(set(split(b, levels)[0])) > 1 for b in bindings.values()):
                    continue
                raise ProfileError(
                    f"{node.name} failed on the device at widths that cannot be avoided, {widths}: {record.error}",
                    hint="see why it failed and profile it again",
                    node=node.name,
                    widths=widths,
                )
            group, level = culprit
            if level in left[group]:
                left[group].remove(level)
                dropped.setdefault(group, {})[level] = f"{record.spec} failed: {record.error}"
    return {name: tuple(ks) for name, ks in left.items()}, dropped


def kernels_to_measure(
    kernels: KernelGraph, channels: ChannelGraph, levels: Levels, densities: Mapping[str, Sequence[int]] | None = None
) -> list[KernelSpec]:
    """Every distinct kernel at every width of its grid, full widths first.

    Args:
        densities: node -> what may stay of the blocks of its weights, in per cent: at each of these as well.
    """
    offered = {n.name: (WHOLE, *(densities or {}).get(n.name, ())) for n in kernels.nodes}
    whole = [(n, at_density(n.spec, d)) for n in kernels.nodes for d in offered[n.name]]
    specs: dict[str, KernelSpec] = {spec.key: spec for _, spec in whole}
    for node, own in whole:
        bindings = bindings_of(node, channels)
        grids = [g[g > 0] for g in (grid_for(b, levels) for b in bindings.values())]
        for point in itertools.product(*grids):
            spec = own.with_widths(**{a: int(w) for a, w in zip(bindings, point, strict=True)})
            specs.setdefault(spec.key, spec)
    return list(specs.values())


def bindings_of(node: KernelNode, channels: ChannelGraph) -> dict[str, AxisBinding]:
    """The binding of each axis of a kernel, in the order of ``spec.widths``; constant where it has none.

    Raises:
        PlanError: a binding names an unknown group or does not add up to the kernel's width.
    """
    sizes = {g.name: g.size for g in channels.groups}
    bindings = {}
    for axis, width in node.spec.widths.items():
        binding = node.axes.get(axis, AxisBinding((), width))
        total = binding.base + sum(sizes.get(g, 0) for g in binding.groups)
        if total != width or not sizes.keys() >= set(binding.groups):
            raise PlanError(
                f"{node.name}: axis {axis!r} of {node.spec} is bound to {binding.groups} + {binding.base} = {total}",
                hint="this is a fault of the channel graph; please report it with the model",
                node=node.name,
            )
        bindings[axis] = binding
    return bindings


def _culprit(
    bindings: Mapping[str, AxisBinding], levels: Levels, widths: Mapping[str, int], sizes: Mapping[str, int]
) -> tuple[str, int] | None:
    """The group and level to give up so that a kernel is not built at ``widths``; the full width is never given up."""
    for axis in reversed(list(bindings)):
        groups, base = split(bindings[axis], levels)
        if len(set(groups)) == 1:
            level = (widths[axis] - base) // len(groups)
            if level != sizes[groups[0]]:
                return groups[0], level
    return None


def _check_levels(channels: ChannelGraph, levels: Levels) -> None:
    for group in channels.groups:
        ks = levels.get(group.name, ())
        if not ks or ks[-1] > group.size or (group.frozen and ks != (group.size,)):
            raise PlanError(
                f"levels {ks} do not fit width group {group.name} of size {group.size}"
                + (f", frozen: {group.frozen}" if group.frozen else ""),
                hint="make the levels with edgeprune.latency.grids.levels_of",
            )


def _choices(
    channels: ChannelGraph,
    free: list[str],
    curves: Mapping[str, ArrayLike],
    levels: Levels,
    densities: Iterable[Density],
) -> tuple[Choice, ...]:
    retained = {name: _curve(channels[name], curves) for name in free}
    offered = list(densities)
    total = sum(float(c[-1]) for c in (*retained.values(), *(d.retained for d in offered)))
    if free and not total > 0:
        raise PlanError(
            "every width retains as much as any other: all scores are 0",
            hint="use another criterion, or let the task say what channels are scored by (saliency=, docs/TASKS.md)",
        )
    return (
        *(Choice(name, levels[name], retained[name][list(levels[name])] / total) for name in free),
        *(Choice(d.weight, d.levels, d.retained / total, PER_CENT) for d in offered),
    )


def _curve(group: WidthGroup, curves: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
    if group.name not in curves:
        raise PlanError(f"width group {group.name} has no saliency", hint="score every prunable group")
    values = np.asarray(curves[group.name], dtype=np.float64)
    if values.shape != (group.size + 1,):
        raise PlanError(
            f"{group.name} has {group.size} channels and a curve of shape {values.shape}",
            hint="a curve has a value for each width, 0 among them",
        )
    finite = np.isfinite(values)
    right = finite & (values >= 0) & (np.diff(np.where(finite, values, 0.0), prepend=0.0) >= 0)
    if not right.all():
        raise PlanError(
            f"what {group.name} retains is negative, not finite or decreasing at width {int(np.argmin(right))}",
            hint="make curves with edgeprune.importance.curves",
        )
    return values
