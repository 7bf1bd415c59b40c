"""All families of ATen operators: importing this fills the table."""

from edgeprune.graph.aten import (
    arithmetic,
    convolution,
    indexing,
    joining,
    moving,
    norms,
    pixels,
    pointwise,
    products,
    recurrent,
    reductions,
    reshaping,
    sampling,
    windows,
)
from edgeprune.graph.aten.table import HANDLERS, RULES, ZEROS

__all__ = ["FAMILIES", "HANDLERS", "RULES", "ZEROS"]

FAMILIES = (
    arithmetic,
    convolution,
    indexing,
    joining,
    moving,
    norms,
    pixels,
    pointwise,
    products,
    recurrent,
    reductions,
    reshaping,
    sampling,
    windows,
)
