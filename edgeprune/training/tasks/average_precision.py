"""Average precision of detections, as COCO defines it: 101 recalls, ten thresholds of overlap, 100 boxes an image.

Source: Lin et al. 2014, "Microsoft COCO", arXiv:1405.0312; the rules of its evaluation server (cocodataset.org,
"Detection evaluation").
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from edgeprune.training.tasks.boxes import overlaps

THRESHOLDS = tuple(0.5 + 0.05 * i for i in range(10))
RECALLS = np.linspace(0, 1, 101)
MOST = 100
"""Found boxes of an image that count."""


@dataclass(slots=True)
class AveragePrecision:
    """Images are added one by one; :meth:`compute` gives the mean over classes that have a true box.

    Attributes:
        scores, right, ignored: by class, for each image its found boxes' scores (n,), and for each threshold (10, n)
            whether a box is right and whether it counts neither way (it lies in a crowd).
        true: by class, true boxes that are no crowd.
    """

    scores: dict[int, list[Tensor]] = field(default_factory=dict)
    right: dict[int, list[Tensor]] = field(default_factory=dict)
    ignored: dict[int, list[Tensor]] = field(default_factory=dict)
    true: dict[int, int] = field(default_factory=dict)

    def add(self, found: Tensor, true: Tensor) -> None:
        """One image: found boxes (n, 6) and true ones (m, 6), as :mod:`~edgeprune.training.tasks.boxes` has them."""
        found = found[found[:, 4].argsort(descending=True, stable=True)]
        for label in {*found[:, 5].int().tolist(), *true[:, 0].int().tolist()}:
            ours, theirs = found[found[:, 5] == label][:MOST], true[true[:, 0] == label]
            right, ignored = _matched(ours, theirs)
            for table, value in ((self.scores, ours[:, 4]), (self.right, right), (self.ignored, ignored)):
                table.setdefault(label, []).append(value)
            self.true[label] = self.true.get(label, 0) + int((theirs[:, 5] == 0).sum())

    def compute(self) -> Tensor:
        """Average precision at each threshold (10,), NaN if no image has a true box."""
        rows = [self._of(label, count) for label, count in sorted(self.true.items()) if count]
        return torch.stack(rows).mean(0) if rows else torch.full((len(THRESHOLDS),), float("nan"))

    def _of(self, label: int, count: int) -> Tensor:
        scores = torch.cat(self.scores[label])
        order = scores.argsort(descending=True, stable=True)
        right = torch.cat(self.right[label], 1)[:, order]
        wrong = ~right & ~torch.cat(self.ignored[label], 1)[:, order]
        hits, misses = right.double().cumsum(1), wrong.double().cumsum(1)
        recall, precision = hits / count, hits / (hits + misses).clamp(min=1e-12)
        # Precision never rises with recall: the best at this recall or any higher one.
        precision = precision.flip(1).cummax(1).values.flip(1) if precision.shape[1] else precision
        asked = torch.from_numpy(RECALLS)
        values = torch.zeros(len(THRESHOLDS), dtype=torch.float64)
        for i in range(len(THRESHOLDS)):
            places = torch.searchsorted(recall[i].contiguous(), asked)
            inside = places < recall.shape[1]
            values[i] = precision[i][places[inside]].sum() / len(asked)
        return values


def _matched(found: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """For each threshold, which found boxes of a class are right and which count neither way: (10, n) both.

    In order of their scores, each takes the free true box that it overlaps most; only then a crowd, which any number
    of boxes may lie in.
    """
    shape = (len(THRESHOLDS), len(found))
    right, ignored = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    if not len(found) or not len(true):
        return right, ignored
    crowds = true[:, 5] > 0
    table = overlaps(found[:, :4].double(), true[:, 1:5].double(), crowds=crowds)
    for t, threshold in enumerate(THRESHOLDS):
        free = ~crowds
        for i, row in enumerate(table):
            best, place = torch.where(free, row, -1.0).max(0)
            if best >= threshold - 1e-10:
                right[t, i] = True
                free[place] = False
            elif bool((row[crowds] >= threshold - 1e-10).any()):
                ignored[t, i] = True
    return right, ignored
