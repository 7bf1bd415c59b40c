"""TVM's modules, each imported when its first name is used.

Planning and packing need the kernel rules but not TVM, which takes 1.5 s to load and belongs into the processes that
build (compiler/workers.py). So the rules can import what builds at the top of their modules.
"""

from __future__ import annotations

import importlib
from typing import Any


class LateModule:
    """Stands for a module; the attributes are the module's."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


T = LateModule("tvm.script.ir_builder.tirx")
"""The builder of TensorIR functions."""
ir_builder = LateModule("tvm.script.ir_builder")
s_tir = LateModule("tvm.s_tir")
te = LateModule("tvm.te")
tir = LateModule("tvm.tirx")
tvm = LateModule("tvm")
