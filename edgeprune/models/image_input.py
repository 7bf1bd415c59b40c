"""An input that is taken as a camera frame: uint8, rows first, the channels of a pixel side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import BadInputError, UsageError
from edgeprune.jsonable import Jsonable

if TYPE_CHECKING:
    from torch import Tensor

_HINT = "write it as rgb, as bgr:imagenet, or as bgr:mean=0.485,0.456,0.406:std=0.229,0.224,0.225"
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_ORDERS = ("rgb", "bgr")
_DATA = ("exact", "nearest")

_AT_ONCE = 64
"""Images that are held in float64 at a time."""
EXACT = 0.02
"""Grey levels that a value of a data set may lie beside the level it was made from: float32 rounds mean and std."""


@dataclass(frozen=True, slots=True)
class ImageInput(Jsonable):
    """How a frame (N, H, W, C) becomes what the network takes: ``(frame / 255 - mean) / std``, as (N, C, H, W).

    Attributes:
        order: of the frame's channels: ``rgb``, the network's own, or ``bgr``, the opposite.
        mean, std: for each channel in the network's order, or one for all; frames reach from 0 to 1 here.
        input: the name of the input; empty where only one can be an image.
        data: of test images that are no frames: ``exact`` refuses them, ``nearest`` rounds them to frames.
    """

    order: str = "rgb"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    input: str = ""
    data: str = "exact"

    def __post_init__(self) -> None:
        """Raises UsageError for numbers or words that say nothing."""
        if self.order not in _ORDERS or self.data not in _DATA:
            raise UsageError(f"order is one of {', '.join(_ORDERS)}, data one of {', '.join(_DATA)}", hint=_HINT)
        if not all(map(math.isfinite, (*self.mean, *self.std))) or not min(self.std, default=0.0) > 0 or not self.mean:
            raise UsageError("mean and std are finite numbers, and std is above 0", hint=_HINT)

    @classmethod
    def parse(cls, said: str | ImageInput | None) -> ImageInput | None:
        """``bgr:mean=0.485,0.456,0.406:std=0.229,0.224,0.225``; parts in any order, each once.

        Raises:
            UsageError: something else.
        """
        if said is None or isinstance(said, ImageInput):
            return said
        found: dict[str, object] = {}
        for part in said.split(":"):
            name, equals, value = part.strip().partition("=")
            new: dict[str, object] = {"order": name}
            if equals:
                new = {name: _numbers(value) if name in ("mean", "std") else value}
            elif name == "imagenet":
                new = dict(_IMAGENET)
            if unknown := set(new) - {f.name for f in fields(cls)} or set(new) & set(found):
                raise UsageError(f"{said!r} names {min(unknown)!r} twice, or wrongly", hint=_HINT)
            found |= new
        return cls(**found)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """What :meth:`parse` reads."""
        said = [self.order, *(f"{n}={','.join(map(repr, getattr(self, n)))}" for n in ("mean", "std"))]
        return ":".join([*said, *(f"{n}={v}" for n, v in (("input", self.input), ("data", self.data)) if v)])

    def factors(self, channels: int) -> tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
        """For each of the network's channels: which one of the frame it is, and the factor and summand for it.

        Raises:
            UsageError: mean or std have another number of channels.
        """
        mean, std = (v * channels if len(v) == 1 else v for v in (self.mean, self.std))
        if len(mean) != channels or len(std) != channels:
            raise UsageError(f"the network takes {channels} channels; mean has {len(mean)}, std {len(std)}", hint=_HINT)
        order = tuple(range(channels))
        return (
            order if self.order == "rgb" else order[::-1],
            tuple(1 / (255 * s) for s in std),
            tuple(-m / s for m, s in zip(mean, std, strict=True)),
        )

    def normalised(self, frames: NDArray[np.uint8]) -> Tensor:
        """Frames (N, H, W, C) as the network takes them: float32, (N, C, H, W)."""
        import torch  # seconds, which what only reads a manifest need not wait

        order, scale, shift = (np.array(v) for v in self.factors(frames.shape[-1]))
        values = frames[..., order] * scale + shift
        return torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32))

    def frames(self, images: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float]:
        """The frames (N, H, W, C) that images (N, C, H, W) were made from, and how far the images lie beside them.

        The distance is the largest of all values, in grey levels.

        Raises:
            BadInputError: they were made from no frames by this mean and std, and ``data`` does not say to round them.
        """
        order, scale, shift = (np.array(v) for v in self.factors(images.shape[1]))
        frames = np.empty((len(images), *images.shape[2:], len(order)), np.uint8)
        distance = 0.0
        for begin in range(0, len(images), _AT_ONCE):
            levels = (np.moveaxis(images[begin : begin + _AT_ONCE], 1, -1).astype(np.float64) - shift) / scale
            levels[np.isnan(levels)] = np.inf
            nearest = np.clip(np.rint(levels), 0, 255)
            distance = max(distance, float(np.abs(levels - nearest).max(initial=0.0)))
            frames[begin : begin + _AT_ONCE] = nearest[..., np.argsort(order)]
        if distance > (EXACT if self.data == "exact" else np.finfo(np.float64).max):
            raise BadInputError(
                f"the images of the data set are no camera frames of mean {self.mean} and std {self.std}: a value lies "
                f"{distance:.3g} grey levels beside one of 0 to 255",
                hint="give the mean and std that the data was made with; data=nearest rounds it to frames",
                distance=distance,
            )
        return frames, distance


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(n) for n in text.split(","))
    except ValueError:
        raise UsageError(f"{text!r} are no numbers", hint=_HINT) from None
