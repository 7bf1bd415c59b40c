"""The built-in zoo: small networks of the usual families, from their papers, with seeded random weights.

They are here so that every part of edgeprune can be tried without a download. Importing this
package imports torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from edgeprune.errors import ModelLoadError
from edgeprune.models.zoo.init import seeded
from edgeprune.models.zoo.mobilenet_v2 import mobilenet_v2
from edgeprune.models.zoo.mobilenet_v3 import mobilenet_v3_small
from edgeprune.models.zoo.resnet import resnet18, resnet50
from edgeprune.models.zoo.resnet_cifar import resnet8, resnet20
from edgeprune.models.zoo.squeezenet import squeezenet
from edgeprune.models.zoo.unet import unet_small
from edgeprune.models.zoo.vgg import vgg11_bn

__all__ = ["ZOO", "ZooEntry", "build", "input_shape"]


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """A network of the zoo: ``factory(**options) -> Module`` and the input (N, C, H, W) it is meant for."""

    factory: Callable[..., nn.Module]
    input_shape: tuple[int, int, int, int]


ZOO: dict[str, ZooEntry] = {
    "mobilenet_v2": ZooEntry(mobilenet_v2, (1, 3, 224, 224)),
    "mobilenet_v3_small": ZooEntry(mobilenet_v3_small, (1, 3, 224, 224)),
    "resnet8": ZooEntry(resnet8, (1, 3, 32, 32)),
    "resnet18": ZooEntry(resnet18, (1, 3, 224, 224)),
    "resnet20": ZooEntry(resnet20, (1, 3, 32, 32)),
    "resnet50": ZooEntry(resnet50, (1, 3, 224, 224)),
    "squeezenet": ZooEntry(squeezenet, (1, 3, 224, 224)),
    "unet_small": ZooEntry(unet_small, (1, 3, 64, 64)),
    "vgg11_bn": ZooEntry(vgg11_bn, (1, 3, 32, 32)),
}


def build(name: str, *, seed: int = 0, **options: Any) -> nn.Module:
    """A network of the zoo in ``eval`` mode; the same seed gives the same weights.

    Args:
        name: a key of :data:`ZOO`.
        seed: of the weights. The global random state is left as it was.
        **options: every factory takes ``num_classes``, ``in_channels`` and ``width`` (a multiplier of all channels).

    Raises:
        ModelLoadError: an unknown name or option, or a value the factory refuses.
    """
    entry = _entry(name)
    try:
        return seeded(lambda: entry.factory(**options), input_shape(name, **options), seed)
    except (TypeError, ValueError) as error:
        raise ModelLoadError(
            f"zoo network {name!r} cannot be built with {options}: {error}",
            hint="options are num_classes, in_channels and width; see edgeprune/models/zoo",
            name=name,
            options=options,
        ) from error


def input_shape(name: str, **options: Any) -> tuple[int, int, int, int]:
    """The input (N, C, H, W) that the network built with these options is meant for."""
    n, c, h, w = _entry(name).input_shape
    side = options.get("image")
    return n, options.get("in_channels", c), side or h, side or w


def _entry(name: str) -> ZooEntry:
    if name not in ZOO:
        close = difflib.get_close_matches(name, ZOO, n=1)
        raise ModelLoadError(
            f"the zoo has no network {name!r}; it has: {', '.join(ZOO)}",
            hint=f"did you mean {close[0]!r}?" if close else "",
            name=name,
            known=list(ZOO),
        )
    return ZOO[name]
