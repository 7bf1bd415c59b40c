"""The module that an ONNX graph becomes, written call by call as an fx graph.

Every call is run as it is written: on constants for real, so that whatever depends on constants alone is known at
import, and on fake tensors otherwise, so that shapes and types are known and a network that claims absurd sizes is
refused before memory is taken for them.
"""

from __future__ import annotations

import contextlib
import logging
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.fx import Graph, GraphModule, Node
from torch.utils.flop_counter import FlopCounterMode

from edgeprune.models.onnx.file import MAX_ELEMENTS
from edgeprune.models.onnx.names import free_path, identifier, parts
from edgeprune.models.onnx.types import HELD, of_torch
from edgeprune.models.onnx.values import Unsupported, Value

MAX_FOLDED = 2**28
"""Bytes of all constants that are computed at import, beside 16 times those of the file's own."""
MAX_MADE = 2**24
"""Elements of a constant that is made of nothing but a few numbers."""
MAX_FLOPS = 2**35
"""Multiply-adds (times two) of all that is computed at import."""
MAX_CALLS = 30_000
"""Nodes that are read, and calls in one module: loops are unrolled."""


class TooLarge(Exception):
    """A result that claims more than is believed."""


class Builder:
    """Writes one module.

    Attributes:
        parameter_names: path of a parameter or buffer -> name of the initializer that it was.
    """

    def __init__(self, held_bytes: int = 0) -> None:
        self._most = MAX_FOLDED + 16 * held_bytes
        self._graph, self._root = Graph(), nn.Module()
        self._fakes = FakeTensorMode(allow_non_fake_inputs=True)
        self._tensors: dict[int, tuple[Value, Tensor]] = {}
        self._attributes: dict[int, Node] = {}
        self._layers: dict[tuple[Any, ...], str] = {}
        self._inputs: list[str] = []
        self._folded = self._calls = self._nodes = self._flops = 0
        self.parameter_names: dict[str, str] = {}

    def spend(self, elements: int) -> None:
        """Before that many elements are made of nothing.

        Raises:
            TooLarge: they are too many.
        """
        if elements > MAX_MADE:
            raise TooLarge(f"it makes {elements} elements, more than {MAX_MADE}")
        self._spend_bytes(8 * elements)

    def _spend_bytes(self, count: int) -> None:
        self._folded += count
        if self._folded > self._most:
            raise TooLarge(f"constants of more than {self._most} bytes are computed")

    def expect_nodes(self, count: int) -> None:
        """Before that many nodes are read, all of them: what will be too much is refused before the first.

        Raises:
            TooLarge: together with those before they are too many.
        """
        if self._nodes + count > MAX_CALLS:
            raise TooLarge(f"the network has more than {MAX_CALLS} nodes, once its loops run")

    def spend_node(self) -> None:
        """Before a node is read; raises TooLarge."""
        self.expect_nodes(1)
        self._nodes += 1

    def input(self, name: str, shape: tuple[int, ...], kind: int) -> Value:
        """An input of the module."""
        plain = identifier(name, self._inputs)
        self._inputs.append(plain)
        with self._fakes:
            fake = torch.empty(shape, dtype=HELD[kind])
        node = self._graph.placeholder(plain)
        node.meta["shape"] = shape
        return Value(kind, fake, node)

    def call(
        self, function: Callable[..., Any] | str, *args: Any, kind: int | None = None, **kwargs: Any
    ) -> tuple[Value, ...]:
        """The result of a function of tensors, or of a method by its name, on values and plain arguments.

        Args:
            kind: element type of the result; by default that of the first argument which is held as the result is.

        Returns:
            What the function returns, as a tuple also where it is one tensor.

        Raises:
            TooLarge, Unsupported: a shape that is not believed, or not known before it runs.
            Whatever the function raises of arguments that do not fit.
        """
        values = [v for v in _leaves((args, kwargs)) if isinstance(v, Value)]
        run = _method(function) if isinstance(function, str) else function
        if all(v.known for v in values):
            return self._eager(run, args, kwargs, values, kind)
        result = self._on_fakes(run, args, kwargs, values)
        written = _mapped((args, kwargs), self._written)
        if isinstance(function, str):
            node = self._graph.call_method(function, *written)
        else:
            node = self._graph.call_function(function, *written)
        return self._results(result, node, values, kind)

    def layer(
        self,
        steps: Sequence[str],
        layer: nn.Module,
        *args: Any,
        tensors: dict[str, Value] | None = None,
        kind: int | None = None,
    ) -> tuple[Value, ...]:
        """The results of a layer, with ``tensors`` as its parameters and buffers by name; those are on the meta device.

        Raises:
            Unsupported: a tensor has another shape than the layer's.
        """
        for name, value in (tensors or {}).items():
            slot = getattr(layer, name)
            if tuple(slot.shape) != value.shape:
                raise Unsupported(f"its {name} has the shape {list(value.shape)}, not {list(slot.shape)}")
        for name, value in (tensors or {}).items():
            tensor = self._tensor(value)
            if name not in layer._parameters:
                tensor = tensor.detach()
            elif not isinstance(tensor, nn.Parameter):
                # One parameter for all layers that share it.
                tensor = nn.Parameter(tensor)
                self._tensors[id(value)] = value, tensor
            setattr(layer, name, tensor)
        layer.eval()
        values = [v for v in _leaves(args) if isinstance(v, Value)]
        if all(v.known for v in values):
            return self._eager(layer, args, {}, values, kind)
        result = self._on_fakes(layer, args, {}, values)
        key = (type(layer), layer.extra_repr(), *(id(t) for t in (*layer.parameters(), *layer.buffers())))
        path = self._layers.get(key) if tensors else None
        if path is None:
            path = free_path(self._root, steps)
            self._put(path, layer)
            self._layers[key] = path
            for name, value in (tensors or {}).items():
                if value.name:
                    self.parameter_names[f"{path}.{name}"] = value.name
        node = self._graph.call_module(path, _mapped(args, self._written))
        return self._results(result, node, values, kind)

    def inputs_behind(self, value: Value) -> list[int]:
        """Which inputs a computed value depends on, by their numbers."""
        waiting, seen = [value.node] if value.node is not None else [], set[Node]()
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += node.all_input_nodes
        return sorted(self._inputs.index(str(n.target)) for n in seen if n.op == "placeholder")

    def finish(self, outputs: Sequence[Value]) -> GraphModule:
        """The module, in evaluation mode, without what no output needs."""
        written = tuple(self._written(v) for v in outputs)
        self._graph.output(written[0] if len(written) == 1 else written)
        module = GraphModule(self._root, self._graph, "OnnxModule")
        module.graph.eliminate_dead_code()
        return module.eval()

    def _eager(
        self, run: Callable[..., Any], args: Any, kwargs: Any, values: Sequence[Value], kind: int | None
    ) -> tuple[Value, ...]:
        def tensor(v: Any) -> Any:
            return v.tensor if isinstance(v, Value) else v

        # Where values decide the shape, they are known.
        with contextlib.suppress(Unsupported, NotImplementedError):
            self._counted(run, args, kwargs, values)
        with torch.no_grad():
            real_args, real_kwargs = _mapped((args, kwargs), tensor)
            result = run(*real_args, **real_kwargs)
        results = list(_leaves(result))
        given = {v.tensor.data_ptr() for v in values}
        self._spend_bytes(sum(t.numel() * t.element_size() for t in results if t.data_ptr() not in given))
        return self._results(result, None, values, kind)

    def _counted(self, run: Callable[..., Any], args: Any, kwargs: Any, values: Sequence[Value]) -> None:
        """Shapes of what is about to be computed, and its cost."""
        with FlopCounterMode(display=False) as counter:
            result = self._on_fakes(run, args, kwargs, values)
        made = sum(t.numel() * t.element_size() for t in _leaves(result) if isinstance(t, Tensor))
        if self._folded + made > self._most:
            raise TooLarge(f"constants of more than {self._most} bytes are computed")
        self._flops += counter.get_total_flops()
        if self._flops > MAX_FLOPS:
            raise TooLarge(f"constants are computed by more than {MAX_FLOPS} operations")

    def _on_fakes(self, run: Callable[..., Any], args: Any, kwargs: Any, values: Sequence[Value]) -> Any:
        computed = any(not v.known for v in values)

        def tensor(v: Any) -> Any:
            if not isinstance(v, Value):
                return v
            return v.tensor.float() if computed and v.tensor.dtype == torch.float64 else v.tensor

        self._calls += 1
        if self._calls > MAX_CALLS:
            raise TooLarge(f"the network has more than {MAX_CALLS} calls")
        fake_args, fake_kwargs = _mapped((args, kwargs), tensor)
        try:
            with _quiet(), self._fakes, torch.no_grad():
                result = run(*fake_args, **fake_kwargs)
        except (DynamicOutputShapeException, DataDependentOutputException) as e:
            raise Unsupported("the shape of its result depends on values that are computed") from e
        for t in _leaves(result):
            if t.numel() > MAX_ELEMENTS:
                raise TooLarge(f"its result has the shape {list(t.shape)}, more than {MAX_ELEMENTS} elements")
        return result

    def _results(self, result: Any, node: Node | None, values: Sequence[Value], kind: int | None) -> tuple[Value, ...]:
        found: list[Value] = []

        def take(part: Any, node: Node | None) -> None:
            if isinstance(part, Tensor):
                if node is not None:
                    node.meta["shape"] = tuple(part.shape)
                found.append(Value(_kind(part, values) if kind is None else kind, part, node))
                return
            for i, item in enumerate(part):
                take(item, None if node is None else self._graph.call_function(operator.getitem, (node, i)))

        take(result, node)
        return tuple(found)

    def _written(self, value: Any) -> Any:
        if not isinstance(value, Value):
            return value
        if value.node is not None:
            return value.node
        if id(value) not in self._attributes:
            tensor = self._tensor(value)
            path = free_path(self._root, _constant_steps(value, len(self._attributes)))
            self._put(path, tensor)
            if value.name:
                self.parameter_names[path] = value.name
            self._attributes[id(value)] = self._graph.get_attr(path)
        return self._attributes[id(value)]

    def _tensor(self, value: Value) -> Tensor:
        """A constant as parameter (an initializer of real numbers) or buffer; the same one each time."""
        if id(value) not in self._tensors:
            tensor = value.tensor.detach()
            if tensor.dtype == torch.float64:
                tensor = tensor.float()
            if tensor.is_floating_point() and value.name:
                tensor = nn.Parameter(tensor)
            self._tensors[id(value)] = (value, tensor)
        return self._tensors[id(value)][1]

    def _put(self, path: str, item: nn.Module | Tensor) -> None:
        at = self._root
        *steps, last = path.split(".")
        for step in steps:
            found = getattr(at, step, None)
            if found is None:
                found = nn.Module()
                at.add_module(step, found)
            at = found
        if isinstance(item, nn.Module):
            at.add_module(last, item)
        elif isinstance(item, nn.Parameter):
            at.register_parameter(last, item)
        else:
            at.register_buffer(last, item)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Torch logs what it then raises, with a traceback."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _kind(result: Tensor, values: Sequence[Value]) -> int:
    """Of the first argument that is held as the result is: a sum of uint16 is uint16, a comparison is not."""
    dtype = torch.float32 if result.dtype == torch.float64 else result.dtype
    return next((v.kind for v in values if HELD[v.kind] == dtype), of_torch(result.dtype))


def _constant_steps(value: Value, number: int) -> list[str]:
    return (parts(value.name) if value.name else None) or [f"constant_{number}"]


def _method(name: str) -> Callable[..., Any]:
    def run(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return getattr(x, name)(*args, **kwargs)

    return run


def _leaves(item: Any) -> Iterator[Any]:
    if isinstance(item, tuple | list):
        for part in item:
            yield from _leaves(part)
    elif isinstance(item, dict):
        yield from _leaves(list(item.values()))
    else:
        yield item


def _mapped(item: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(item, tuple | list):
        return type(item)(_mapped(part, function) for part in item)
    if isinstance(item, dict):
        return {key: _mapped(part, function) for key, part in item.items()}
    return function(item)
