"""Element types of a program's inputs and outputs, as C, manifests and NumPy name them."""

from __future__ import annotations

SIZES = {
    "float32": 4,
    "float16": 2,
    "float64": 8,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "bool": 1,
}
"""Bytes of an element, in the order of ``ep_type`` (edgeprune_model.h)."""


def in_c(name: str) -> str:
    """The enumerator of an element type: ``EP_INT64``."""
    assert name in SIZES, name
    return f"EP_{name.upper()}"
