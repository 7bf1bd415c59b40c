"""Data brought into the layout that a kernel reads: blocks of channels, row-major order, a copy of what a view shows.

Each change of layout is a kernel, put between once for all its readers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgeprune.graph.cutting.constants import Constants
from edgeprune.graph.cutting.drafts import Drafts
from edgeprune.graph.cutting.values import Data, Draft, Value
from edgeprune.graph.spec import TensorSpec
from edgeprune.graph.walks import Along, View, kept_shape


class Layouts:
    """Kernels that move values."""

    def __init__(self, drafts: Drafts, constants: Constants) -> None:
        self._drafts, self._constants = drafts, constants
        self._changed: dict[str, dict[TensorSpec, Draft]] = {}  # data -> how they are kept as well
        self._images: dict[str, Value] = {}

    def blocked(self, value: Value, *, plain: bool = False) -> Value:
        """A value of four dimensions in blocked layout (or as it is, where ``plain`` will do)."""
        if value.layout == "blocked" and not value.unviewed and (start := value.first_channel) is not None:
            return self._slice(value, start)
        if value.tensor in self._constants and value.view.contiguous and not plain:
            return self._constant(value)
        if not value.unviewed or value.layout == "plain":
            value = self.plain(value)
            value = value if plain else self._converted(value, "blocked")
        return value

    def plain(self, value: Value) -> Value:
        """In row-major order, the data in the shape in which they are seen."""
        value = self.row_major(value)
        if value.unviewed:
            return value
        if value.view.contiguous:
            data = replace(value.data, axis=value.node, spec=TensorSpec(kept_shape(value.shape), "plain"))
            return Value(value.node, data, View.whole(value.shape))
        return self.copied(value)

    def row_major(self, value: Value) -> Value:
        """The data in row-major order, seen as they were: for readers that can follow a walk."""
        return self._converted(value, "plain") if value.layout == "blocked" else value

    def copied(self, value: Value, name: str = "") -> Value:
        """What is seen, in row-major order.

        Args:
            name: tells this view from others of the same node.
        """
        spec, shape = TensorSpec(kept_shape(value.shape), "plain"), value.shape
        value = value.expanded(spec.shape)
        walk = value.view.walk.to_attr()
        source = replace(value, data=value.walked)
        draft = self._drafts.put("strided", name or f"{value.node.name}.copy", source, spec, walk0=walk)
        draft.axes = _same_units(value)
        # The same values may have been copied for a reader who saw dimensions of size 1 elsewhere.
        return Value(value.node, Data(draft, spec, value.node), View.whole(shape))

    def _converted(self, value: Value, layout: str) -> Value:
        spec = TensorSpec(value.data.spec.shape, layout)
        same = self._changed.setdefault(value.tensor, {})
        if spec not in same:
            # Plain data may be seen as images of more than one shape; the first has the plain name.
            name = f"{value.tensor}.{layout}" + (f".{'x'.join(map(str, spec.shape))}" if same else "")
            same[spec] = self._drafts.put("layout", name, value, spec)
        return replace(value, data=replace(value.data, source=same[spec], spec=spec))

    def _constant(self, value: Value) -> Value:
        name = f"{value.tensor}.{'x'.join(map(str, value.shape))}"
        if name not in self._images:
            self._images[name] = self._constants.image(value)
        return self._images[name]

    def _slice(self, value: Value, start: int) -> Value:
        spec, source = TensorSpec(value.shape), Value.stored(value.node, value.data)
        draft = self._drafts.put("channel_slice", f"{value.node.name}.channels", source, spec, start=start)
        return Value.stored(value.node, Data(draft, spec, value.node))


def _same_units(value: Value) -> Mapping[str, tuple[str, int, int]]:
    """The width axis of states (steps, samples, units), if a copy has all of the units in the same order.

    Inside of a recurrent layer the weights alone know it.
    """
    draft, view = value.draft, value.view
    known = draft.axes.get("out") if draft is not None else None
    if known is None or len(view.shape) != 3 or view.shape[2] != view.base[-1]:
        return {}
    return {"out": known} if view.walk.dims[-1] == Along(2) else {}
