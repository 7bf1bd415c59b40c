"""Detection: judged by mean average precision; trained by the dense network's boxes and scores, or by a given loss."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeprune.errors import BadInputError, UsageError
from edgeprune.training.distill import match
from edgeprune.training.tasks.average_precision import AveragePrecision
from edgeprune.training.tasks.boxes import LAYOUTS, decode, detected, layout_of, true_boxes
from edgeprune.training.tasks.task import Metric, Step, Task, Trainer

_NAME, _HALF = "mAP 50-95", "mAP 50"


class _Precision:
    def __init__(self) -> None:
        self.found = AveragePrecision()

    def update(self, outputs: Any, targets: Any) -> None:
        if not isinstance(targets, list | tuple) or len(targets) != len(outputs):
            raise BadInputError(
                "the data have no boxes for each image", hint="give a YOLO or COCO folder (docs/DATA.md)"
            )
        for found, target in zip(outputs, targets, strict=True):
            if not bool(found.isfinite().all()):
                raise BadInputError("found boxes hold NaN or infinity", hint="the network or its weights are broken")
            self.found.add(found, true_boxes(target))

    def compute(self) -> dict[str, float]:
        values = self.found.compute()
        return {_NAME: float(values.mean()), _HALF: float(values[0])}


def detection(
    layout: str = "auto",
    confidence: float = 0.001,
    iou: float = 0.7,
    most: int = 300,
    *,
    step: Step | None = None,
    finetune: Trainer | None = None,
) -> Task:
    """Mean average precision of boxes; without ``step`` or ``finetune``, training draws boxes and scores to the dense
    network's, and labels serve the metric alone: how boxes are assigned to outputs is a matter of each architecture.

    Args:
        layout: of the outputs: ``yolov8``, ``yolov5``, ``pairs``, ``end2end`` or ``ready``
            (:mod:`~edgeprune.training.tasks.boxes`); ``auto`` tells by their shapes.
        confidence: boxes of lower scores are left out.
        iou: overlap above which the weaker of two boxes of a class goes.
        most: boxes of one image that are kept.
        step, finetune: as those of :class:`~edgeprune.training.tasks.task.Task`.
    """
    if layout not in LAYOUTS or not 0 <= confidence < 1 or not 0 < iou <= 1 or most < 1:
        raise UsageError(
            f"detection?layout={layout}&confidence={confidence}&iou={iou}&most={most} makes no sense",
            hint=f"layouts: {', '.join(LAYOUTS)}; confidence and iou are shares",
        )

    def distil(student: Any, teacher: Any, temperature: float) -> Tensor:
        told = layout_of(teacher) if layout == "auto" else layout
        if told in ("end2end", "ready"):
            return match(student, teacher, temperature)
        losses = [_apart(*s, *t) for s, t in zip(decode(student, told), decode(teacher, told), strict=True)]
        return torch.stack(losses).mean()

    return Task(
        "detection",
        Metric(_NAME, _Precision),
        step=step,
        finetune=finetune,
        postprocess=lambda outputs: detected(outputs, layout, confidence, iou, most),
        distil=distil,
    )


def _apart(boxes: Tensor, scores: Tensor, dense_boxes: Tensor, dense_scores: Tensor) -> Tensor:
    """How far the boxes (a, 4) and scores (a, K) of an image are from the dense network's: of scores that are
    probabilities the cross entropy, of boxes the distance relative to their size where the dense network sees one.
    """
    dense_boxes, dense_scores = dense_boxes.detach(), dense_scores.detach()
    weight = dense_scores.amax(1).clamp(0, 1)
    total = weight.sum() + 1e-3
    if bool(((dense_scores >= 0) & (dense_scores <= 1)).all()):
        named = F.binary_cross_entropy(scores.clamp(1e-6, 1 - 1e-6), dense_scores, reduction="none")
        least = F.binary_cross_entropy(dense_scores.clamp(1e-6, 1 - 1e-6), dense_scores, reduction="none")
        named = (named - least).sum()
    else:
        named = (scores - dense_scores).square().sum()
    size = (dense_boxes[:, 2:] - dense_boxes[:, :2]).abs().mean(1).clamp(min=1.0)
    placed = ((boxes - dense_boxes).abs().mean(1) / size * weight).sum()
    return (named + placed) / total
