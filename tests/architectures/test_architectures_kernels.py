"""Strangers' networks have kernels, and tables of them could be measured: at full width and at the narrowest."""

from __future__ import annotations

import warnings

import pytest

from architectures import ARCHITECTURES
from edgeprune.compiler.kernels.registry import schedules_for
from edgeprune.graph.network import read_network
from edgeprune.latency.grids import grid_for
from edgeprune.latency.problem import bindings_of
from edgeprune.profiling.profile import ProfileOptions
from edgeprune.targets import load_target

NAMES = (
    "c3d",
    "cct",
    "convnext",
    "coordinate_resnet",
    "crnn_lstm",
    "dcgan_generator",
    "densenet",
    "depth_multiplier",
    "frame_gru",
    "group_norm_resnet",
    "maxout",
    "mobilevit",
    "nafnet",
    "projected_lstm",
    "segnet",
    "shufflenet_v1",
    "shufflenet_v2",
    "spatial_transformer",
    "srresnet",
    "stacked_recurrent",
    "st_gcn",
    "style_transfer",
    "tcn",
    "text_cnn",
    "two_stream",
    "vit_torch_layers",
    "yolo",
)


@pytest.mark.parametrize("name", NAMES)
def test_every_kernel_can_be_profiled_at_its_widths(name: str) -> None:
    architecture, target = ARCHITECTURES[name], load_target("x86_64_avx2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch.export of recurrent layers
        network = read_network(architecture.factory(), architecture.inputs())
    levels = ProfileOptions(step=8).levels(network.channels, target)
    for node in network.kernels.nodes:
        grids = {axis: grid_for(b, levels) for axis, b in bindings_of(node, network.channels).items()}
        assert node.spec.with_widths(**{a: int(g[-1]) for a, g in grids.items()}) == node.spec
        narrow = node.spec.with_widths(**{a: int(g[0]) for a, g in grids.items()})
        assert schedules_for(narrow, target)
