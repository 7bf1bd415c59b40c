"""How an image file becomes the input of a network: colours, scale, size; said in one line, and in the report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from edgeprune.errors import ModelLoadError, UsageError

SCALES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "unit": ((0.0,), (1.0,)),
    "signed": ((0.5,), (0.5,)),
    "raw": ((0.0,), (1 / 255,)),
}
"""Mean and standard deviation by name, of pixels between 0 and 1; ImageNet's are those that torchvision uses."""
FITS = ("crop", "letterbox", "stretch")
ORDERS = ("rgb", "bgr", "grey")
CROP = 0.875
"""Part of an image that a crop keeps: 224 of 256, as torchvision evaluates classifiers."""
PAD = 114
"""Grey around a letterboxed image, as ultralytics pads."""


class Placed(NamedTuple):
    """Where an image lies in the network's input: x there = x in the file * scale + shift."""

    scale_x: float
    scale_y: float
    shift_x: float
    shift_y: float


@dataclass(frozen=True, slots=True)
class Pixels:
    """How images are read.

    Attributes:
        mean, std: of pixels between 0 and 1, one number or one for each channel.
        order: ``rgb``, ``bgr`` or ``grey``.
        fit: ``crop``: the shorter side resized, the centre kept; ``letterbox``: the whole image, padded;
            ``stretch``: the whole image, whatever its proportions. An image of just the size is taken as it is.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: str
    fit: str

    @classmethod
    def parse(cls, text: str | None, default: str, channels: int) -> Pixels:
        """``imagenet,crop``, ``unit,letterbox,bgr`` or ``mean=0.5/0.5/0.5,std=0.25,stretch``, in any order.

        Args:
            default: the same, for what ``text`` does not say.
            channels: of the network's input.

        Raises:
            UsageError: anything else, or what a network of so many channels cannot take.
        """
        if channels not in (1, 3):
            raise UsageError(
                f"images have 1 or 3 channels, and the network takes {channels}",
                hint="give the data as arrays, or by a factory of your own (docs/DATA.md)",
            )
        found: dict[str, str] = {"order": "grey" if channels == 1 else "rgb"}
        for words in (default, text or ""):
            for word in filter(None, (w.strip() for w in words.split(","))):
                key, equals, value = word.partition("=")
                if word in SCALES:
                    found |= {"scale": word, "mean": "", "std": ""}
                elif word in FITS or word in ORDERS:
                    found["fit" if word in FITS else "order"] = word
                elif equals and key in ("mean", "std"):
                    found[key] = value
                else:
                    names = ", ".join((*SCALES, *FITS, *ORDERS, "mean=…", "std=…"))
                    raise UsageError(f"{word!r} says nothing of pixels", hint=f"--pixels takes {names}")
        scale = SCALES[found.get("scale", "unit")]
        if channels == 1 and len(scale[0]) == 3:  # an image of one channel: the mean of the three
            scale = (sum(scale[0]) / 3,), (sum(scale[1]) / 3,)
        made = cls(
            _numbers(found.get("mean"), scale[0]), _numbers(found.get("std"), scale[1]), found["order"], found["fit"]
        )
        if (made.order == "grey") != (channels == 1):
            raise UsageError(f"a network of {channels} channels takes no images that are {made.order}")
        if not {len(made.mean), len(made.std)} <= {1, channels} or min(made.std) <= 0:
            raise UsageError(
                f"mean {made.mean} and std {made.std} do not go with {channels} channels",
                hint="give one number, or one for each channel: mean=0.485/0.456/0.406",
            )
        return made

    def __str__(self) -> str:
        """In words, for reports: ``rgb, 0 to 1, less 0.485/0.456/0.406, by 0.229/0.224/0.225, crop``."""
        return f"{self.order}, 0 to 1, less {_joined(self.mean)}, by {_joined(self.std)}, {self.fit}"

    def read(self, file: Path, height: int, width: int) -> tuple[Tensor, Placed]:
        """The pixels of a file in the network's size, uint8 (C, height, width), and where the image lies in it.

        Raises:
            ModelLoadError: it is no image, or a broken one.
        """
        try:
            with Image.open(file) as opened:
                image = ImageOps.exif_transpose(opened)
                image = _converted(image, "L" if self.order == "grey" else "RGB")
        except (
            OSError,
            ValueError,
            SyntaxError,
            Image.DecompressionBombError,
            Image.DecompressionBombWarning,
        ) as error:
            raise broken(file, error) from error
        image, placed = self._fitted(image, height, width)
        array = np.array(image, dtype=np.uint8).reshape(height, width, -1)
        if self.order == "bgr":
            array = array[:, :, ::-1]
        return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1))), placed

    def scaled(self, pixels: Tensor) -> Tensor:
        """Pixels (N, C, H, W) of uint8 as the network takes them, in float32."""
        mean, std = (255 * torch.tensor(v, dtype=torch.float64).reshape(-1, 1, 1) for v in (self.mean, self.std))
        return (pixels.float() - mean.float()) / std.float()

    def _fitted(self, image: Image.Image, height: int, width: int) -> tuple[Image.Image, Placed]:
        w, h = image.size
        if (w, h) == (width, height):
            return image, Placed(1.0, 1.0, 0.0, 0.0)
        if self.fit == "stretch":
            return image.resize((width, height), Image.Resampling.BILINEAR), Placed(width / w, height / h, 0.0, 0.0)
        scale = max(width / w, height / h) / CROP if self.fit == "crop" else min(width / w, height / h)
        new_w, new_h = (max(1, round(side * scale)) for side in (w, h))
        if self.fit == "crop":
            new_w, new_h = max(new_w, width), max(new_h, height)
        resized = image.resize((new_w, new_h), Image.Resampling.BILINEAR)
        left, top = _half(width - new_w), _half(height - new_h)
        canvas = Image.new(image.mode, (width, height), PAD if image.mode == "L" else (PAD,) * 3)
        canvas.paste(resized, (left, top))
        return canvas, Placed(new_w / w, new_h / h, left, top)


def size_of(file: Path) -> tuple[int, int]:
    """Width and height of an image as it is shown, from its header alone.

    Raises:
        ModelLoadError: it is no image.
    """
    try:
        with Image.open(file) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else (image.width, image.height)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise broken(file, error) from error


def broken(file: Path, error: Exception) -> ModelLoadError:
    """The error of a file that is no image, or a damaged one."""
    return ModelLoadError(
        f"{file} cannot be read as an image: {error}",
        hint="replace the file, or take it out of the folder",
        file=str(file),
    )


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode)


def _half(space: int) -> int:
    """Half of a space that may be negative; what is odd goes to the far side."""
    return math.floor(space / 2) if space >= 0 else -math.floor(-space / 2)


def _numbers(text: str | None, default: tuple[float, ...]) -> tuple[float, ...]:
    if not text:
        return default
    try:
        found = tuple(float(n) for n in text.split("/"))
    except ValueError:
        found = (math.nan,)
    if not all(map(math.isfinite, found)):
        raise UsageError(f"{text!r} are no numbers", hint="write them as 0.485/0.456/0.406")
    return found


def _joined(values: tuple[float, ...]) -> str:
    return "/".join(f"{v:.6g}" for v in values)
