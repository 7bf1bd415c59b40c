"""All families of ATen operators: importing this fills the table."""

from edgeprune.graph.aten import (  # noqa: F401  (each fills the table)
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

__all__ = ["HANDLERS", "RULES", "ZEROS"]
