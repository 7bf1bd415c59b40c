"""A network as an ONNX file, for runtimes that are not edgeprune's."""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgeprune.errors import UnsupportedOperatorError, UsageError, VerificationError
from edgeprune.files import write_whole
from edgeprune.models.examples import noise_like
from edgeprune.models.precise import RTOL, in_float64, widened

OPSETS = range(11, 21)
DEFAULT_OPSET = 17
BATCH = 3
EXACT = 1e-6
"""What outputs in float64 may differ, relative to the largest."""


def export_onnx(
    module: nn.Module,
    example_inputs: tuple[Tensor, ...],
    file: Path,
    *,
    opset: int = DEFAULT_OPSET,
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
    dynamic_batch: bool = False,
) -> float:
    """Write ``module`` (in evaluation mode, batch norms folded, fixed shapes) to ``file``; run it and compare.

    The file appears once it is whole and gives what torch gives. Weights lie inside it.

    Args:
        dynamic_batch: the first dimension of every input and output is left open; three samples are run as well.

    Returns:
        Largest difference of an output on seeded noise, relative to the largest output.

    Raises:
        UsageError: an opset that is not written, or a network that does not take a batch.
        UnsupportedOperatorError: torch cannot write an operator of the network in this opset.
        VerificationError: the file does not give what torch gives.
    """
    if opset not in OPSETS:
        raise UsageError(f"opset {opset} is not written", hint=f"choose {OPSETS.start} to {OPSETS.stop - 1}")
    generator = torch.Generator().manual_seed(0)
    inputs = tuple(noise_like(x, generator) for x in example_inputs)
    names = list(input_names) or [f"input{i}" if i else "input" for i in range(len(inputs))]
    module = module.eval()
    with torch.no_grad():
        expected = [y for y in tree_leaves(module(*(x.clone() for x in inputs))) if isinstance(y, Tensor)]
    outputs = list(output_names) or [f"output{i}" if i else "output" for i in range(len(expected))]
    batched = _batch_of(module, inputs, expected) if dynamic_batch else None
    given = inputs if batched is None else batched[0]
    axes = {name: {0: "batch"} for name in (*names, *outputs)} if batched else None
    written = partial(_written, opset=opset, names=names, outputs=outputs, axes=axes)
    model = written(module, given)
    try:
        runs = [(inputs, expected), *([batched] if batched else [])]
        difference = max(_difference(model, dict(zip(names, x, strict=True)), y) for x, y in runs)
    except VerificationError as error:
        # Rounding that the network amplifies is 2^29 times smaller in float64, a fault as large as before.
        if "difference" not in error.details or not _right_in_float64(module, given, names, written):
            raise
        difference = error.details["difference"]
    write_whole(file, model.SerializeToString())
    return difference


