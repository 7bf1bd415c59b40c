"""ChannelGraph and KernelGraph: the two results of reading a network.

The channel graph says which channels stand or fall together (width groups) and which slices of
which parameters they own. The kernel graph says which kernels the board runs, in what order, and
binds the width axes of each kernel to the groups.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.models.image_input import ImageInput
from edgeprune.models.ranges import InputRange

if TYPE_CHECKING:  # they need torch, and what was profiled or planned is read without
    from edgeprune.graph.computed import Computed
    from edgeprune.graph.sizes import Attribute


@dataclass(frozen=True, slots=True)
class Member:
    """One slice of one parameter or buffer owned by a width group.

    Channel ``i`` of the group owns indices ``start + i*repeat`` … ``+ repeat - 1`` of ``dim``.
    ``repeat`` is over 1 where a flatten put H*W positions of a channel side by side.
    """

    param: str
    dim: int
    start: int = 0
    repeat: int = 1
    role: str = "out"  # "out": writes the channel (filter, bias, norm); "in": reads it


@dataclass(frozen=True, slots=True)
class Activation:
    """Where the values of a width group's channels stand in the tensor that an fx node yields.

    Channel ``i`` of the group owns positions ``start + i*repeat`` … ``+ repeat - 1`` of ``dim``, as in
    :class:`Member`.
    """

    node: str
    dim: int
    start: int = 0
    repeat: int = 1


@dataclass(frozen=True, slots=True)
class WidthGroup:
    """Channels that must be kept or removed together; ``size`` of them, one decision each.

    Attributes:
        frozen: empty for a prunable group, else the reason why nothing may be removed.
        activations: the channels' values as layers with weights read them; where none does, as they are last seen.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    frozen: str = ""
    activations: tuple[Activation, ...] = ()


@dataclass(frozen=True, slots=True)
class AxisBinding:
    """A kernel's width axis = ``base`` + sum of the widths of ``groups`` (names, repeats allowed)."""

    groups: tuple[str, ...]
    base: int = 0


@dataclass(frozen=True, slots=True)
class WeightRef:
    """Where a kernel's constants come from, by parameter name; folding happens in the compiler.

    ``norm`` names weight, bias, running mean and running variance of a batch norm that follows
    (entries are empty strings where the module has none).
    """

    weight: str = ""
    bias: str = ""
    norm: tuple[str, str, str, str] | None = None
    eps: float = 0.0


@dataclass(frozen=True, slots=True)
class KernelNode:
    """One kernel of the network, in the order the board runs them."""

    name: str
    spec: KernelSpec
    inputs: tuple[str, ...]
    output: str
    weights: WeightRef
    axes: Mapping[str, AxisBinding]
    module: str = ""  # qualified name of the module that gave the anchor, for reports
    source: str = ""  # file:line, where the exporter knows it


@dataclass(frozen=True, slots=True)
class CodeSize:
    """An integer attribute that the network's own code takes a width from, such as the size of a split."""

    attribute: Attribute
    axis: AxisBinding


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a network that may go whole: every output still depends on the inputs without it.

    Attributes:
        name: the module that holds it, or its first group.
        groups: prunable width groups that have no channels then; all of them or none.
        idle: fx nodes that are constant then, or needed by nobody.
    """

    name: str
    groups: tuple[str, ...]
    idle: frozenset[str]


@dataclass(frozen=True, slots=True)
class ChannelGraph:
    """Width groups of a network, in order of first appearance. Names are unique.

    ``sizes`` are attributes of modules that must follow the widths. ``blocks`` may be removed in any combination;
    one may lie inside of another.
    """

    groups: tuple[WidthGroup, ...]
    sizes: tuple[CodeSize, ...] = ()
    blocks: tuple[Block, ...] = ()

    def __getitem__(self, name: str) -> WidthGroup:
        return self.by_name[name]

    @property
    def by_name(self) -> dict[str, WidthGroup]:
        return {g.name: g for g in self.groups}

    @property
    def prunable(self) -> tuple[WidthGroup, ...]:
        return tuple(g for g in self.groups if not g.frozen)

    def removed(self, empty: Collection[str]) -> tuple[Block, ...]:
        """The blocks that are gone where the groups ``empty`` have no channels."""
        return tuple(b for b in self.blocks if set(b.groups) <= set(empty))


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the network: the caller's name, shape and element type, and the tensor behind it.

    Attributes:
        dtype: what the caller gives or gets; the tensor holds float32, or a frame.
        image: how a camera frame becomes what the network takes; None for any other input.
        range: of the values that data had; None where they are not known.
    """

    name: str
    shape: tuple[int, ...]
    tensor: str
    dtype: str = "float32"
    image: ImageInput | None = None
    range: InputRange | None = None


@dataclass(frozen=True, slots=True)
class KernelGraph:
    """Kernels in execution order; every tensor by name; inputs and outputs in the caller's order.

    ``constants``: what tensors hold that nothing computes: a parameter, by its name, or the values themselves.
    ``computed``: names of constants and weights that are no parameters, and how they are made of these.
    """

    nodes: tuple[KernelNode, ...]
    tensors: Mapping[str, TensorSpec]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    constants: Mapping[str, str | NDArray[np.float32]] = field(default_factory=dict)
    computed: Mapping[str, Computed] = field(default_factory=dict)
