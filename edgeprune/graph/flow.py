"""Channel flow: what transfer rules read and write while they walk a traced program.

Every axis of every tensor may carry a layout (see ``intervals``). An axis of an activation that no
rule gave a layout is taken as frozen the moment somebody asks for it: a rule that forgets
something costs pruning opportunities, never correctness.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch.export import ExportedProgram
from torch.fx import Node

from edgeprune.graph.channels import Member
from edgeprune.graph.intervals import ChannelSpace, Layout, Partition, joined, positions, widened
from edgeprune.graph.nodes import describe, module_path, shape_of
from edgeprune.graph.sizes import Attribute, Origin, Read, Size
from edgeprune.graph.trace import parameter_names
from edgeprune.graph.zeros import Zeros


class Refused(Exception):
    """Raised by a rule that cannot carry channels through this node; the text says why."""


@dataclass(frozen=True, slots=True)
class _Slice:
    layout: Layout
    role: str


@dataclass(frozen=True, slots=True)
class _Ratio:
    """However many channels are kept, ``a`` and ``b`` have positions in the ratio they have now."""

    a: Layout
    b: Layout
    whole: Layout | None  # what ``a`` is a part of
    node: Node | None


class Flow:
    """Layouts of all tensors and parameters of one program, and the equations between them."""

    def __init__(self, program: ExportedProgram, known_runs: Mapping[str, int] | None = None) -> None:
        """Args:
        known_runs: node name of a shuffle's result -> the number of equal runs that an earlier pass saw it cut into.
        """
        self.known_runs = dict(known_runs or {})
        self.shuffles: dict[Layout, Node] = {}  # results that were made without regard to runs
        self.shuffled: dict[Node, dict[int, Layout]] = {}  # known before the walk gets there
        self.found_runs: dict[str, int] = {}  # numbers of runs found by this pass, for ``known_runs`` of the next
        self.reads: dict[tuple[Node, int], None] = {}  # axes of activations that layers with weights read
        self.space = ChannelSpace()
        self.node: Node | None = None  # the node a rule is at work on
        self._parameter_names = parameter_names(program)
        self.zeros = Zeros(self._parameter_names, self.tracked)
        self._axes: dict[Node, dict[int, Layout]] = {}
        self._tuples: dict[Node, list[dict[int, Layout]]] = {}
        self._parameters: dict[str, dict[int, _Slice]] = {}
        self._attributes: dict[Attribute, Layout | None] = {}  # None: must stay as it is
        self._ratios: list[_Ratio] = []
        self._cuts: list[Layout] = []  # at whose ends classes end, although nothing else reads them

    def parameter(self, node: Node) -> str:
        """Qualified name if ``node`` is a parameter or buffer of the network, else empty."""
        return self._parameter_names.get(node.name, "")

    def shape(self, node: Node) -> tuple[int, ...]:
        """Shape of a tensor-valued node.

        Raises:
            Refused: the node yields something else.
        """
        shape = shape_of(node)
        if shape is None:
            raise Refused(f"'{node.name}' is not a tensor")
        return shape

    def tracked(self, node: Node) -> dict[int, Layout]:
        """Axes of ``node`` that carry a layout already."""
        if name := self.parameter(node):
            return {d: s.layout for d, s in self._parameters.get(name, {}).items()}
        return dict(self._axes.get(node, {}))

    def axis(self, node: Node, dim: int, role: str = "out") -> Layout:
        """Layout of one axis; made on the spot for a parameter (prunable) or an activation (frozen)."""
        name = self.parameter(node)
        known = self._parameters.get(name, {}).get(dim) if name else None
        if known:
            return known.layout
        if not name and dim in self._axes.get(node, {}):
            return self._axes[node][dim]
        size = self.shape(node)[dim]
        if name:
            layout = self.space.source(name.removesuffix(".weight"), size)
            self._parameters.setdefault(name, {})[dim] = _Slice(layout, role)
            return layout
        layout = self.space.source(module_path(node) or node.name, size)
        self.space.freeze(layout, f"dimension {dim} of {describe(node)} carries no channels that can be followed")
        self._axes.setdefault(node, {})[dim] = layout
        return layout

    def bind(self, node: Node, dim: int, layout: Layout, role: str = "out") -> None:
        """An operand's axis has this layout: a parameter takes it over, anything else is equated."""
        name = self.parameter(node)
        if name and dim not in self._parameters.get(name, {}):
            if positions(layout) != self.shape(node)[dim]:
                raise Refused(f"'{name}' has {self.shape(node)[dim]} entries for {positions(layout)} channels")
            self._parameters.setdefault(name, {})[dim] = _Slice(layout, role)
        else:
            self.equate(self.axis(node, dim, role), layout)

    def produce(self, node: Node, axes: dict[int, Layout]) -> None:
        """The node's result carries these layouts."""
        for dim, layout in axes.items():
            if positions(layout) != self.shape(node)[dim]:
                raise Refused(f"a rule gave {positions(layout)} channels to dimension {dim} of '{node.name}'")
        self._axes[node] = dict(axes)

    def produce_tuple(self, node: Node, parts: list[dict[int, Layout]]) -> None:
        """As :meth:`produce`, for a node that yields several tensors."""
        self._tuples[node] = parts

    def part(self, node: Node, index: int) -> dict[int, Layout]:
        """Layouts of one of several results; empty where no rule said anything."""
        parts = self._tuples.get(node)
        return parts[index] if parts else {}

    def equate(self, a: Layout, b: Layout) -> None:
        """Equal positions stand or fall together; layouts that cannot be aligned are frozen."""
        if not self.space.equate(a, b):
            for layout in (a, b):
                self.freeze_layout(layout, "channels cannot be aligned")

    def summed(self, layout: Layout, *places: tuple[Node, int]) -> None:
        """Products of operands are added up over these channels, a dimension of each; frozen where none is zero."""
        if not any(self.zeros.along(node, dim) for node, dim in places):
            self.freeze_layout(layout, "summed up although removed channels would not count as zeros")

    def freeze_layout(self, layout: Layout, reason: str) -> None:
        """Freeze one layout because of the node that a rule is at work on."""
        self.space.freeze(layout, f"{reason}: {describe(self.node)}" if self.node is not None else reason)

    def freeze(self, node: Node, reason: str) -> None:
        """Freeze all that ``node`` carries; all dimensions of a parameter, also those not met yet."""
        if self.parameter(node):
            for dim in range(len(self.shape(node))):
                self.axis(node, dim)
        for layout in self.tracked(node).values():
            self.space.freeze(layout, reason)

    def freeze_around(self, node: Node, reason: str) -> None:
        """Freeze every operand of ``node`` and give its result frozen channels in dimension 1."""
        for operand in node.all_input_nodes:
            self.freeze(operand, reason)
            for part in self._tuples.get(operand, []):
                for layout in part.values():
                    self.space.freeze(layout, reason)
        self._axes.pop(node, None)
        self._tuples.pop(node, None)
        shape = shape_of(node)
        if shape is not None and len(shape) > 1:
            self.fresh_frozen(node, reason)

    def fresh_frozen(self, node: Node, reason: str) -> None:
        """Give dimension 1 of ``node`` channels of its own that nothing may remove."""
        layout = self.space.source(module_path(node) or node.name, self.shape(node)[1])
        self.space.freeze(layout, reason)
        self._axes.setdefault(node, {})[1] = layout

    def layouts(self) -> Iterator[Layout]:
        """Every layout that will be read after solving."""
        for axes in self._axes.values():
            yield from axes.values()
        for dims in self._parameters.values():
            yield from (s.layout for s in dims.values())
        yield from (layout for layout in self._attributes.values() if layout is not None)
        yield from self._cuts

    def members(self, partition: Partition) -> list[list[Member]]:
        """For each class of ``partition`` the parameter slices it owns."""
        owned: list[list[Member]] = [[] for _ in partition.classes]
        slices = ((name, dim, s) for name, dims in self._parameters.items() for dim, s in dims.items())
        for name, dim, s in slices:
            start = 0
            for index, repeat in partition.pieces(s.layout):
                owned[index].append(Member(name, dim, start, repeat, s.role))
                start += partition.classes[index].size * repeat
        return owned

    def sized(self, layout: Layout | None, size: Size, whole: Layout | None = None) -> None:
        """The code gives an axis this size; ``layout`` is what the axis carries, ``None`` for nothing.

        An attribute follows the width of what it sizes, and a size that was read from some axis
        has that axis's channels: what is sized is tied to them. Channels beside a number that is
        written in the code are frozen.

        Args:
            whole: layout of the axis that this one is a part of.
        """
        if isinstance(size, Attribute):
            self._attribute(layout, size)
        elif isinstance(size, Read):
            self._read(layout, size, whole)
        elif size is Origin.WRITTEN and layout is not None:
            self.freeze_layout(layout, f"the size {positions(layout)} is written in the network's code")

    def counted(self, a: Layout, b: Layout) -> None:
        """As many channels are kept of ``a`` as of ``b``, whichever they are."""
        self._ratios.append(_Ratio(a, b, None, self.node))

    def _read(self, layout: Layout | None, size: Read, whole: Layout | None) -> None:
        channels = [c for node, dim in size.axes if (c := self._known(node, dim))]
        if layout is None or len(channels) != 1:
            for changing in (*channels, *([layout] if layout else [])):
                self.freeze_layout(changing, "an axis has its size from other channels, or from none")
        else:
            self._ratios.append(_Ratio(layout, channels[0], whole, self.node))

    def _known(self, node: Node, dim: int) -> Layout | None:
        return self.axis(node, dim) if self.parameter(node) else self.tracked(node).get(dim)

    def _attribute(self, layout: Layout | None, size: Attribute) -> None:
        known = self._attributes.setdefault(size, layout)
        if known is not None and layout is not None:
            self._ratios.append(_Ratio(layout, known, None, self.node))
            return
        for changing in (known, layout):
            if changing is not None:
                self.freeze_layout(changing, f"'{size}' is the size of something else too")
        self._attributes[size] = None

    def settle(self) -> None:
        """Tie what must keep its ratio, where other ties do not see to it already."""
        ratios, self._ratios = self._ratios, []
        sides = [side for r in ratios for side in (r.a, r.b)]
        partition = self.space.solve([*self.layouts(), *sides])

        def counts(layout: Layout, times: int) -> Counter[int]:
            found: Counter[int] = Counter()
            for index, repeat in partition.pieces(layout):
                found[index] += repeat * times
            return found

        def free(found: Counter[int]) -> Counter[int]:
            return Counter({index: n for index, n in found.items() if not partition.classes[index].frozen})

        for r in ratios:
            size, other = positions(r.a), positions(r.b)
            a, b = counts(r.a, other), counts(r.b, size)
            if a == b:
                continue
            if free(a) == free(b):  # what is frozen counts the same ever after, if it is cut as it was here
                self._cuts = sides
                continue
            self.node = r.node
            if r.whole is not None and positions(r.whole) == other:
                self.equate(r.whole, r.b)
            elif size % other == 0:
                self.equate(r.a, widened(r.b, size // other))
            elif other % size == 0:
                self.equate(joined([r.a] * (other // size)), r.b)
            else:
                self.equate(r.a, r.b)

    def attributes(self) -> Iterator[tuple[Attribute, Layout]]:
        """Attributes that follow the widths of channels, and these channels."""
        yield from ((a, layout) for a, layout in self._attributes.items() if layout is not None)
