"""The plan: which channels each width group keeps, and what that is predicted to cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import PlanError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.latency.densities import WHOLE

SCHEMA = "edgeprune.plan/1"


@dataclass(frozen=True, slots=True)
class Plan:
    """Attributes:
    keep: group name -> indices kept, ascending; none for a group of a block that goes whole; absent groups
        are kept whole.
    sizes: group name -> size before pruning, for every group of the network.
    predicted: latency_ms, flash_bytes, saliency_retained (0..1) …, each with its evidence level.
    method: solver and criterion names, seed, budget; enough to repeat the plan.
    certificate: what is proven about it; {} where nothing is.
    densities: parameter -> what stays of the blocks of its weights, in per cent, of layers that were offered fewer
        than all (:mod:`edgeprune.latency.densities`); 0: the layer went with a block of the network.
    """

    keep: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int]
    predicted: Mapping[str, Any]
    method: Mapping[str, Any]
    certificate: Mapping[str, Any]
    densities: Mapping[str, int] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Whether anything goes."""
        return bool(self.keep or self.in_blocks)

    @property
    def in_blocks(self) -> dict[str, int]:
        """The densities of layers that stay, without some of their blocks."""
        return {weight: density for weight, density in self.densities.items() if 0 < density < WHOLE}

    def width(self, group: str) -> int:
        """How many channels ``group`` keeps."""
        return len(self.keep[group]) if group in self.keep else self.sizes[group]

    def level(self, choice: str) -> int:
        """What was chosen: of a weight its density, of a width group its width."""
        return self.densities[choice] if choice in self.densities else self.width(choice)

    @property
    def empty(self) -> frozenset[str]:
        """Groups that keep no channel: those of blocks that go whole."""
        return frozenset(name for name, indices in self.keep.items() if not indices)

    def then(self, further: Plan) -> Plan:
        """The composed plan: it does to the original network what ``further`` does to the network of this plan.

        Nothing is proven about it: each of the two was chosen without regard to the other.

        Raises:
            PlanError: ``further`` was made for another network: its groups have other sizes.
        """
        keep = dict(self.keep)
        for name, size in further.sizes.items():
            if name not in self.sizes or self.width(name) != size:
                raise PlanError(f"width group '{name}' has {size} channels, this plan leaves others", group=name)
            if name in further.keep:
                kept = self.keep.get(name, tuple(range(self.sizes[name])))
                keep[name] = tuple(kept[i] for i in further.keep[name])
        ruled = {"rule": self.method["rule"]} if "rule" in self.method else {}
        method = {**further.method, **ruled}
        densities = {**self.densities, **further.densities}
        return replace(self, keep=keep, predicted=further.predicted, method=method, certificate={}, densities=densities)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "keep": {name: list(indices) for name, indices in self.keep.items()},
            "sizes": dict(self.sizes),
            "predicted": dict(self.predicted),
            "method": dict(self.method),
            "certificate": dict(self.certificate),
            **({"densities": dict(self.densities)} if self.densities else {}),
        }

    @classmethod
    def from_json(cls, data: Any) -> Plan:
        """Read what :meth:`to_json` wrote.

        Raises:
            PlanError: another schema, a missing part, or indices that no group could have.
        """
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, dict) else type(data).__name__
            raise PlanError(f"not a plan of schema {SCHEMA}: found {found!r}", hint="write the plan again with 'prune'")
        parts = ("keep", "sizes", "predicted", "method", "certificate")
        if wrong := [part for part in parts if not isinstance(data.get(part), dict)]:
            raise PlanError(f"the plan lacks {', '.join(wrong)}, or has something else in its place", parts=wrong)
        for name, size in data["sizes"].items():
            if type(size) is not int or size < 1:
                raise PlanError(f"the plan gives width group '{name}' the size {size!r}", group=name)
        for name, indices in data["keep"].items():
            if not isinstance(indices, list) or name not in data["sizes"]:
                raise PlanError(f"the plan keeps {indices!r} of width group '{name}', which has no size", group=name)
            _check_indices(name, indices, data["sizes"][name])
        densities = data.get("densities", {})
        if not isinstance(densities, dict) or any(
            type(d) is not int or not 0 <= d <= WHOLE for d in densities.values()
        ):
            raise PlanError(f"the plan has densities that are none: {densities!r}")
        keep = {name: tuple(indices) for name, indices in data["keep"].items()}
        return cls(keep, data["sizes"], data["predicted"], data["method"], data["certificate"], densities)


