"""Exported programs (``.pt2``), rewritten so that reading one cannot run anything.

``torch.export.load`` (torch 2.13) unpickles sample inputs and, where the archive asks for it, weights and
constants; evaluates symbolic shapes with sympy; and puts names of the archive into Python code that it executes.
So the archive is checked first and a copy in memory, with only what a static network needs, is given to torch:
no pickles, no metadata, no guards, ATen operators alone, and every name a plain identifier.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.fx import Graph, GraphModule, Node
from torch.fx.graph import CodeGen

from edgeprune.errors import ModelLoadError, UnsupportedOperatorError
from edgeprune.models.exported_layers import replace, restore_depthwise
from edgeprune.models.safety import regular_file

_MODEL = "models/model.json"
_SAMPLES = "data/sample_inputs/model.pt"
_CONFIGS = {
    "data/weights/model_weights_config.json": re.compile(r"weight_\d+"),
    "data/constants/model_constants_config.json": re.compile(r"tensor_\d+"),
}
_KEPT = re.compile(
    r"data/weights/weight_\d+|data/constants/tensor_\d+|archive_format|archive_version|byteorder|\.data/version"
)
_OPERATOR = re.compile(r"torch\.ops\.aten\.\w+(\.\w+)?|_operator\.getitem")
_PLAIN = re.compile(r"[\w.]*")
_TREE_TYPES = (None, "builtins.tuple", "builtins.list", "builtins.dict")
_HINT = "export it again with static shapes: torch.export.save(torch.export.export(model.eval(), example_inputs), file)"


def load_pt2(file: Path) -> tuple[nn.Module, list[tuple[int, ...]]]:
    """The network of a ``.pt2`` archive in ``eval`` mode, and the shapes of its inputs.

    Inputs are positional and the output is one tensor or a flat tuple. Parameters keep their names. Batch norms
    and dropouts are real layers again, so ``train()``, ``eval()`` and recalibration work as they did before export;
    so are depthwise convolutions, which can then lose channels.

    Raises:
        ModelLoadError: damaged, dynamic, or not what ``torch.export.save`` writes.
        UnsupportedOperatorError: anything but ATen operators.
    """
    regular_file(file)
    archive = _checked_copy(file)
    try:
        program = torch.export.load(archive)
        graph_module = program.module(check_guards=False)
    except Exception as error:
        raise _refused(file, f"torch {torch.__version__} cannot read it: {error}") from error
    inputs = set(program.graph_signature.user_inputs)
    shapes = [tuple(n.meta["val"].shape) for n in program.graph.nodes if n.op == "placeholder" and n.name in inputs]
    _flatten_signature(graph_module.graph, single=program.call_spec.out_spec.is_leaf())
    return _with_layers(graph_module, file).eval(), shapes


def _checked_copy(file: Path) -> io.BytesIO:
    records = _records(file)
    if _MODEL not in records or not records.keys() >= _CONFIGS.keys():
        raise _refused(file, "it is not an archive of torch.export.save with one model named 'model'")
    data = _json(file, _MODEL, records)
    _check_model(file, data)
    kept = {name: content for name, content in records.items() if _KEPT.fullmatch(name)}
    kept[_MODEL] = json.dumps(data).encode()
    kept[_SAMPLES] = b""
    for name, pattern in _CONFIGS.items():
        _check_payloads(file, name, _json(file, name, records), pattern, records)
        kept[name] = records[name]
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as archive:
        for name, content in kept.items():
            archive.writestr(f"model/{name}", content)
    copy.seek(0)
    return copy


def _records(file: Path) -> dict[str, bytes]:
    """Every record by its name below the archive's root folder; together never larger than the file."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if sum(e.file_size for e in entries) > file.stat().st_size:
                raise _refused(file, "its records are compressed or overlap, which torch.export.save never does")
            return {e.filename.partition("/")[2]: archive.read(e) for e in entries}
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _refused(file, f"it is damaged or cut short: {error}") from error


