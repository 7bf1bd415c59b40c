"""Boxes: layouts of detectors, suppression, and average precision, which agrees with COCO's own evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeprune.errors import BadInputError
from edgeprune.training.tasks.average_precision import AveragePrecision
from edgeprune.training.tasks.boxes import detected, labels_of, layout_of, overlaps, suppressed, true_boxes
from edgeprune.training.tasks.detection import detection
from edgeprune.training.tasks.registry import load_task

TRUE = [torch.tensor([[1.0, 10, 10, 30, 40, 0]]), torch.tensor([[0.0, 5, 5, 25, 25, 0], [1.0, 40, 40, 60, 60, 0]])]


def perfect(layout: str) -> object:
    """What a detector of a layout puts out that sees just the true boxes: 12 places, of which most see nothing."""
    boxes, scores = torch.zeros(2, 12, 4), torch.zeros(2, 12, 3)
    boxes[..., 2:] = 1
    for i, rows in enumerate(TRUE):
        for j, row in enumerate(rows):
            boxes[i, 3 * j], scores[i, 3 * j, int(row[0])] = row[1:5], 0.9
            boxes[i, 3 * j + 1], scores[i, 3 * j + 1, int(row[0])] = row[1:5] + 1, 0.5  # to be suppressed
    middle = torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1)
    if layout == "yolov8":
        return torch.cat([middle, scores], -1).transpose(1, 2), [torch.zeros(2, 7, 3, 3)]
    if layout == "yolov5":
        return torch.cat([middle, torch.ones(2, 12, 1), scores], -1)
    if layout == "pairs":
        return {"boxes": boxes, "scores": scores}
    best, labels = scores.max(-1)
    if layout == "end2end":
        rows = torch.cat([boxes, best[..., None], labels[..., None].float()], -1)
        return torch.where((best == 0.9)[..., None], rows, 0.0)
    keep = best == 0.9
    return [
        {"boxes": b[k], "scores": s[k], "labels": c[k]} for b, s, c, k in zip(boxes, best, labels, keep, strict=True)
    ]


@pytest.mark.parametrize("layout", ["yolov8", "yolov5", "pairs", "end2end", "ready"])
def test_every_layout_is_told_and_decoded(layout: str) -> None:
    outputs = perfect(layout)
    assert layout_of(outputs) == layout
    for name in (layout, "auto"):
        task = load_task(f"detection?layout={name}")
        found = task.metric.start()
        found.update(task.read(outputs), TRUE)
        assert found.compute() == {"mAP 50-95": pytest.approx(1), "mAP 50": pytest.approx(1)}
    assert [len(f) for f in detected(outputs, layout, 0.1, 0.5, 300)] == [1, 2]


def test_other_outputs_are_refused_with_the_layouts() -> None:
    with pytest.raises(BadInputError, match="no layout that is known") as caught:
        detected(torch.zeros(2, 10), "auto", 0.1, 0.5, 10)
    assert "layout=yolov8" in caught.value.hint
    with pytest.raises(BadInputError, match="not of the layout 'end2end'"):
        detected(torch.zeros(2, 9, 10), "end2end", 0.1, 0.5, 10)


def test_suppression_keeps_the_stronger_of_a_class() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [50, 50, 60, 60]])
    scores = torch.tensor([[0.6, 0], [0.8, 0], [0, 0.7], [0.3, 0]])
    kept = suppressed(boxes, scores, 0.1, 0.5, 10)
    assert kept[:, 5].tolist() == [0, 1, 0]
    assert torch.equal(kept[0, :4], boxes[1])
    assert len(suppressed(boxes, scores, 0.1, 0.5, 1)) == 1
    assert suppressed(boxes, scores, 0.9, 0.5, 10).shape == (0, 6)


def test_overlaps() -> None:
    a, b = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[5.0, 0, 15, 10], [20, 20, 30, 30]])
    assert overlaps(a, b).tolist() == [[pytest.approx(1 / 3), 0]]
    assert overlaps(a, b, crowds=torch.tensor([True, False])).tolist() == [[pytest.approx(0.5), 0]]


def scene(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """An image of three classes with crowds, boxes that are nearly right, and some that are not."""
    true, found = [], []
    for _ in range(rng.integers(0, 8)):
        x, y = rng.uniform(0, 60, 2)
        w, h = rng.uniform(5, 40, 2)
        true.append([int(rng.integers(0, 3)), x, y, x + w, y + h, int(rng.random() < 0.15)])
    for row in true:
        for _ in range(rng.integers(0, 3)):
            d = rng.normal(0, 3, 4)
            box = [row[1] + d[0], row[2] + d[1], row[3] + d[2], row[4] + d[3]]
            if box[2] > box[0] and box[3] > box[1]:
                found.append([*box, rng.random(), row[0]])
    for _ in range(rng.integers(0, 4)):
        x, y = rng.uniform(0, 60, 2)
        w, h = rng.uniform(5, 40, 2)
        found.append([x, y, x + w, y + h, rng.random() * 0.7, int(rng.integers(0, 3))])
    return tuple(torch.tensor(r, dtype=torch.float64).reshape(-1, 6) for r in (found, true))


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        (0, (0.10852991251506104, 0.36029257687673527)),
        (1, (0.13260223137698385, 0.3664343220036289)),
        (2, (0.17080834893092747, 0.5378825746884291)),
    ],
)
def test_average_precision_is_cocos(seed: int, expected: tuple[float, float]) -> None:
    """The figures are those that pycocotools 2.0.11 gives for the same boxes."""
    rng, found = np.random.default_rng(seed), AveragePrecision()
    for _ in range(12):
        found.add(*scene(rng))
    values = found.compute()
    assert (float(values.mean()), float(values[0])) == pytest.approx(expected, abs=1e-12)


def test_boxes_are_matched_once_and_crowds_count_neither_way() -> None:
    true = torch.tensor([[0.0, 0, 0, 10, 10, 0], [0, 20, 0, 60, 10, 1]])
    twice = torch.tensor([[0.0, 0, 10, 10, 0.9, 0], [0, 0, 10, 10, 0.8, 0]])
    inside = torch.tensor([[0.0, 0, 10, 10, 0.9, 0], [22, 0, 30, 10, 0.95, 0]])
    wrong = torch.tensor([[0.0, 0, 10, 10, 0.9, 0], [70, 0, 80, 10, 0.95, 0]])
    for boxes, expected in ((twice, 1.0), (inside, 1.0), (wrong, 0.5)):
        found = AveragePrecision()
        found.add(boxes, true)
        assert float(found.compute()[0]) == pytest.approx(expected)
    missed = AveragePrecision()
    missed.add(torch.zeros(0, 6), true)
    assert float(missed.compute().mean()) == 0
    assert bool(AveragePrecision().compute().isnan().all())


def test_targets_of_torchvision_and_those_of_yolo_trainers() -> None:
    rows = true_boxes({"boxes": [[0, 0, 10, 20]], "labels": [2]})
    assert rows.tolist() == [[2, 0, 0, 10, 20, 0]]
    said = labels_of([rows, torch.zeros(0, 6), rows], height=40, width=20)
    assert said["batch_idx"].tolist() == [0, 2]
    assert said["bboxes"].tolist() == [[0.25, 0.25, 0.5, 0.5]] * 2
    assert said["cls"].tolist() == [[2], [2]]
    with pytest.raises(BadInputError, match="holds no boxes"):
        true_boxes(torch.zeros(3))


def test_distillation_of_a_detector_has_its_least_at_the_dense_network() -> None:
    dense, task = perfect("yolov8")[0], detection()
    assert float(task.distil(dense, dense, 1.0)) == pytest.approx(0, abs=1e-5)
    for place, change in (((0, 0, 0), 5.0), ((0, 5, 0), -0.4)):
        moved = dense.clone()
        moved[place] += change
        moved.requires_grad_(True)
        loss = task.distil(moved, dense, 1.0)
        (gradient,) = torch.autograd.grad(loss, moved)
        assert float(loss.detach()) > 0.01
        assert float(gradient[place]) * change > 0
