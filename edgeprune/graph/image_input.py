"""A kernel graph that takes a camera frame: one kernel in front makes of it what the network reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgeprune.errors import UsageError
from edgeprune.graph.channels import AxisBinding, KernelGraph, KernelNode, Port, WeightRef
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.models.image_input import ImageInput

_CHANNELS = (1, 3)


def with_frames(graph: KernelGraph, image: ImageInput) -> KernelGraph:
    """The same network, which takes frames (N, H, W, C) of uint8 at its image input.

    The first kernel converts, normalises and transposes in one pass, into whichever layout the network reads: where a
    kernel brought the input into blocks, it takes the place of that kernel. What pads the image pads with zeros of
    what the network reads, as before.

    Raises:
        UsageError: no input is an image, several are, or the one that was named is none.
    """
    port = _image_port(graph, image)
    n, channels, height, width = port.shape
    shape, tensor = (n, height, width, channels), f"{port.tensor}.frame"
    frame = replace(port, shape=shape, tensor=tensor, dtype="uint8", image=image, range=None)
    made = [node for node in graph.nodes if node.spec.op == "layout" and node.inputs == (port.tensor,)]
    made = [node for node in made if node.spec.output.shape == port.shape]
    wanted = {node.output: graph.tensors[node.output] for node in made}
    rest = [node for node in graph.nodes if node not in made]
    if any(port.tensor in node.inputs for node in rest):
        wanted[port.tensor] = graph.tensors[port.tensor]
    tensors = {name: spec for name, spec in graph.tensors.items() if name in wanted or name != port.tensor}
    tensors[frame.tensor] = TensorSpec(frame.shape, "plain", "uint8")
    return replace(
        graph,
        nodes=(*_kernels(frame, wanted), *rest),
        tensors=tensors,
        inputs=tuple(frame if p is port else p for p in graph.inputs),
    )


def _kernels(frame: Port, wanted: dict[str, TensorSpec]) -> Iterator[KernelNode]:
    assert frame.image is not None
    channels = frame.shape[-1]
    attrs = zip(("order", "scale", "shift"), frame.image.factors(channels), strict=True)
    spec = TensorSpec(frame.shape, "plain", "uint8")
    for number, (tensor, output) in enumerate(wanted.items()):
        yield KernelNode(
            name=f"{frame.name}.image" + (f".{number + 1}" if number else ""),
            spec=KernelSpec("image", (spec,), output, tuple(attrs)),
            inputs=(frame.tensor,),
            output=tensor,
            weights=WeightRef(),
            axes={"out": AxisBinding((), base=channels)},
        )


def _image_port(graph: KernelGraph, image: ImageInput) -> Port:
    able = [p for p in graph.inputs if len(p.shape) == 4 and p.shape[1] in _CHANNELS and p.dtype.startswith("float")]
    named = [p for p in able if p.name == image.input] if image.input else able
    if len(named) != 1:
        inputs = ", ".join(f"{p.name} {p.shape}" for p in graph.inputs)
        raise UsageError(
            f"the image input is not one of the network's inputs {inputs}",
            hint=f"an image is (N, C, H, W) with C of {_CHANNELS}; input=NAME names one of {[p.name for p in able]}",
        )
    return named[0]