def make_plan(
    graph: ChannelGraph,
    widths: Mapping[str, int],
    scores: Mapping[str, NDArray[np.float64]],
    *,
    predicted: Mapping[str, Any] | None = None,
    method: Mapping[str, Any] | None = None,
    certificate: Mapping[str, Any] | None = None,
    densities: Mapping[str, int] | None = None,
) -> Plan:
    """Keep the ``widths[g]`` channels of highest saliency in each group; ties keep the lower index.

    Args:
        widths: group name -> channels to keep, 0 … size; absent groups are kept whole. 0 for all groups of a
            block (:class:`edgeprune.graph.channels.Block`) or for none.
        scores: group name -> saliency, shape (size,); needed only for groups that lose channels.
        densities: as of :class:`Plan`.

    Raises:
        PlanError: an unknown or frozen group, a width out of range, scores of wrong shape or not finite.
    """
    keep: dict[str, tuple[int, ...]] = {}
    groups = graph.by_name
    for name, width in widths.items():
        if name not in groups:
            raise _unknown(name, graph)
        size = groups[name].size
        if not 0 <= width <= size:
            raise PlanError(f"width group '{name}' cannot keep {width} of its {size} channels", group=name, size=size)
        if width == size:
            continue
        if width == 0:
            keep[name] = ()
            continue
        if name not in scores or np.shape(scores[name]) != (size,) or not np.isfinite(scores[name]).all():
            raise PlanError(
                f"width group '{name}' needs {size} finite saliencies to choose {width} channels by",
                hint="score the network again; a saliency that is not finite comes from weights or data that are not",
                group=name,
            )
        best = np.argsort(-np.asarray(scores[name]), kind="stable")[:width]
        keep[name] = tuple(sorted(int(i) for i in best))
    sizes = {g.name: g.size for g in graph.groups}
    plan = Plan(keep, sizes, dict(predicted or {}), dict(method or {}), dict(certificate or {}), dict(densities or {}))
    check_plan(plan, graph)
    return plan


def check_plan(plan: Plan, graph: ChannelGraph) -> None:
    """Make sure that ``plan`` was made for ``graph``.

    Raises:
        PlanError: groups or sizes differ, indices do not fit, or a frozen group loses channels.
    """
    groups = graph.by_name
    for name in {**plan.sizes, **plan.keep}:
        if name not in groups:
            raise _unknown(name, graph)
    for group in graph.groups:
        if plan.sizes.get(group.name) != group.size:
            raise PlanError(
                f"width group '{group.name}' has {group.size} channels, the plan was made for "
                f"{plan.sizes.get(group.name, 'none')}",
                hint="make the plan again for this network",
                group=group.name,
            )
        indices = plan.keep.get(group.name)
        if indices is None:
            continue
        _check_indices(group.name, list(indices), group.size)
        if group.frozen and len(indices) < group.size:
            raise PlanError(
                f"width group '{group.name}' is frozen ({group.frozen}); the plan removes "
                f"{group.size - len(indices)} of its channels",
                hint="leave the group out of the plan",
                group=group.name,
                frozen=group.frozen,
            )
    for name in sorted(plan.empty.difference(*(b.groups for b in graph.removed(plan.empty)))):
        whole = next((b for b in graph.blocks if name in b.groups), None)
        raise PlanError(
            f"width group '{name}' cannot lose all its channels"
            + (f" alone, only the whole of block '{whole.name}' can" if whole else ": nothing leads around it"),
            hint=f"empty {', '.join(whole.groups)} together" if whole else "keep at least one channel",
            group=name,
        )


def _check_indices(name: str, indices: list[Any], size: int) -> None:
    ints = all(type(i) is int for i in indices)
    if not ints or indices != sorted(set(indices)) or (indices and (indices[0] < 0 or indices[-1] >= size)):
        raise PlanError(
            f"the indices kept of width group '{name}' must be of 0 … {size - 1}, ascending, each once",
            group=name,
            indices=indices,
            size=size,
        )


def _unknown(name: str, graph: ChannelGraph) -> PlanError:
    return PlanError(
        f"the network has no width group '{name}'",
        hint="its groups are: " + ", ".join(g.name for g in graph.groups),
        group=name,
    )
