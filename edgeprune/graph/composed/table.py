"""The table of compositions; its rows are in the modules of this package."""

from edgeprune.graph.composed import (  # noqa: F401  (each fills the table)
    choices,
    division,
    ordering,
    pointwise,
    products,
    resampling,
    statistics,
    volumes,
    windows,
)
from edgeprune.graph.composed.composer import COMPOSED, compose

__all__ = ["COMPOSED", "compose"]
