"""Boxes: what detectors put out, decoded from the common layouts, and non-maximum suppression.

A box is (x1, y1, x2, y2) in pixels of the network's input. *Found* boxes of an image are (n, 6): box, score, class;
*true* boxes are (m, 6): class, box, 1 for a crowd and else 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edgeprune.errors import BadInputError, UsageError

LAYOUTS = ("auto", "yolov8", "yolov5", "pairs", "end2end", "ready")
CANDIDATES = 3000
"""Boxes of an image that suppression looks at, at most; those of the highest scores."""


def decode(outputs: Any, layout: str, classes: int | None = None) -> list[tuple[Tensor, Tensor]]:
    """Boxes (a, 4) and scores (a, classes) of each image, before suppression.

    Args:
        layout: ``yolov8``: (N, 4 + K, A), centre, size and scores, as ultralytics exports; ``yolov5``: (N, A, 5 + K),
            centre, size, objectness, scores, as YOLOv5 and YOLOX; ``pairs``: corners (N, A, 4) and scores (N, A, K);
            ``auto``: whichever of these the shapes allow.

    Raises:
        BadInputError: outputs of another layout, or of another number of classes.
    """
    first = _tensors(outputs)
    layout = layout if layout != "auto" else layout_of(outputs)
    if layout == "pairs":
        boxes, scores = (first[0], first[1]) if first[0].shape[-1] == 4 else (first[1], first[0])
    elif layout == "yolov8":
        boxes, scores = _corners(first[0][:, :4].transpose(1, 2)), first[0][:, 4:].transpose(1, 2)
    else:
        boxes, scores = _corners(first[0][..., :4]), first[0][..., 4:5] * first[0][..., 5:]
    if boxes.shape[-1] != 4 or boxes.shape[:2] != scores.shape[:2] or not scores.shape[-1]:
        raise BadInputError(f"outputs {_shapes(outputs)} are not of the layout {layout!r}", hint=_HINT)
    if classes is not None and scores.shape[-1] != classes:
        raise BadInputError(
            f"outputs {_shapes(outputs)}, read as {layout!r}, tell {scores.shape[-1]} classes apart, not {classes}",
            hint=_HINT,
        )
    return list(zip(boxes, scores, strict=True))


_HINT = "give the layout: --task 'detection?layout=yolov8' (or yolov5, pairs, end2end, ready); docs/TASKS.md"


def layout_of(outputs: Any) -> str:
    """The layout that the shapes of outputs allow.

    Raises:
        BadInputError: none of those that are known.
    """
    if isinstance(outputs, list | tuple) and outputs and all(isinstance(o, Mapping) and "boxes" in o for o in outputs):
        return "ready"
    found = _tensors(outputs)
    shapes = [tuple(t.shape) for t in found]
    pair = len(shapes) > 1 and all(len(s) == 3 for s in shapes[:2]) and shapes[0][:2] == shapes[1][:2]
    if pair and 4 in (shapes[0][2], shapes[1][2]):
        return "pairs"
    if shapes and len(shapes[0]) == 3:
        rows, columns = shapes[0][1:]
        if columns == 6 and rows <= 1000:
            return "end2end"
        if rows > 4 and rows < columns:
            return "yolov8"
        if columns > 5:
            return "yolov5"
    raise BadInputError(f"outputs {_shapes(outputs)} are of no layout that is known", hint=_HINT)


def detected(outputs: Any, layout: str, confidence: float, iou: float, most: int) -> list[Tensor]:
    """The found boxes (n, 6) of each image, after suppression; highest scores first.

    Args:
        layout: as for :func:`decode`; ``end2end``: (N, n, 6), box, score and class; ``ready``: a mapping of ``boxes``,
            ``scores`` and ``labels`` for each image, as torchvision has them.

    Raises:
        UsageError: an unknown layout; BadInputError: outputs that are not of it.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"there is no layout {layout!r}", hint=f"choose one of {', '.join(LAYOUTS)}")
    layout = layout_of(outputs) if layout == "auto" else layout
    if layout == "ready":
        rows = [torch.cat([o["boxes"], o["scores"][:, None], o["labels"][:, None].float()], 1) for o in outputs]
    elif layout == "end2end":
        rows = list(_tensors(outputs)[0])
        if not rows or rows[0].dim() != 2 or rows[0].shape[1] != 6:
            raise BadInputError(f"outputs {_shapes(outputs)} are not of the layout 'end2end'", hint=_HINT)
    else:
        return [suppressed(b, s, confidence, iou, most) for b, s in decode(outputs, layout)]
    kept = (r[r[:, 4] > confidence] for r in rows)
    return [r[r[:, 4].argsort(descending=True, stable=True)][:most] for r in kept]


