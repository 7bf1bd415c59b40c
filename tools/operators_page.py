"""Writes the tables of docs/OPERATORS.md from the tables of the code.

python tools/operators_page.py [--check]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgeprune.compiler.cuda.compute import ANCHORS
from edgeprune.compiler.functions import ACTIVATIONS, OPERATIONS
from edgeprune.graph.aten.families import HANDLERS, RULES
from edgeprune.graph.composed.table import COMPOSED
from edgeprune.graph.ops.table import OPERATORS

PAGE = Path(__file__).parents[1] / "docs" / "OPERATORS.md"
BEGIN, END = "<!-- tables: begin (python tools/operators_page.py) -->", "<!-- tables: end -->"


def name_of(overload: Any) -> str:
    """``add_`` of ``aten.add_.Tensor`` is the same operator as ``add``."""
    name = str(getattr(overload, "__name__", overload)).partition(".")[0]
    return name if name.startswith("_") else name.removesuffix("_")


def recorded() -> Iterable[str]:
    """What becomes of each operator that torch.export records."""
    tables = {"followed": RULES, "compiled": HANDLERS, "composed": COMPOSED}
    names = {k: {name_of(o) for o in table} for k, table in tables.items()}
    yield "| operator | channels are followed | a kernel computes it |"
    yield "|---|---|---|"
    for name in sorted(set().union(*names.values()), key=lambda n: n.strip("_")):
        composed, compiled = name in names["composed"], name in names["compiled"]
        how = {(True, True): "yes; some forms composed", (True, False): "composed", (False, True): "yes"}
        followed = "yes" if name in names["followed"] else "by what it is composed of" if composed else ""
        yield f"| `{name}` | {followed} | {how.get((composed, compiled), '')} |"


def kernels() -> Iterable[str]:
    """What a kernel can be, and where."""
    yield "| kernel | attributes | width axes are those of | an epilogue joins it | GPU |"
    yield "|---|---|---|---|---|"
    for name, operator in OPERATORS.items():
        attributes = ", ".join(f"`{a}`" for a in operator.attrs)
        fuses = "yes" if operator.fuses else ""
        gpu_too = "yes" if name in ANCHORS else ""
        yield f"| `{name}` | {attributes} | `{type(operator).__name__}` | {fuses} | {gpu_too} |"
    yield ""
    yield "| step of an epilogue, on CPUs and GPUs | is a function of |"
    yield "|---|---|"
    for name in sorted(ACTIVATIONS):
        yield f"| `{name}` | the kernel's value |"
    for name in sorted(OPERATIONS):
        yield f"| `{name}` | the kernel's value and the next input |"


def page() -> str:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return "\n".join([before + BEGIN, "", *recorded(), "", *kernels(), "", END + after])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    if parser.parse_args().check:
        return int(page() != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