def _json(file: Path, name: str, records: dict[str, bytes]) -> dict[str, Any]:
    try:
        data = json.loads(records[name])
    except (ValueError, RecursionError) as error:
        raise _refused(file, f"{name} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise _refused(file, f"{name} is not a JSON object")
    return data


def _check_model(file: Path, data: dict[str, Any]) -> None:
    """Check ``data`` and empty what a static network does not need."""
    if data.get("range_constraints"):
        symbols = ", ".join(map(str, data["range_constraints"]))
        raise _refused(file, f"its shapes are dynamic ({symbols})")
    data["guards_code"] = []
    graph_module = data.get("graph_module")
    if not isinstance(graph_module, dict) or not isinstance(graph_module.get("graph"), dict):
        raise _refused(file, f"{_MODEL} has no graph")
    graph_module["metadata"], graph_module["treespec_namedtuple_fields"] = {}, {}
    for node in graph_module["graph"].get("nodes", []):
        target = str(node.get("target"))
        if not _OPERATOR.fullmatch(target):
            raise UnsupportedOperatorError(
                f"{file}: node {node.get('name')!r} is {target}, which is not an ATen operator",
                hint="write it with torch's own operators, or decompose it before torch.export.save",
                file=str(file),
                node=node.get("name"),
                operator=target,
            )
        node["metadata"] = {}
    data.pop("torch_version", None)
    _check_names(file, data)
    data["torch_version"] = torch.__version__


def _check_names(file: Path, data: Any, key: str = "") -> None:
    if isinstance(data, dict):
        for name, value in data.items():
            if "expr" in name or name == "as_graph":
                raise _refused(file, f"its shapes are dynamic or its graph has branches ({name})")
            _check_names(file, name)
            _check_names(file, value, name)
    elif isinstance(data, list):
        for item in data:
            _check_names(file, item, key)
    elif isinstance(data, str):
        if key in ("in_spec", "out_spec"):
            _check_tree(file, data)
        elif not _PLAIN.fullmatch(data):
            raise _refused(file, f"{data[:60]!r} is no plain name")


def _check_tree(file: Path, text: str) -> None:
    try:
        _, root = json.loads(text)
        waiting = [root]
        while waiting:
            node = waiting.pop()
            context = json.loads(node["context"]) if node["context"] is not None else None
            names = context is None or (isinstance(context, list) and all(isinstance(c, str) for c in context))
            if node["type"] not in _TREE_TYPES or not names:
                raise ValueError(f"{node['type']} with {context}")
            waiting += node["children_spec"]
    except (ValueError, TypeError, KeyError) as error:
        raise _refused(file, f"its inputs or outputs are more than tuples, lists and dictionaries: {error}") from error


def _check_payloads(
    file: Path, name: str, data: dict[str, Any], pattern: re.Pattern[str], records: dict[str, bytes]
) -> None:
    try:
        for tensor, payload in data["config"].items():
            path = payload["path_name"]
            if payload["use_pickle"] or not pattern.fullmatch(path):
                raise _refused(file, f"{tensor!r} is a pickled object ({path}); edgeprune reads plain tensors only")
            sizes = [s["as_int"] for s in payload["tensor_meta"]["sizes"]]
            stored = len(records[f"{name.rpartition('/')[0]}/{path}"])
            if min(sizes, default=1) < 0 or math.prod(sizes) > stored:
                raise _refused(file, f"{tensor!r} claims the shape {sizes} and stores {stored} bytes")
            _check_names(file, payload)
            _check_names(file, tensor)
    except (KeyError, TypeError, AttributeError) as error:
        raise _refused(file, f"{name} is not what torch.export.save writes: {error!r}") from error


def _flatten_signature(graph: Graph, *, single: bool) -> None:
    # The code that export generates for nested inputs cannot be deep-copied without a deprecation warning.
    graph.set_codegen(CodeGen())
    if single:
        output = graph.output_node()
        output.args = (cast(tuple[Node], output.args[0])[0],)


def _with_layers(exported: GraphModule, file: Path) -> GraphModule:
    """Layers again for what export has frozen: the mode of batch norms and dropouts, groups of depthwise filters."""
    module = GraphModule(exported, exported.graph)  # a fresh one: export forbids train() and eval() on its own
    for node in list(module.graph.nodes):
        if node.target is torch.ops.aten.batch_norm.default:
            replace(module, node, *_batch_norm(module, node, file))
        elif node.target is torch.ops.aten.dropout.default:
            replace(module, node, f"{node.name}_layer", nn.Dropout(cast(float, node.args[1])))
    restore_depthwise(module)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _batch_norm(module: GraphModule, node: Node, file: Path) -> tuple[str, nn.Module]:
    _, *tensors, training, momentum, eps, _ = node.args
    if training:
        raise _refused(file, f"batch norm {node.name!r} was exported in training mode")
    weight, bias, mean, var = (t.target if isinstance(t, Node) else None for t in tensors)
    if not (isinstance(mean, str) and isinstance(var, str)):
        raise _refused(file, f"batch norm {node.name!r} keeps no running statistics")
    owner = mean.rpartition(".")[0]
    path = owner or f"{node.name}_layer"
    value = module.get_parameter
    running_mean = module.get_buffer(mean)
    layer = nn.BatchNorm2d(running_mean.numel(), cast(float, eps), cast(float, momentum), affine=weight is not None)
    layer.running_mean, layer.running_var = running_mean, module.get_buffer(var)
    if isinstance(weight, str) and isinstance(bias, str):
        layer.weight, layer.bias = value(weight), value(bias)
    return path, layer


def _refused(file: Path, why: str) -> ModelLoadError:
    return ModelLoadError(f"{file} is refused: {why}", hint=_HINT, file=str(file))
