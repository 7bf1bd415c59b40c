"""The node tests of the ONNX standard (``onnx.backend.test``), through import alone and through compile and run.

    python benchmarks/onnx_backend.py [--only Resize …] [--import-alone] [--json]

Each case is a small network with inputs and the outputs that the standard expects. An input that an operator needs as a
constant (a shape, an axis) is given its value at import, as a user would with a fixed input; where no kernel takes a
weight that is computed, all inputs but the first are, as weights are in files that are exported. Which ones, the rows
say. A case whose inputs are all constants is computed at import and has nothing to compile.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from bars import bar, told

import edgeprune
from edgeprune.compiler.compile import compile_network
from edgeprune.errors import EdgepruneError, UnsupportedOperatorError
from edgeprune.graph.network import read_network
from edgeprune.models.onnx.load import OnnxNetwork, load_onnx
from edgeprune.models.onnx.types import held
from edgeprune.targets import load_target

_LEFT_OUT = {
    "training": "Adagrad Adam Gradient Momentum NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
    "text: a board's program computes with numbers": "RegexFullMatch StringConcat StringNormalizer StringSplit "
    "LabelEncoder TfIdfVectorizer",
    "how many results there are depends on values": "NonMaxSuppression NonZero Unique Compress",
    "optional values: nothing that is exported for a board has one": "Optional OptionalGetElement OptionalHasElement",
    "random numbers: no promise can be checked": "Bernoulli Multinomial RandomNormal RandomUniform RandomNormalLike "
    "RandomUniformLike",
    "decodes files": "ImageDecoder",
    "classic machine learning (ai.onnx.ml)": "ArrayFeatureExtractor Binarizer TreeEnsemble",
    "preview of a coming standard": "FlexAttention LinearAttention CausalConvWithState SwiGLU",
    "maps a function over a sequence": "SequenceMap",
}
_LEFT_OUT_TYPES = {
    "text": "STRING",
    "types of less than 16 bits that no board here computes with": "FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 "
    "FLOAT8E5M2FNUZ FLOAT8E8M0 FLOAT4E2M1 INT4 UINT4 INT2 UINT2",
}
LEFT_OUT = {name: reason for reason, names in _LEFT_OUT.items() for name in names.split()}
"""Operator -> why no case of it is tried."""
LEFT_OUT_TYPES = {name: reason for reason, names in _LEFT_OUT_TYPES.items() for name in names.split()}
"""Cases whose inputs or outputs have these types; files may hold weights in them."""
RTOL, ATOL, BF16 = 1e-3, 1e-4, 2**-7
"""Relative (that of the standard's own runner), absolute; bfloat16 by its last place, since it is not rounded here."""


def array(value: Any) -> np.ndarray:
    """A value of a case; some come as messages."""
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def cases(only: Sequence[str]) -> Iterator[tuple[str, Any, str]]:
    """(operator that the case is about, the case, why it is left out or nothing)."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    known = {s.name.lower(): s.name for s in onnx.defs.get_all_schemas()}
    by_name: dict[str, str] = {}
    for case in found:
        if case.model is not None and len(case.model.graph.node) == 1:
            by_name[case.name] = case.model.graph.node[0].op_type
    for case in sorted(found, key=lambda c: c.name):
        name = case.name
        stem = name.split("_expanded")[0]
        operator = by_name.get(name) or by_name.get(stem) or _guess(name, known)
        if only and operator not in only and name not in only:
            continue
        yield operator, case, _left_out(operator, case)


def _guess(name: str, known: dict[str, str]) -> str:
    words = name.removeprefix("test_").split("_")
    for end in range(len(words), 0, -1):
        if (joined := "".join(words[:end])) in known:
            return known[joined]
    return words[0]


def _left_out(operator: str, case: Any) -> str:
    if "training" in case.name:
        return "training"
    operators = {operator, *(n.op_type for n in case.model.graph.node)}
    if found := sorted(operators & LEFT_OUT.keys()):
        return f"{found[0]}: {LEFT_OUT[found[0]]}"
    for info in (*case.model.graph.input, *case.model.graph.output):
        if info.type.WhichOneof("value") != "tensor_type":
            return f"{info.type.WhichOneof('value')}: a board's program takes and gives tensors"
        kind = onnx.TensorProto.DataType.Name(info.type.tensor_type.elem_type)
        if kind in LEFT_OUT_TYPES:
            return f"{kind}: {LEFT_OUT_TYPES[kind]}"
    return ""


def imported(case: Any, given: dict[str, np.ndarray], file: Path) -> tuple[OnnxNetwork, list[str]]:
    """The network of a case, and which inputs had to be constants."""
    onnx.save(case.model, file)
    fixed: dict[str, np.ndarray] = {}
    while True:
        shapes = {name: v.shape for name, v in given.items() if name not in fixed}
        try:
            return load_onnx(file, shapes, fixed), list(fixed)
        except EdgepruneError as error:
            needs = [n for n in error.details.get("needs", ()) if n not in fixed]
            if not needs:
                raise
            fixed.update({name: given[name] for name in needs})


def tried(operator: str, case: Any, folder: Path, compiled: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"operator": operator, "case": case.name}
    inputs, expected = case.data_sets[0]
    given = {i.name: array(v) for i, v in zip(case.model.graph.input, inputs, strict=False)}
    row["import"], network = "", None
    with said(row, "import"):
        network, row["fixed"] = imported(case, given, folder / "case.onnx")
        tensors = inputs_of(network, given)
        with torch.no_grad():
            found = network.module(*tensors)
        row["import"] = compared(found if isinstance(found, tuple) else (found,), expected, network)
    row["computed"] = bool(network and network.inputs)
    if not compiled or not row["computed"]:
        return row
    row["compile"] = row["import"]
    if not row["import"]:
        with said(row, "compile"):
            row["compile"] = run_compiled(case, given, expected, network, folder, row)
    return row


@contextlib.contextmanager
def said(row: dict[str, Any], stage: str) -> Iterator[None]:
    """What stops a stage; anything but a refusal is a fault."""
    try:
        yield
    except EdgepruneError as error:
        row[stage] = f"{type(error).__name__}: {error.message}"
    except Exception as error:
        row[stage] = f"FAULT {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def inputs_of(network: OnnxNetwork, given: dict[str, np.ndarray]) -> tuple[torch.Tensor, ...]:
    tensors = (held(given[p.name], p.kind) for p in network.inputs)
    return tuple(t.float() if t.dtype == torch.float64 else t for t in tensors)


def run_compiled(
    case: Any, given: dict[str, np.ndarray], expected: Sequence[Any], network: Any, folder: Path, row: dict[str, Any]
) -> str:
    """Empty where the compiled program gives what the standard expects."""
    try:
        read = read_network(network.module, inputs_of(network, given))
    except UnsupportedOperatorError:
        if len(network.inputs) < 2:
            raise
        first = network.inputs[0].name
        row["fixed"] = sorted(given.keys() - {first})
        network = load_onnx(folder / "case.onnx", {first: given[first].shape}, {n: given[n] for n in row["fixed"]})
        read = read_network(network.module, inputs_of(network, given))
    compile_network(read, load_target("host"), folder / "bundle")
    with edgeprune.load_bundle(folder / "bundle") as program:
        found = program(*(x.numpy() for x in inputs_of(network, given)))
    return compared([torch.from_numpy(np.array(y)) for y in found], expected, network)


def compared(found: Sequence[torch.Tensor], expected: Sequence[Any], network: OnnxNetwork) -> str:
    """Empty where each output is what the standard expects."""
    if len(found) != len(expected):
        return f"{len(found)} outputs, not {len(expected)}"
    for i, (tensor, want_value) in enumerate(zip(found, expected, strict=True)):
        want_array = array(want_value)
        if tuple(tensor.shape) != want_array.shape:
            return f"output {i} has the shape {list(tensor.shape)}, not {list(want_array.shape)}"
        kind = network.outputs[i].kind
        want = held(want_array, kind).double()
        got = tensor.double()
        if not torch.allclose(got, want, BF16 if kind == onnx.TensorProto.BFLOAT16 else RTOL, ATOL, equal_nan=True):
            return f"output {i} differs by {float((got - want).abs().nan_to_num().max()):.3g}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], help="operators, or names of cases")
    parser.add_argument("--import-alone", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows, left = [], Counter[str]()
    operators: dict[str, list[bool]] = defaultdict(list)
    began = time.monotonic()
    with TemporaryDirectory() as folder:
        for operator, case, why in cases(arguments.only):
            if why:
                left[why] += 1
                continue
            row = tried(operator, case, Path(folder), not arguments.import_alone)
            rows.append(row)
            operators[operator].append(not row["import"])
            if (why := row["import"] or row.get("compile", "")) and not arguments.json:
                print(f"{operator:24} {case.name}: {'' if row['import'] else 'compiled: '}{why}", flush=True)
    passed = sum(not r["import"] for r in rows)
    if not arguments.json:
        for why, count in left.most_common():
            print(f"left out: {count:4} cases, {why}")
        folded = sum(not r["import"] and not r["computed"] for r in rows)
        seconds = time.monotonic() - began
        print(f"{passed} of {len(rows)} pass through import ({folded} of them computed at import), {seconds:.0f} s")
    share = passed / len(rows) if rows else 0.0
    bars = [
        bar("operators in", len(operators), 120, len(operators) >= 120),
        bar("cases that pass through import", share, 0.97, share >= 0.97),
    ]
    if not arguments.import_alone:
        ran = [r for r in rows if r["computed"] or r["import"]]
        right = sum(r.get("compile", "not imported") == "" for r in ran) / len(ran) if ran else 0.0
        bars.append(bar("cases that pass through import, compile and run (measured)", right, 0.90, right >= 0.90))
    return told("edgeprune.onnx-backend/1", {"rows": rows, "left_out": dict(left)}, bars, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
