"""Images of 500 Han characters in 28 of Debian's fonts, distorted: a data set that any Debian machine can draw.

The characters are of the first level of JIS X 0208, which people in Japan read every day; those in all of the fonts,
evenly spread over the code points. Fonts of the test half are none of the training half's: it is read in hands and
brushes that no network has seen. That makes it hard; MNIST, where every pruned network is right, tells nothing apart.

``apt-get download`` fetches the packages (about 160 MB); nothing is installed.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

TRAINING_FONTS = {
    "fonts-ipaexfont-mincho": "ipaexm.ttf",
    "fonts-ipaexfont-gothic": "ipaexg.ttf",
    "fonts-wqy-microhei": "wqy-microhei.ttc",
    "fonts-wqy-zenhei": "wqy-zenhei.ttc",
    "fonts-arphic-uming": "uming.ttc",
    "fonts-arphic-ukai": "ukai.ttc",
    "fonts-motoya-l-cedar": "MTLc3m.ttf",
    "fonts-motoya-l-maruberi": "MTLmr3m.ttf",
    "fonts-sawarabi-mincho": "sawarabi-mincho-medium.ttf",
    "fonts-sawarabi-gothic": "sawarabi-gothic-medium.ttf",
    "fonts-vlgothic": "VL-Gothic-Regular.ttf",
    "fonts-horai-umefont": "ume-hgo5.ttf",
    "fonts-kiloji": "kiloji.ttf",
    "fonts-kouzan-mouhitsu": "kouzan-mouhitsu.ttf",
    "fonts-yozvox-yozfont-standard-kana": "YOzRS_.ttf",
    "fonts-cwtex-fs": "cwfs.ttf",
    "fonts-cwtex-kai": "cwkai.ttf",
    "fonts-hanazono": "HanaMinA.ttf",
    "fonts-reggae": "ReggaeOne-Regular.ttf",
    "fonts-monapo": "monapo.ttf",
}
TEST_FONTS = {
    "fonts-seto": "setofont.ttf",
    "fonts-aoyagi-soseki": "aoyagi-soseki.ttf",
    "fonts-aoyagi-kouzan-t": "AoyagiKouzanT.ttf",
    "fonts-oradano-mincho-gsrr": "OradanoGSRR.ttf",
    "fonts-dejima-mincho": "dejima-mincho-r227.ttf",
    "fonts-konatu": "Konatu.ttf",
    "fonts-komatuna": "komatuna.ttf",
    "fonts-cwtex-yen": "cwyen.ttf",
}
"""Package -> file. Two of the test half are handwritten, two are brushes or cut in lead, the others are printed."""

SIDE, CANVAS, POINTS = 32, 64, 52
"""Pixels of an image, of the canvas that a character is drawn on, and of the character."""
PER_CLASS = (24, 32)
"""Images of each character in the training half and in the test half."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Images:
    """Both halves: uint8 images (N, 1, 32, 32), int64 labels (N,)."""

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array


def drawn(folder: Path, classes: int = 500, *, seed: int = 0) -> Images:
    """The data set, drawn anew; the same fonts and seed give the same images.

    Args:
        folder: where the fonts are, or are downloaded to.

    Raises:
        SystemExit: the fonts can be neither found nor downloaded.
    """
    fonts = [fetched(folder, given) for given in (TRAINING_FONTS, TEST_FONTS)]
    characters = common(fonts[0] + fonts[1])
    chosen = [characters[i] for i in np.linspace(0, len(characters) - 1, classes).astype(int)]
    halves = [_half(chosen, fonts[i], PER_CLASS[i], np.random.default_rng([seed, i])) for i in range(2)]
    return Images(*halves[0], *halves[1])


def fetched(folder: Path, wanted: dict[str, str]) -> list[Path]:
    """The font files of packages, which are downloaded and unpacked where they are not in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Path] = []
    for package, file in wanted.items():
        home = folder / package
        if not any(home.rglob(file)):
            try:
                subprocess.run(["apt-get", "download", package], cwd=folder, check=True, capture_output=True)
                archive = next(folder.glob(f"{package}_*.deb"))
                subprocess.run(["dpkg", "-x", str(archive), str(home)], check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError, StopIteration) as e:
                raise SystemExit(f"{package} cannot be downloaded ({e}); on Debian, run 'apt-get update' first") from e
            archive.unlink()
        found.append(next(home.rglob(file)))
    return found


def common(fonts: Sequence[Path]) -> list[str]:
    """Characters of JIS X 0208, level 1, that all fonts have, by code point."""
    from fontTools.ttLib import TTFont

    left = {
        bytes([row, cell]).decode("euc_jp")
        for row in range(0xB0, 0xD0)
        for cell in range(0xA1, 0xFF)
        if (row, cell) <= (0xCF, 0xD3)
    }
    for path in fonts:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            left &= {c for c in left if ord(c) in font.getBestCmap()}
    return sorted(left)


def _half(characters: Sequence[str], fonts: Sequence[Path], each: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Each character ``each`` times, fonts in turn."""
    opened = [ImageFont.truetype(str(path), POINTS, index=0) for path in fonts]
    images = np.zeros((len(characters) * each, 1, SIDE, SIDE), np.uint8)
    labels = np.repeat(np.arange(len(characters)), each)
    for i, label in enumerate(labels):
        # Where a font comes around is different for each character, so that all are seen equally often.
        font = opened[(i + label) % len(opened)]
        images[i, 0] = distorted(canvas(characters[int(label)], font), rng)
    return images, labels


def canvas(character: str, font: ImageFont.FreeTypeFont) -> Array:
    """A character in the middle of a square: float32, 0 to 1."""
    picture = Image.new("L", (CANVAS, CANVAS))
    ImageDraw.Draw(picture).text((CANVAS / 2, CANVAS / 2), character, fill=255, font=font, anchor="mm")
    return np.asarray(picture, np.float32) / 255


def distorted(picture: Array, rng: np.random.Generator) -> Array:
    """Thinner or thicker, turned, sheared, scaled, moved, bent, blurred, with noise and less contrast: uint8."""
    thickness = rng.integers(-1, 2)
    if thickness:
        morph = ndimage.grey_dilation if thickness > 0 else ndimage.grey_erosion
        picture = 0.5 * picture + 0.5 * morph(picture, size=(2, 2))
    picture = ndimage.gaussian_filter(picture, rng.uniform(0.6, 1.2))
    angle, shear = rng.normal(0, 0.12), rng.normal(0, 0.12)
    zoom = CANVAS / SIDE / rng.uniform(0.85, 1.15, 2)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) @ [[1, shear], [0, 1]]
    grid = np.stack(np.meshgrid(*[np.arange(SIDE) - SIDE / 2 + 0.5] * 2, indexing="ij")).reshape(2, -1)
    bend = np.stack([ndimage.gaussian_filter(rng.normal(0, 1, (SIDE, SIDE)), 4) for _ in range(2)]).reshape(2, -1)
    bend *= rng.uniform(0, 1.2) / max(float(bend.std()), 1e-6)
    places = zoom[:, None] * (turn @ (grid + bend)) + CANVAS / 2 - 0.5 + rng.normal(0, 2, (2, 1))
    found = ndimage.map_coordinates(picture, places, order=1).reshape(SIDE, SIDE)
    low, high = rng.uniform(0, 0.3), rng.uniform(0.6, 1.0)
    noisy = low + (high - low) * found + rng.normal(0, rng.uniform(0.02, 0.12), found.shape)
    return np.asarray(np.clip(noisy, 0, 1) * 255, np.uint8)
