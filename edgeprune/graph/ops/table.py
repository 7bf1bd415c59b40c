"""The one table of operators by name. A new one is a class in the file of its family, and a line here."""

from __future__ import annotations

from edgeprune.graph.ops.convolution import WINDOW, Convolution, Dense, Transposed
from edgeprune.graph.ops.image import Image
from edgeprune.graph.ops.movement import ChannelShuffle, ChannelSlice, Concat, GridSample, Reduce, Take
from edgeprune.graph.ops.operator import Elementwise, Operator
from edgeprune.graph.ops.recurrent import Recurrent
from edgeprune.graph.ops.walked import Join, Strided, Walked

_POOL = ("kernel", "padding", "stride")

OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for operator in (
        Convolution("conv2d", WINDOW),
        # Of volumes: images whose rows are those of all slices, one behind the other; ``slices`` before and after.
        Convolution("conv3d", (*WINDOW, "slices")),
        Transposed("conv_transpose2d", WINDOW),
        Dense("dense"),
        Operator("max_pool2d", _POOL),
        Operator("max_pool3d", (*_POOL, "slices")),
        Operator("avg_pool2d", ("count_include_pad", *_POOL)),
        Operator("avg_pool3d", ("count_include_pad", *_POOL, "slices")),
        Operator("global_avg_pool"),
        Operator("global_max_pool"),
        # Indices of a plane's maxima, and values put back to such indices.
        Operator("max_places2d", _POOL, fuses=False),
        Operator("max_unpool2d", _POOL),
        Operator("resize2d", ("align_corners", "mode")),
        Operator("pad", ("left", "mode", "top", "value"), fuses=False),
        Concat("concat", fuses=False),
        ChannelSlice("channel_slice", ("start",), fuses=False),
        ChannelShuffle("channel_shuffle", fuses=False),
        GridSample("grid_sample", ("align_corners", "mode", "padding")),
        Take("take", ("axis",)),
        Elementwise("elementwise"),
        Strided("strided"),
        Join("join", ("axis", "sizes"), fuses=False),
        Walked("matmul", ("depth",)),
        Reduce("reduce", ("dims", "kind")),
        Operator("normalize", ("eps", "size")),
        Operator("softmax", ("axis", "log"), fuses=False),
        Recurrent("recurrent", ("kind", "reverse"), fuses=False),
        Operator("layout", fuses=False),
        Image("image", ("order", "scale", "shift"), fuses=False),
    )
}
