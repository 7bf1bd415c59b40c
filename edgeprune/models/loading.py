"""Loading of every kind of model: ``zoo:NAME``, ``package.module:factory``, ``file.py:factory``, ``.pt2``, ``.onnx``.

Nothing that a file contains is ever executed; ``file.py:factory`` is the user's own code and runs as such.
"""

from __future__ import annotations

import copy
import hashlib
import math
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeprune.errors import ModelLoadError, UnsupportedOperatorError, UsageError
from edgeprune.models import entrypoint, zoo
from edgeprune.models.interface import Interface, own_interface
from edgeprune.models.safety import SAFETENSORS_HINT, refuse_pickle, regular_file
from edgeprune.models.types import in_float32, inputs_in_float32
from edgeprune.models.weights import load_weights

if TYPE_CHECKING:
    from edgeprune.models.onnx.load import Port

_KINDS = "zoo:NAME, package.module:factory, FILE.py:factory, FILE.pt2 or FILE.onnx"
_MAX_ELEMENTS = 2**28


Shapes = tuple[int, ...] | Mapping[str, tuple[int, ...]] | None
"""Of the only input, or of inputs by name."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A network and inputs it runs on.

    Attributes:
        module: in ``eval`` mode, float32, on the CPU.
        example_inputs: noise of the right shapes, the same for the same seed; float32, integers or truth values.
        name: short, fit for a folder: ``resnet20``.
        source: what the user wrote.
        interface: what its program takes and gives, where tracing does not say so.
    """

    module: nn.Module
    example_inputs: tuple[Tensor, ...]
    name: str
    source: str
    interface: Interface = field(default_factory=Interface)

    @property
    def digest(self) -> str:
        """sha256 over names, shapes and values of the module's tensors."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def load_model(
    source: str,
    *,
    weights: str | Path | None = None,
    input_shape: Shapes = None,
    example: str | Path | None = None,
    seed: int = 0,
) -> LoadedModel:
    """Load a network.

    Args:
        source: ``zoo:NAME`` with options as in ``zoo:resnet20?width=2&num_classes=10&in_channels=1``;
            ``package.module:factory`` or ``FILE.py:factory``, which may return a module, or a module and its
            example inputs; an exported program ``FILE.pt2``; ``FILE.onnx``.
        weights: a safetensors file that replaces all weights. Pickled checkpoints are refused.
        input_shape: (N, C, H, W), or that of each input by its name (ONNX); needed where the source does not know it.
        example: an ``.npz`` file of example inputs, by name (ONNX) or in order: for integers that are places in a
            table, say. Without it real numbers are noise, integers and truth values 0. Integers and truth values of
            an ONNX file that decide a branch, a loop or a shape become constants of these values.
        seed: of random weights and of the example inputs.

    Raises:
        ModelLoadError: anything that cannot be loaded, with what to do.
        UnsupportedOperatorError: an operator of an ONNX file or exported program that edgeprune does not know.
    """
    if isinstance(input_shape, tuple):
        _check_shape(input_shape)
    for shape in input_shape.values() if isinstance(input_shape, Mapping) else ():
        _check_shape(shape)
    examples = {} if example is None else read_examples(Path(example))
    read = _kind(source)(source, input_shape, examples, seed)
    return _loaded(read, source, weights, seed)


def wrap_module(
    module: nn.Module,
    example_inputs: Tensor | Sequence[Tensor] | Sequence[int] | None,
    *,
    weights: str | Path | None = None,
    seed: int = 0,
) -> LoadedModel:
    """A ``torch.nn.Module`` as a loaded model: a copy of it, and the module stays as it is.

    Args:
        example_inputs: a tensor, a sequence of tensors, or the shape of the only input.

    Raises:
        UsageError: the inputs are none of these. ModelLoadError: the module does not run on them.
    """
    inputs = _examples(example_inputs)
    if inputs is None:
        raise UsageError(
            f"a module needs example inputs, and {example_inputs!r} is none",
            hint="give example_inputs=(1, 3, 224, 224), a tensor or a tuple of tensors",
        )
    kind = type(module)
    inputs = [i.detach().cpu() if isinstance(i, Tensor) else i for i in inputs]
    module = _copied(module).to("cpu")
    read = _Read(module, inputs, kind.__name__.lower())
    return _loaded(read, f"{kind.__module__}.{kind.__qualname__}", weights, seed)


def parse_shape(shape: str | Sequence[int] | Mapping[str, Sequence[int]] | None) -> Shapes:
    """``1x3x224x224`` (or with commas) as integers, ``images=1x3x320x320,length=1`` as those of each name.

    Raises:
        UsageError: anything else.
    """
    if isinstance(shape, Mapping):
        return {name: tuple(given) for name, given in shape.items()}
    if shape is None or not isinstance(shape, str):
        return None if shape is None else tuple(shape)
    if "=" not in shape:
        return _numbers(shape)
    found: dict[str, tuple[int, ...]] = {}
    for part in re.split(r",(?=[^,=]*=)", shape):
        name, _, given = part.rpartition("=")
        if not name.strip() or name.strip() in found:
            raise UsageError(f"{shape!r} names no input, or one twice", hint="write it as images=1x3x320x320,length=1")
        found[name.strip()] = _numbers(given)
    return found


def _numbers(shape: str) -> tuple[int, ...]:
    parts = shape.lower().replace(",", "x").split("x")
    if not all(p.strip().isdecimal() and int(p) > 0 for p in parts):
        raise UsageError(f"{shape!r} is not an input shape", hint="write it as 1x3x224x224")
    return tuple(int(p) for p in parts)


def _copied(module: nn.Module) -> nn.Module:
    """A copy, also of a module whose hooks (torch.nn.utils.prune) keep a computed weight and how it was computed."""
    memo = {
        id(t): t.detach().clone()
        for m in module.modules()
        for t in vars(m).values()
        if isinstance(t, Tensor) and not t.is_leaf
    }
    return copy.deepcopy(module, memo)


def _examples(given: Any) -> list[Any] | None:
    """Example inputs, or the shape of the only one, as a list; None for anything else."""
    if isinstance(given, Tensor):
        return [given]
    if isinstance(given, tuple | list) and given:
        if all(isinstance(i, Tensor) for i in given):
            return list(given)
        if all(isinstance(i, int) for i in given):
            _check_shape(tuple(given))
            return [tuple(given)]
    return None


class _Read(NamedTuple):
    """A network as it was read: example inputs are tensors, or shapes of real numbers."""

    module: nn.Module
    inputs: list[Any]
    name: str
    interface: Interface | None = None  # None: as the module has it


def _loaded(read: _Read, source: str, weights: str | Path | None, seed: int) -> LoadedModel:
    module, inputs, name, interface = read
    module.eval()
    if weights is not None:
        load_weights(module, Path(weights))
    interface = own_interface(module, inputs) if interface is None else interface
    in_float32(module, source)
    examples = tuple(_noise(i, seed + n) if isinstance(i, tuple) else i for n, i in enumerate(inputs))
    examples = inputs_in_float32(examples, source)
    _try(module, examples, source)
    return LoadedModel(module, examples, name, source, interface)


Examples = Mapping[str, Tensor]
Loader = Callable[[str, Shapes, Examples, int], _Read]


def read_examples(file: Path) -> dict[str, Tensor]:
    """The arrays of an ``.npz`` file as tensors, in its order.

    Raises:
        ModelLoadError: it is none, or holds something else than numbers.
    """
    regular_file(file)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
    except (ValueError, TypeError, OSError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise ModelLoadError(
            f"{file} holds no example inputs: {error}",
            hint="write them with numpy.savez(file, NAME=array, …)",
            file=str(file),
        ) from error


def _one_shape(shape: Shapes, source: str) -> tuple[int, ...] | None:
    if isinstance(shape, Mapping):
        hint = "give the shape alone, or example inputs: --example FILE.npz"
        raise UsageError(f"inputs of {source} have no names here", hint=hint)
    return shape


def _given(shape: Shapes, examples: Examples, source: str) -> list[Any] | None:
    """What is said of the inputs from outside; None: nothing."""
    one = _one_shape(shape, source)
    return list(examples.values()) or (None if one is None else [one])


def _kind(source: str) -> Loader:
    if source.startswith("zoo:"):
        return _from_zoo
    suffix = Path(source).suffix.lower()
    if suffix == ".onnx":
        return _from_onnx
    if suffix == ".pt2":
        return _from_pt2
    if entrypoint.is_entrypoint(source):
        return _from_factory
    file = Path(source)
    if file.is_file():
        refuse_pickle(file)
        hint = SAFETENSORS_HINT if suffix == ".safetensors" else f"a model is {_KINDS}"
        raise ModelLoadError(f"{file} holds no network that edgeprune can read", hint=hint, source=source)
    raise ModelLoadError(f"{source!r} is no model", hint=f"a model is {_KINDS}", source=source)


def _from_zoo(source: str, shape: Shapes, examples: Examples, seed: int) -> _Read:
    name, _, query = source.removeprefix("zoo:").partition("?")
    try:
        options = {k: _number(v) for k, v in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))}
    except ValueError as error:
        raise ModelLoadError(
            f"the options of {source!r} cannot be read: {error}",
            hint="write them as zoo:resnet20?width=2&num_classes=10",
            source=source,
        ) from error
    inputs = _given(shape, examples, source) or [zoo.input_shape(name, **options)]
    return _Read(zoo.build(name, seed=seed, **options), inputs, name)


def _from_factory(source: str, shape: Shapes, examples: Examples, seed: int) -> _Read:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = entrypoint.call(source)
    module, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, nn.Module):
        raise ModelLoadError(
            f"{source} returned {type(made).__name__}",
            hint="a factory returns a torch.nn.Module, or a module and its example inputs",
            source=source,
        )
    inputs = _given(shape, examples, source) or _examples(inputs)
    if inputs is None:
        raise ModelLoadError(
            f"the input shape of {source} is not known",
            hint="give --input-shape 1x3x224x224, or let the factory return (module, (example_input,))",
            source=source,
        )
    return _Read(module, inputs, source.rpartition(":")[2])


def _from_pt2(source: str, shape: Shapes, examples: Examples, seed: int) -> _Read:
    from edgeprune.models.pt2 import load_pt2

    module, shapes = load_pt2(Path(source))
    given = _given(shape, examples, source)
    asked = None if given is None else [tuple(i.shape) if isinstance(i, Tensor) else i for i in given]
    if asked is not None and asked != shapes:
        raise ModelLoadError(
            f"{source} was exported for the shapes {shapes}, not {asked[0] if len(asked) == 1 else asked}",
            hint="export it again with inputs of the shape it will run with",
            source=source,
        )
    return _Read(module, given or list(shapes), Path(source).stem)


def _from_onnx(source: str, shape: Shapes, examples: Examples, seed: int) -> _Read:
    from edgeprune.models.onnx.load import load_onnx

    shapes: Shapes = shape
    if examples:
        shapes = {**(shape if isinstance(shape, Mapping) else {}), **{n: tuple(t.shape) for n, t in examples.items()}}
    whole = {n: t.numpy() for n, t in examples.items() if not t.is_floating_point()}
    fixed: dict[str, NDArray[Any]] = {}
    while True:
        try:
            network = load_onnx(Path(source), shapes, fixed)
            break
        except UnsupportedOperatorError as error:
            # A branch, a shape or a course of a loop hangs on it: the example is the value it is deployed with.
            needed = {n: whole[n] for n in error.details.get("needs", ()) if n in whole and n not in fixed}
            if not needed:
                raise
            fixed |= needed
    inputs = [examples.get(p.name, p.shape if p.dtype.is_floating_point else _zeros(p)) for p in network.inputs]
    return _Read(network.module, inputs, Path(source).stem, network.interface)


def _zeros(port: Port) -> Tensor:
    return torch.zeros(port.shape, dtype=port.dtype)


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _check_shape(shape: tuple[int, ...]) -> None:
    if not shape or min(shape) < 1 or math.prod(shape) > _MAX_ELEMENTS:
        raise ModelLoadError(f"{shape} is no input shape", hint="write it as 1x3x224x224", input_shape=list(shape))


def _noise(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _try(module: nn.Module, inputs: tuple[Tensor, ...], source: str) -> None:
    shapes = [list(i.shape) for i in inputs]
    try:
        with torch.no_grad():
            module(*inputs)
    except Exception as error:
        raise ModelLoadError(
            f"{source} does not run on inputs of the shapes {shapes}: {error}",
            hint="check --input-shape and the options of the factory",
            source=source,
            shapes=shapes,
        ) from error
