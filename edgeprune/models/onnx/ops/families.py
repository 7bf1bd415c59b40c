"""The files of operators, and what they read together. A new one needs a line here."""

from __future__ import annotations

from edgeprune.models.onnx.ops import (  # noqa: F401  (each enters its operators in the table)
    activations,
    arithmetic,
    attention,
    casting,
    comparison,
    contrib,
    convolution,
    generating,
    indexing,
    joining,
    norms,
    pooling,
    products,
    quantised,
    recurrent,
    reductions,
    reshaping,
    resizing,
    sequences,
    spectral,
)
from edgeprune.models.onnx.table import READERS, Reader


def reader(operator: str, domain: str) -> Reader | None:
    """The function that reads an operator; None where there is none."""
    return READERS.get((domain, operator))


def operators(domain: str = "") -> list[str]:
    """Names of the operators of a domain that are read."""
    return sorted(name for d, name in READERS if d == domain)
