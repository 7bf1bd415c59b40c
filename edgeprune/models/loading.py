"""Loading of every kind of model: ``zoo:NAME``, ``package.module:factory``, ``file.py:factory``, ``.pt2``, ``.onnx``.

Nothing that a file contains is ever executed; ``file.py:factory`` is the user's own code and runs as such.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import torch
from torch import Tensor, nn

from edgeprune.errors import ModelLoadError, UsageError
from edgeprune.models import entrypoint, zoo
from edgeprune.models.safety import SAFETENSORS_HINT, refuse_pickle
from edgeprune.models.types import in_float32, inputs_in_float32
from edgeprune.models.weights import load_weights

_KINDS = "zoo:NAME, package.module:factory, FILE.py:factory, FILE.pt2 or FILE.onnx"
_MAX_ELEMENTS = 2**28


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A network and inputs it runs on.

    Attributes:
        module: in ``eval`` mode, float32, on the CPU.
        example_inputs: noise of the right shapes, the same for the same seed.
        name: short, fit for a folder: ``resnet20``.
        source: what the user wrote.
    """

    module: nn.Module
    example_inputs: tuple[Tensor, ...]
    name: str
    source: str

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
    input_shape: tuple[int, ...] | None = None,
    seed: int = 0,
) -> LoadedModel:
    """Load a network.

    Args:
        source: ``zoo:NAME`` with options as in ``zoo:resnet20?width=2&num_classes=10&in_channels=1``;
            ``package.module:factory`` or ``FILE.py:factory``, which may return a module, or a module and its
            example inputs; an exported program ``FILE.pt2``; ``FILE.onnx``.
        weights: a safetensors file that replaces all weights. Pickled checkpoints are refused.
        input_shape: (N, C, H, W); needed where the source does not know it.
        seed: of random weights and of the example inputs.

    Raises:
        ModelLoadError: anything that cannot be loaded, with what to do.
        UnsupportedOperatorError: an operator of an ONNX file or exported program that edgeprune does not know.
    """
    if input_shape is not None:
        _check_shape(input_shape)
    module, inputs, name = _kind(source)(source, input_shape, seed)
    return _loaded(module, inputs, name, source, weights, seed)


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
    return _loaded(module, inputs, kind.__name__.lower(), f"{kind.__module__}.{kind.__qualname__}", weights, seed)


def parse_shape(shape: str | Sequence[int] | None) -> tuple[int, ...] | None:
    """``1x3x224x224`` (or with commas) as integers; integers as they are.

    Raises:
        UsageError: anything else.
    """
    if shape is None or not isinstance(shape, str):
        return None if shape is None else tuple(shape)
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


def _loaded(
    module: nn.Module, inputs: list[Any], name: str, source: str, weights: str | Path | None, seed: int
) -> LoadedModel:
    module.eval()
    if weights is not None:
        load_weights(module, Path(weights))
    in_float32(module, source)
    examples = tuple(_noise(i, seed + n) if isinstance(i, tuple) else i for n, i in enumerate(inputs))
    examples = inputs_in_float32(examples, source)
    _try(module, examples, source)
    return LoadedModel(module, examples, name, source)


Loader = Callable[[str, tuple[int, ...] | None, int], tuple[nn.Module, list[Any], str]]


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


def _from_zoo(source: str, shape: tuple[int, ...] | None, seed: int) -> tuple[nn.Module, list[Any], str]:
    name, _, query = source.removeprefix("zoo:").partition("?")
    try:
        options = {k: _number(v) for k, v in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))}
    except ValueError as error:
        raise ModelLoadError(
            f"the options of {source!r} cannot be read: {error}",
            hint="write them as zoo:resnet20?width=2&num_classes=10",
            source=source,
        ) from error
    return zoo.build(name, seed=seed, **options), [shape or zoo.input_shape(name, **options)], name


def _from_factory(source: str, shape: tuple[int, ...] | None, seed: int) -> tuple[nn.Module, list[Any], str]:
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
    inputs = [shape] if shape is not None else _examples(inputs)
    if inputs is None:
        raise ModelLoadError(
            f"the input shape of {source} is not known",
            hint="give --input-shape 1,3,224,224, or let the factory return (module, (example_input,))",
            source=source,
        )
    return module, inputs, source.rpartition(":")[2]


def _from_pt2(source: str, shape: tuple[int, ...] | None, seed: int) -> tuple[nn.Module, list[Any], str]:
    from edgeprune.models.pt2 import load_pt2

    module, shapes = load_pt2(Path(source))
    if shape is not None and [shape] != shapes:
        raise ModelLoadError(
            f"{source} was exported for the shapes {shapes}, not {shape}",
            hint="export it again with inputs of the shape it will run with",
            source=source,
        )
    return module, list(shapes), Path(source).stem


def _from_onnx(source: str, shape: tuple[int, ...] | None, seed: int) -> tuple[nn.Module, list[Any], str]:
    from edgeprune.models.onnx_import import load_onnx

    module, shapes = load_onnx(Path(source), shape)
    return module, list(shapes), Path(source).stem


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _check_shape(shape: tuple[int, ...]) -> None:
    if not shape or min(shape) < 1 or math.prod(shape) > _MAX_ELEMENTS:
        raise ModelLoadError(f"{shape} is no input shape", hint="write it as 1,3,224,224", input_shape=list(shape))


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