def _written(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    opset: int,
    names: Sequence[str],
    outputs: Sequence[str],
    axes: dict[str, dict[int, str]] | None,
) -> onnx.ModelProto:
    """The module as torch writes it; raises UnsupportedOperatorError."""
    buffer: Any = io.BytesIO()  # taken, though its type is not among those that are declared
    try:
        # The exporter prints its graph where it fails, and warns of what is constant here on purpose.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                inputs,
                buffer,
                dynamo=False,
                opset_version=opset,
                input_names=list(names),
                output_names=list(outputs),
                dynamic_axes=axes,
            )
    except Exception as error:  # torch has no common type for what it cannot write
        raise UnsupportedOperatorError(
            f"torch cannot write this network as ONNX opset {opset}: {str(error).splitlines()[0]}",
            hint=f"try another --opset ({OPSETS.start} to {OPSETS.stop - 1})",
            opset=opset,
        ) from error
    model = onnx.load_from_string(buffer.getvalue())
    model.producer_name = "edgeprune"
    _drop_identities(model.graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def _right_in_float64(
    module: nn.Module, inputs: tuple[Tensor, ...], names: Sequence[str], written: Callable[..., onnx.ModelProto]
) -> bool:
    """Whether the same network gives what torch gives where both are written and run in float64."""
    try:
        with in_float64(module) as (copied,), torch.no_grad():
            wide = widened(inputs)
            expected = [y for y in tree_leaves(copied.eval()(*(x.clone() for x in wide))) if isinstance(y, Tensor)]
            model = written(copied, wide)
        actual = _by_reference(model, {name: x.numpy() for name, x in zip(names, wide, strict=True)})
        scale = max(float(y.double().abs().max()) for y in expected)
        return max(_apart(a, y.numpy()) for a, y in zip(actual, expected, strict=True)) <= EXACT * scale
    except Exception:  # an evaluator that stops may stop with anything, and code that insists on a type, too
        return False


def _batch_of(
    module: nn.Module, inputs: Sequence[Tensor], expected: Sequence[Tensor]
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Three samples of one kind, and what torch makes of them.

    Raises:
        UsageError: torch does not run them, or makes something else of them than of one.
    """
    given = tuple(torch.cat([x] * BATCH) for x in inputs)
    wanted = [torch.cat([y] * BATCH) if y.dim() else y for y in expected]
    try:
        with torch.no_grad():
            found = [y for y in tree_leaves(module(*(x.clone() for x in given))) if isinstance(y, Tensor)]
        why = next((f"{list(f.shape)}" for f, w in zip(found, wanted, strict=True) if f.shape != w.shape), "")
        if not why and any(not torch.allclose(f, w, 1e-3, 1e-4) for f, w in zip(found, wanted, strict=True)):
            why = "other numbers"
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if why:
        raise UsageError(
            f"the network holds for its own batch alone: of {BATCH} samples at once torch makes {why}",
            hint="leave --dynamic-batch out, or write its reshapes with -1 or x.shape[0] in place of the batch",
        )
    return given, found


def _drop_identities(graph: onnx.GraphProto) -> None:
    """Remove Identity nodes (dropout, weights used twice): their readers read the input directly."""
    outputs = {o.name for o in graph.output}
    same = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Identity" and n.output[0] not in outputs}
    kept = [n for n in graph.node if not (n.op_type == "Identity" and n.output[0] in same)]
    for node in kept:
        for i, name in enumerate(node.input):
            while name in same:
                name = same[name]
            node.input[i] = name
    del graph.node[:]
    graph.node.extend(kept)


def _difference(model: onnx.ModelProto, inputs: dict[str, Tensor], expected: Sequence[Tensor]) -> float:
    """By how much the file's outputs differ from torch's, relative to the largest.

    ONNX Runtime runs it, where it is installed, and ONNX's own reference, if that is not so or they differ: it takes
    minutes for long signals, and has faults of its own, as it raises on some right files and differs on others.

    Raises:
        VerificationError: nobody who could run the file agrees with torch; ``details`` have the smallest
            ``difference``, if there is one.
    """
    given = {name: x.numpy() for name, x in inputs.items()}
    scale = max(float(y.double().abs().max()) for y in expected)
    opinions, least = {}, math.inf
    for name, run in (("ONNX Runtime", _by_runtime), ("onnx.reference", _by_reference)):
        try:
            actual = run(model, given)
            worst = max(_apart(a, y.numpy()) for a, y in zip(actual, expected, strict=True))
        except Exception as error:  # an evaluator that stops may stop with anything
            opinions[name] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            continue
        difference = worst / scale if scale else worst
        if difference <= RTOL:
            return difference
        least = min(least, difference)
        opinions[name] = f"differs by {difference:.1e} of the largest output"
    raise VerificationError(
        f"the ONNX file does not give what torch gives: {'; '.join(f'{k}: {v}' for k, v in opinions.items())}",
        hint="report this network; nothing was written. Where onnxruntime is missing, install it for a second opinion",
        opinions=opinions,
        **({} if math.isinf(least) else {"difference": least}),
    )


def _apart(actual: Any, expected: np.ndarray) -> float:
    """The largest difference of two arrays, also of integers and truth values; of other types or shapes, none."""
    actual = np.asarray(actual)
    if (actual.shape, actual.dtype) != (expected.shape, expected.dtype):
        raise ValueError(f"{actual.dtype} {actual.shape} in place of {expected.dtype} {expected.shape}")
    return float(np.abs(actual.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0))


def _by_reference(model: onnx.ModelProto, inputs: dict[str, Any]) -> Any:
    return ReferenceEvaluator(model).run(None, inputs)


def _by_runtime(model: onnx.ModelProto, inputs: dict[str, Any]) -> Any:
    onnxruntime = importlib.import_module("onnxruntime")  # not among what edgeprune needs

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)
