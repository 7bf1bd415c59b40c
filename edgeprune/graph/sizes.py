"""Where sizes in the network's code come from: read from a tensor, from an attribute, or written there.

A static graph holds the number 400 both for ``x.view(-1, 400)`` and for ``x.view(-1, c * h * w)``;
only the second still runs when channels are gone. So while the network runs once before it is
exported, the sizes of its tensors and the integer attributes of its modules are integers that
remember their origin, and what arrives at an operator that takes sizes is written down. Calls are
matched with nodes by operator and source line, in order. What cannot be matched counts as written
in the code, which costs pruning opportunities, never correctness.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

_TORCH = str(Path(torch.__file__).parent)
_META = "edgeprune.sizes"


@dataclass(frozen=True, slots=True)
class Attribute:
    """An integer that a module keeps: ``module.name``, or entry ``index`` of the tuple of this name."""

    module: str
    name: str
    index: int | None = None

    def __str__(self) -> str:
        where = f"{self.module}.{self.name}" if self.module else self.name
        return where if self.index is None else f"{where}[{self.index}]"


@dataclass(frozen=True, slots=True)
class Read:
    """A product of axes of tensors, times a constant: ``c // 2``, ``c * h * w``."""

    axes: tuple[tuple[Node, int], ...]


class Origin(Enum):
    """Of a size that is neither."""

    WRITTEN = "a number in the code, or computed in a way that was not followed"
    OPEN = "-1, or the open end of a slice"


Size = Attribute | Read | Origin


def origins(node: Node, sizes: Iterable[Any]) -> list[Size]:
    """Where each of ``sizes``, which stand among the arguments of ``node``, comes from."""
    given = list(sizes)
    seen: list[Size] = node.meta.get(_META) or []
    if len(seen) != len(given):
        seen = [Origin.WRITTEN] * len(given)
    return [Origin.OPEN if size == -1 else origin for size, origin in zip(given, seen, strict=True)]


_Source = tuple[str, str, int, int]
"""Which tensor: operator, source line, number of the call there, number of the result."""


class _Known(int):
    """An integer that remembers: an attribute's value, or a product of sizes that were read."""

    attribute: Attribute | None = None
    axes: tuple[tuple[_Source, int], ...] = ()
    ratio: Fraction = Fraction(1)
    computed: set[Attribute]  # of the whole run: attributes that arithmetic was done with

    @classmethod
    def of(cls, value: int, computed: set[Attribute], **what: Any) -> _Known:
        known = cls(value)
        known.computed = computed
        for name, x in what.items():
            setattr(known, name, x)
        return known


def _followed(name: str) -> Callable[..., Any]:
    plain = getattr(int, name)

    def method(self: _Known, other: Any) -> Any:
        result = plain(self, other)
        for x in (self, other):
            if isinstance(x, _Known) and x.attribute:
                x.computed.add(x.attribute)
        if type(result) is not int or type(other) not in (int, _Known):
            return result
        a, b = (self, other) if not name.startswith("__r") else (other, self)
        combined = _combined(name.strip("_").removeprefix("r"), _product(a), _product(b))
        if combined is None or not combined[0]:
            return result
        return _Known.of(result, self.computed, axes=combined[0], ratio=combined[1])

    return method


def _product(x: int) -> tuple[tuple[Any, ...], Fraction]:
    return (x.axes, x.ratio) if isinstance(x, _Known) and x.axes else ((), Fraction(int(x)))


def _combined(operation: str, a: Any, b: Any) -> tuple[tuple[Any, ...], Fraction] | None:
    """(axes, ratio) of the result; ``None`` for what is no product of sizes."""
    if operation == "mul":
        return a[0] + b[0], a[1] * b[1]
    if operation == "floordiv" and not b[0] and b[1]:
        return a[0], a[1] / b[1]
    if operation in ("add", "sub") and a[0] == b[0]:
        return a[0], a[1] + b[1] * (1 if operation == "add" else -1)
    return None


for _name in ("add", "sub", "mul", "floordiv", "mod", "truediv", "pow"):
    setattr(_Known, f"__{_name}__", _followed(f"__{_name}__"))
    setattr(_Known, f"__r{_name}__", _followed(f"__r{_name}__"))

# Names of one operator: as Python calls it, as the exporter records it.
_ALIASES = {
    "reshape": "view",
    "unsafe_view": "view",
    "split_with_sizes": "split",
    "getitem": "slice",
    "iadd": "add",
    "isub": "sub",
    "imul": "mul",
    "radd": "add",
    "rmul": "mul",
    "truediv": "div",
    "multi_head_attention_forward": "",
}


def _operator(target: Any) -> str:
    name = str(getattr(target, "__name__", "")).split(".")[0].strip("_")
    return _ALIASES.get(name, name)