def suppressed(boxes: Tensor, scores: Tensor, confidence: float, iou: float, most: int) -> Tensor:
    """Greedy non-maximum suppression, class by class: (n, 6), highest scores first.

    Args:
        boxes: (a, 4); scores: (a, K). A box counts once for each class with a score above ``confidence``.
        iou: of two boxes of one class that overlap by more, the one with the lower score goes.
    """
    places, labels = (scores > confidence).nonzero(as_tuple=True)
    values = scores[places, labels]
    values, order = values.sort(descending=True, stable=True)
    values, order = values[:CANDIDATES], order[:CANDIDATES]
    found, labels = boxes[places[order]], labels[order]
    if not len(found):
        return boxes.new_zeros(0, 6)
    over = (overlaps(found, found) > iou) & (labels[:, None] == labels)
    alive, kept = torch.ones(len(found), dtype=torch.bool), []
    for i in range(len(found)):
        if alive[i]:
            kept.append(i)
            if len(kept) == most:
                break
            alive &= ~over[i]
    return torch.cat([found[kept], values[kept, None], labels[kept, None].float()], 1)


def overlaps(a: Tensor, b: Tensor, *, crowds: Tensor | None = None) -> Tensor:
    """Intersection over union of boxes (n, 4) and (m, 4): (n, m). Where ``crowds`` (m,) is true, it is the share of the
    box of ``a`` that lies inside.
    """
    low, high = torch.maximum(a[:, None, :2], b[:, :2]), torch.minimum(a[:, None, 2:], b[:, 2:])
    inside = (high - low).clamp(min=0).prod(-1)
    area = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(-1)[:, None]
    union = area + (b[:, 2:] - b[:, :2]).clamp(min=0).prod(-1) - inside
    if crowds is not None:
        union = torch.where(crowds, area.expand_as(union), union)
    return inside / union.clamp(min=1e-9)


def true_boxes(target: Any) -> Tensor:
    """The true boxes (m, 6) of one image: rows as they are; or a mapping of ``boxes`` (m, 4), corners in pixels, and
    ``labels`` (m,), with ``iscrowd`` (m,) if there are crowds, as torchvision has them.

    Raises:
        BadInputError: it is neither.
    """
    if isinstance(target, Mapping) and "boxes" in target and "labels" in target:
        boxes = torch.as_tensor(target["boxes"]).float().reshape(-1, 4)
        labels = torch.as_tensor(target["labels"]).float().reshape(-1, 1)
        crowd = torch.as_tensor(target.get("iscrowd", torch.zeros(len(boxes)))).float().reshape(-1, 1)
        if len(boxes) == len(labels) == len(crowd):
            return torch.cat([labels, boxes, crowd], 1)
    elif isinstance(target, Tensor) and target.dim() == 2 and target.shape[1] == 6:
        return target
    raise BadInputError(
        "a target holds no boxes", hint="give (m, 6): class, x1, y1, x2, y2, crowd; or a mapping of boxes and labels"
    )


def labels_of(targets: list[Tensor], height: int, width: int) -> dict[str, Tensor]:
    """The true boxes of a batch as trainers of the YOLO family take them.

    Returns:
        ``batch_idx`` (n,), ``cls`` (n, 1) and ``bboxes`` (n, 4): centre and size as shares of the image.
    """
    rows = torch.cat([true_boxes(t) for t in targets])
    numbers = torch.cat([torch.full((len(true_boxes(t)),), float(i)) for i, t in enumerate(targets)])
    keep = rows[:, 5] == 0
    rows, numbers = rows[keep], numbers[keep]
    size = torch.tensor([width, height] * 2, dtype=torch.float32)
    centres, sizes = (rows[:, 1:3] + rows[:, 3:5]) / 2, rows[:, 3:5] - rows[:, 1:3]
    return {"batch_idx": numbers, "cls": rows[:, :1], "bboxes": torch.cat([centres, sizes], 1) / size}


def _corners(boxes: Tensor) -> Tensor:
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


def _tensors(outputs: Any) -> list[Tensor]:
    """The tensors of outputs in order, as deep as the first one lies: further ones are feature maps, as a rule."""
    if isinstance(outputs, Tensor):
        return [outputs]
    values = list(outputs.values() if isinstance(outputs, Mapping) else outputs)
    plain = [v for v in values if isinstance(v, Tensor)]
    return plain or (_tensors(values[0]) if values else [])


def _shapes(outputs: Any) -> str:
    return f"of the shapes {[tuple(t.shape) for t in _tensors(outputs)]}"
