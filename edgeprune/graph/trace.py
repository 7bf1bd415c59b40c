"""Tracing: one ``ExportedProgram`` per network, and the questions the rest of the package asks it.

The program is the export's training form, not decomposed: convolutions, batch norms and
activations stay whole ATen ops, which is what transfer rules and the kernel cutter read. What these need not know is
written with simpler operators first (graph/composed/).
"""

from __future__ import annotations

import contextlib
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import Node
from torch.utils._pytree import tree_leaves

from edgeprune.errors import BadInputError, ModelLoadError, UnsupportedOperatorError
from edgeprune.graph.composed.table import compose
from edgeprune.graph.nodes import LAYER, TORCH, describe, module_path, source_line
from edgeprune.graph.regions import dissolve_regions
from edgeprune.graph.sizes import Recorder, annotate, remembered

TYPES = "edgeprune_types"
"""Of the output node: the types of what the network takes and of what it returns, in order."""


def trace(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> ExportedProgram:
    """Export ``module`` in evaluation mode with static shapes.

    The training flags of the module and its children are restored. The program shares the
    module's parameters, it does not copy them.

    Raises:
        ModelLoadError: the module does not run on ``example_inputs``.
        UnsupportedOperatorError: it runs, but cannot be captured as one static graph (control flow
            that depends on data, shapes that depend on data, an operator without a meta kernel).
    """
    example_inputs = _told_apart(example_inputs)
    with evaluating(module):
        recorder = _run_once(module, example_inputs)
        try:
            with _attributes_kept(module):
                program = torch.export.export(module, example_inputs, strict=False)
        except Exception as error:
            raise _capture_error(module, example_inputs, error) from error
    dissolve_regions(program)
    for node in program.graph.nodes:
        _refuse_dynamic_shape(node)
    if recorder:
        annotate(program.graph, recorder, source_line, user_inputs(program), parameter_names(program))
    # Composing makes numbers of integers and truth values: what the network itself takes and returns is kept.
    ports = (user_inputs(program), user_outputs(program))
    program.graph.output_node().meta[TYPES] = tuple(tuple(n.meta["val"].dtype for n in nodes) for nodes in ports)
    if compose(program.graph, _fixed(program)):
        program.graph_module.recompile()
    layers = dict(module.named_modules())
    for node in program.graph.nodes:
        node.meta[LAYER] = type(layers.get(module_path(node)))
    return program


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the ``with`` block; each module's own training flag comes back after it."""
    modes = [(m, m.training) for module in modules for m in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for m, training in modes:
            m.training = training


@contextmanager
def _attributes_kept(module: nn.Module) -> Iterator[None]:
    """Recurrent layers list their weights a second time, hooks (torch.nn.utils.prune) keep one that they compute: the
    exporter changes these, and warns of it.
    """
    layers = [(m, list(m._flat_weights)) for m in module.modules() if isinstance(m, nn.RNNBase)]
    computed = [(m, name, t) for m in module.modules() for name, t in vars(m).items() if isinstance(t, Tensor)]
    with warnings.catch_warnings():
        if layers or computed:
            warnings.filterwarnings("ignore", message=r"The tensor attributes? .* assigned during export")
        yield
    for layer, weights in layers:
        layer._flat_weights = weights
    for owner, name, tensor in computed:
        setattr(owner, name, tensor)


def parameter_names(program: ExportedProgram) -> dict[str, str]:
    """Placeholder node name -> qualified name of the parameter or buffer it stands for.

    Of several names for one tied tensor the first is used everywhere.
    """
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    first: dict[int, str] = {}
    tensors = {**program.constants, **program.state_dict}
    for name in program.state_dict:
        first.setdefault(id(tensors[name]), name)
    return {node: first.get(id(tensors.get(name)), name) for node, name in names.items()}


def _fixed(program: ExportedProgram) -> dict[str, Tensor | None]:
    """Placeholders that no caller fills, and what buffers and literals hold; None for parameters, which are trained."""
    given = {n.name for n in user_inputs(program)}
    signature = program.graph_signature
    names = {**signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    tensors = {**program.constants, **program.state_dict}
    placeholders = (n.name for n in program.graph.find_nodes(op="placeholder"))
    return {name: tensors.get(names.get(name, "")) for name in placeholders if name not in given}


def user_inputs(program: ExportedProgram) -> tuple[Node, ...]:
    """Placeholders the caller fills, in calling order."""
    kinds = {s.arg.name: s.kind for s in program.graph_signature.input_specs}
    nodes = program.graph.find_nodes(op="placeholder")
    return tuple(n for n in nodes if kinds[n.name] is InputKind.USER_INPUT)


def user_outputs(program: ExportedProgram) -> tuple[Node, ...]:
    """Nodes the network returns, in order, flattened out of tuples and dictionaries."""
    outputs = program.graph_signature.output_specs
    returned = {s.arg.name for s in outputs if s.kind is OutputKind.USER_OUTPUT}
    args = next(iter(program.graph.find_nodes(op="output"))).args[0]
    return tuple(a for a in args if isinstance(a, Node) and a.name in returned)


def failing_module(module: nn.Module, error: Exception) -> tuple[str, str]:
    """Name of the innermost module on the error's stack, and the network's own line (``file:line``)."""
    names = {id(m): name for name, m in module.named_modules()}
    path, line = "", "unknown line"
    for frame, lineno in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        if id(owner) in names:
            path = names[id(owner)]
            if not frame.f_code.co_filename.startswith(TORCH):
                line = f"{frame.f_code.co_filename}:{lineno}"
    return path, line


def _told_apart(example_inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The exporter follows tensors by identity: one passed twice would be traced as one input."""
    seen: set[int] = set()
    distinct: list[Tensor] = []
    for t in example_inputs:
        distinct.append(t.clone() if id(t) in seen else t)
        seen.add(id(t))
    return tuple(distinct)


def _run_once(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Recorder | None:
    """Run with sizes that remember their origin, or, should the network not bear these, without."""
    with contextlib.suppress(Exception), torch.no_grad(), remembered(module, example_inputs) as recorder:
        module(*example_inputs)
        return recorder
    try:
        with torch.no_grad():
            module(*example_inputs)
        return None
    except Exception as error:
        shapes = [list(t.shape) if isinstance(t, Tensor) else type(t).__name__ for t in example_inputs]
        module_name, line = failing_module(module, error)
        raise ModelLoadError(
            f"{type(module).__name__} does not run on example inputs of shape {shapes}: "
            f"{_headline(error)} (module '{module_name}', {line})",
            hint="give example inputs of the shape and number the network's forward expects",
            module=module_name,
            source=line,
            shapes=shapes,
        ) from error


def _capture_error(module: nn.Module, example_inputs: tuple[Tensor, ...], error: Exception) -> BadInputError:
    module_name, line = failing_module(module, error)
    scripted = next((n for n, m in module.named_modules() if isinstance(m, torch.jit.ScriptModule)), None)
    if scripted is not None:
        return UnsupportedOperatorError(
            f"{type(module).__name__} cannot be captured: module '{scripted}' is a ScriptModule",
            hint="give the nn.Module that it was scripted or traced from",
            module=scripted,
        )
    with torch.no_grad():
        returned = {type(leaf) for leaf in tree_leaves(module(*example_inputs))} - {
            Tensor,
            int,
            float,
            bool,
            type(None),
        }
    if returned:
        kind = sorted(t.__name__ for t in returned)[0]
        return UnsupportedOperatorError(
            f"{type(module).__name__} cannot be captured: it returns a {kind}",
            hint="return tensors, or tuples, lists and dictionaries of them: wrap it in a module that takes them out",
            returned=kind,
        )
    return UnsupportedOperatorError(
        f"{type(module).__name__} cannot be captured as one static graph; "
        f"module '{module_name}' at {line} stopped it: {_headline(error)}",
        hint="replace branches, loops and shapes that depend on tensor values with tensor operations of fixed shape",
        module=module_name,
        source=line,
    )


def _refuse_dynamic_shape(node: Node) -> None:
    value = node.meta.get("val")
    for tensor in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(tensor, Tensor) and not all(isinstance(d, int) for d in tensor.shape):
            raise UnsupportedOperatorError(
                f"{describe(node)} yields a tensor whose shape depends on the data: {tuple(map(str, tensor.shape))}",
                hint="move this operator out of the network (to post-processing on the host) and load it again",
                node=node.name,
                operator=str(node.target),
                source=source_line(node),
            )


def _headline(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