def _sizes_of(operator: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[list[Any]] | None:
    """The sizes that a call gives to each node it is recorded as; ``None`` for calls of no interest."""
    rest = (*args[1:], *(v for k, v in kwargs.items() if k not in ("input", "dim")))
    if operator in ("view", "expand"):
        return [_listed(*rest)]
    if operator == "unflatten":
        return [_listed(rest[-1])]
    if operator == "split":
        return [_listed(rest[0])]
    if operator == "slice":
        index = rest[0] if isinstance(rest[0], tuple) else (rest[0],)
        return [[i.start, i.stop] for i in index if isinstance(i, slice) and i != slice(None)]
    return None


def _listed(*values: Any) -> list[Any]:
    """``f(2, 3)`` and ``f((2, 3))`` alike."""
    return list(values[0]) if len(values) == 1 and isinstance(values[0], (tuple, list)) else list(values)


class Recorder(TorchFunctionMode):
    """Writes down what arrives at operators that take sizes, by operator and source line."""

    def __init__(self, inputs: Iterable[Tensor], parameters: Iterable[tuple[str, Tensor]]) -> None:
        super().__init__()
        self.computed: set[Attribute] = set()
        self.calls: dict[tuple[str, str], list[list[Any]]] = defaultdict(list)
        self._alive: list[Tensor] = []  # the identity of a tensor is its name while it lives
        self._made: dict[int, _Source] = {}
        for i, x in enumerate(inputs):
            self._name(x, ("input", "", i, 0))
        for name, p in parameters:
            self._name(p, ("parameter", name, 0, 0))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        operator, line = _operator(func), _line()
        sizes = _sizes_of(operator, args, kwargs)
        if sizes is None:
            # An attribute that any other operator reads must stay as it is.
            read = tree_leaves((args, kwargs))
            self.computed.update(v.attribute for v in read if isinstance(v, _Known) and v.attribute)
        result = func(*args, **kwargs)
        if isinstance(result, torch.Size):
            return torch.Size([self._read(args[0], d, size) for d, size in enumerate(result)])
        if type(result) is int and operator in ("size", "len"):
            dim = 0 if operator == "len" else [*args[1:], *kwargs.values()][0]
            return self._read(args[0], int(dim) % args[0].dim(), result)
        if operator == "shape":
            return result
        calls = self.calls[operator, line]
        for i, x in enumerate(tree_leaves(result)):
            if isinstance(x, Tensor) and operator != "slice":
                self._name(x, (operator, line, len(calls), i))
        calls += [[]] if sizes is None else sizes
        return result

    def _name(self, x: Tensor, source: _Source) -> None:
        self._alive.append(x)
        self._made.setdefault(id(x), source)  # an operator with nothing to do returns its operand, and leaves no node

    def _read(self, x: Tensor, dim: int, size: int) -> int:
        source = self._made.get(id(x))
        return size if source is None else _Known.of(size, self.computed, axes=((source, dim),))


@contextmanager
def remembered(module: nn.Module, inputs: Iterable[Tensor]) -> Iterator[Recorder]:
    """Follow the sizes of ``module`` while it runs inside the ``with`` block; the result is for :func:`annotate`."""
    named = [*module.named_parameters(), *module.named_buffers()]
    recorder = Recorder(inputs, named)
    plain: list[tuple[nn.Module, str, Any]] = []
    for path, layer in module.named_modules():
        if type(layer).__module__.startswith("torch.") and not isinstance(layer, nn.Unflatten):
            continue
        for name, value in list(vars(layer).items()):
            known = _tagged(value, path, name, recorder.computed)
            if known is not None:
                plain.append((layer, name, value))
                vars(layer)[name] = known
    try:
        with recorder:
            yield recorder
    finally:
        for layer, name, value in plain:
            vars(layer)[name] = value
        for layer in module.modules():
            kept = {name: int(value) for name, value in vars(layer).items() if isinstance(value, _Known)}
            vars(layer).update(kept)  # sizes that the forward pass stored


def _tagged(value: Any, path: str, name: str, computed: set[Attribute]) -> Any:
    if name.startswith("_"):
        return None
    if type(value) is int:
        return _Known.of(value, computed, attribute=Attribute(path, name))
    if type(value) in (tuple, list) and value and all(type(v) is int for v in value):
        return type(value)(_Known.of(v, computed, attribute=Attribute(path, name, i)) for i, v in enumerate(value))
    return None


def annotate(
    graph: Graph,
    recorder: Recorder,
    line: Callable[[Node], str],
    inputs: tuple[Node, ...],
    parameters: Mapping[str, str],
) -> None:
    """Write origins onto the nodes; only where a line recorded as many nodes as it made calls.

    Args:
        parameters: placeholder name -> parameter name.
    """
    found: dict[tuple[str, str], list[Node]] = defaultdict(list)
    for node in graph.nodes:
        if node.op == "call_function" and (operator := _operator(node.target)):
            found[operator, line(node)].append(node)
    matched = {key: nodes for key, nodes in found.items() if len(nodes) == len(recorder.calls.get(key, ()))}
    placeholders = {parameters[n.name]: n for n in graph.nodes if n.name in parameters}

    def made(source: _Source) -> Node | None:
        operator, where, call, result = source
        if operator == "input":
            return inputs[call] if call < len(inputs) else None
        if operator == "parameter":
            return placeholders.get(where)
        node = matched[operator, where][call] if (operator, where) in matched else None
        if node is not None and not isinstance(node.meta.get("val"), Tensor):
            return next((n for n in node.users if n.args[1:] == (result,)), None)
        return node

    def origin(value: Any) -> Size:
        if value is None:
            return Origin.OPEN
        if not isinstance(value, _Known) or value.computed is not recorder.computed:
            return Origin.WRITTEN  # plain, or kept by some cache since an earlier run
        if value.attribute is not None:
            return Origin.WRITTEN if value.attribute in recorder.computed else value.attribute
        axes = [(made(source), dim) for source, dim in value.axes]
        known = tuple((node, dim) for node, dim in axes if node is not None)
        return Read(known) if len(known) == len(axes) else Origin.WRITTEN

    for key, nodes in matched.items():
        for node, sizes in zip(nodes, recorder.calls[key], strict=True):
            if sizes:
                node.meta[_META] = [origin(v) for v in sizes]


def _line() -> str:
    """The innermost line of a ``forward`` outside torch, which is what the exporter keeps; else empty."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "forward" and not code.co_filename.startswith(_TORCH):
            return f"{code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
