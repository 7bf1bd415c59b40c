"""What is timed is what is shipped: specs brought to a plan's widths are those of the network shrunk by that plan."""

from __future__ import annotations

import numpy as np
import pytest
from long_tests import long

from architectures import ARCHITECTURES
from edgeprune.graph.network import read_network
from edgeprune.graph.resized import at_widths
from edgeprune.latency.problem import bindings_of
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink

NAMES = (
    "alexnet", "googlenet", "resnet50", "densenet", "preact_resnet", "regnet_y", "repvgg", "se_resnet", "cbam_resnet",
    "mobilenet_v2", "mobilenet_v3_small", "efficientnet", "ghostnet", "shufflenet_v1", "ssdlite", "fpn",
    "unet_transposed", "deeplab", "hourglass", "hrnet", "segnet", "pspnet", "srresnet", "dcgan_generator",
    "style_transfer", "convnext", "vit", "mlp_mixer", "cct", "mobilevit", "tcn", "c3d", "siamese",
    "stacked_recurrent", "projected_lstm", "crnn_lstm", "frame_gru",
)  # fmt: skip
LARGE = {
    "densenet", "efficientnet", "googlenet", "hourglass", "shufflenet_v1", "ghostnet", "regnet_y", "cbam_resnet",
    "mobilenet_v2", "hrnet",
}  # fmt: skip


@pytest.mark.parametrize("name", long(NAMES, LARGE))
def test_predicted_kernels_are_those_of_the_shrunk_network(name: str) -> None:
    module, x = ARCHITECTURES[name].factory().eval(), ARCHITECTURES[name].inputs()
    dense = read_network(module, x)
    random = np.random.default_rng(0)
    widths = {g.name: max(1, g.size // 2) for g in dense.channels.prunable}
    plan = make_plan(dense.channels, widths, {g.name: random.random(g.size) for g in dense.channels.groups})
    small = read_network(shrink(module, dense.channels, plan), x)

    def at_plan(node):
        axes = bindings_of(node, dense.channels).items()
        return node.spec.with_widths(**{a: b.base + sum(plan.width(g) for g in b.groups) for a, b in axes})

    assert [str(at_plan(n)) for n in dense.kernels.nodes] == [str(n.spec) for n in small.kernels.nodes]
    assert [at_plan(n).key for n in dense.kernels.nodes] == [n.spec.key for n in small.kernels.nodes]


@pytest.mark.parametrize(
    "name",
    long(
        [
            "googlenet",
            "shufflenet_v1",
            "convnext",
            "vit",
            "hrnet",
            "tcn",
            "stacked_recurrent",
            "projected_lstm",
            "crnn_lstm",
        ],
        ["googlenet", "shufflenet_v1"],
    ),
)
def test_a_graph_at_other_widths_is_that_of_the_shrunk_network(name: str) -> None:
    """At any widths: the parts of a concat, too, which kernels of its total alone do not know."""
    module, x = ARCHITECTURES[name].factory().eval(), ARCHITECTURES[name].inputs()
    dense, random = read_network(module, x), np.random.default_rng(0)
    widths = {g.name: int(random.integers(1, g.size + 1)) for g in dense.channels.prunable}
    plan = make_plan(dense.channels, widths, {g.name: random.random(g.size) for g in dense.channels.groups})
    small = read_network(shrink(module, dense.channels, plan), x).kernels
    resized = at_widths(dense.kernels, {g.name: plan.width(g.name) for g in dense.channels.groups})
    assert [n.spec for n in resized.nodes] == [n.spec for n in small.nodes]
    # Constants are in the shape that kernels see them in.
    assert {t: spec.elements for t, spec in resized.tensors.items()} == {
        t: spec.elements for t, spec in small.tensors.items()
    }
