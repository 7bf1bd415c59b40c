"""Names of files as paths in a module: ``encoder.layers.0.weight`` stays what it is; anything else becomes one."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence

from torch import nn
from torch.fx import GraphModule

_TAKEN = (
    frozenset(dir(nn.Module()))
    | frozenset(dir(GraphModule))
    | {"self", "torch", "math", "inf", "nan", "device", "meta"}
)
"""What modules have, and the code that is generated for them."""


def parts(name: str) -> list[str]:
    """The steps of a path: ``/layer1/layer1.0/conv/Conv`` is layer1, layer1, 0, conv, Conv."""
    return [_plain(p) for p in re.split(r"[./:\\]+", name) if p]


def layer_parts(label: str, operator: str, weight: str = "") -> list[str]:
    """Where a node's layer lies: by its weight's name where an exporter kept it, else by the node's."""
    stem, dot, last = weight.rpartition(".")
    if dot and last in ("weight", "kernel") and "::" not in stem:
        return parts(stem)
    names = [p for p in re.split(r"[/\\]+", label) if p]
    # Torch's exporter repeats each scope in the next one: /layer1/layer1.0/conv/Conv.
    kept: list[str] = []
    for name in names:
        if kept and name.startswith(kept[-1] + "."):
            kept.pop()
        kept.append(name)
    if len(kept) > 1 and re.fullmatch(re.escape(operator) + r"(_\d+)?", kept[-1]):
        kept.pop()
    return parts("/".join(kept)) or [_plain(operator)]


def identifier(name: str, taken: Sequence[str]) -> str:
    """A name for an argument of ``forward``, unlike those that are taken."""
    plain = _plain(name)
    plain = f"input_{plain}" if plain[0].isdigit() else plain
    while plain in taken:
        plain += "_"
    return plain


def free_path(root: nn.Module, steps: Sequence[str]) -> str:
    """A path below ``root`` that nothing has yet: the steps, the first that is in the way with ``_`` added."""
    path: list[str] = []
    at: nn.Module | None = root
    for i, step in enumerate(steps):
        last = i + 1 == len(steps)
        found: object = None
        # A layer without bias has the attribute all the same: it is taken.
        while at is not None and hasattr(at, step):
            found = getattr(at, step)
            if isinstance(found, nn.Module) and not last:
                break
            step, found = step + "_", None
        path.append(step)
        at = found if isinstance(found, nn.Module) else None
    return ".".join(path)


def _plain(part: str) -> str:
    name = re.sub(r"[^0-9A-Za-z_]+", "_", part) or "_"
    return name + "_" if name in _TAKEN or keyword.iskeyword(name) or keyword.issoftkeyword(name) else name
