"""What the walk along channels finds out about a traced program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeprune.graph.channels import AxisBinding, ChannelGraph


@dataclass(frozen=True, slots=True)
class Analysis:
    """Width groups, and how the axes of activations are made up of them.

    Attributes:
        graph: the width groups, frozen ones included.
        axes: fx node name -> how the size of its dimension 1 is made up, for every activation of two
            or more dimensions; after a flatten a group is named once for each position of a channel.
        features: the same for the last dimension.
        shuffles: nodes that end a channel shuffle by view, transpose, view, of which the number of groups stays.
    """

    graph: ChannelGraph
    axes: Mapping[str, AxisBinding]
    features: Mapping[str, AxisBinding]
    shuffles: frozenset[str] = frozenset()
