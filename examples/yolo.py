"""Ultralytics' YOLO11n on drawn shapes: trained, pruned to half of its milliseconds, fine-tuned twice, drawn.

    pip install ultralytics
    python examples/yolo.py [--folder runs/yolo] [--epochs 60] [--recover 20]
    python examples/yolo.py draw PICTURE ... [--device URL] [--out boxes.png]

The first command draws a detection set (examples/shapes.py), trains YOLO11n on it from nothing by ultralytics' trainer,
and has edgeprune fit it to half of its measured latency twice: once fine-tuned by edgeprune's task ``detection`` with
ultralytics' loss, and once by ultralytics' own trainer (docs/TASKS.md). Each is compiled, installed on
``local:`` and judged there, and the last one draws its boxes into pictures that it never saw. Exits 0 only if
both stay within 2 points of the dense network's mAP and inside the budget. A dense network that was trained before is
used again.

The second command runs the network that is installed on a device on pictures of any size.

ultralytics is under the AGPL; edgeprune itself never imports it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from shapes import NAMES, draw_set
from torch import Tensor, nn

import edgeprune
from edgeprune.training.sources.pixels import Pixels
from edgeprune.training.tasks.boxes import labels_of
from edgeprune.training.tasks.detection import detection

ARCHITECTURE, SIZE, TRAIN, VAL = "yolo11n.yaml", 128, 600, 200
BUDGET, POINTS = "50%", 0.02
COLOURS = ("#e6194b", "#3cb44b", "#4363d8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command")
    draw = commands.add_parser("draw", help="boxes into pictures, by the network that is installed on a device")
    draw.add_argument("pictures", type=Path, nargs="+")
    draw.add_argument("--device", help="its URL; by default that of this folder")
    draw.add_argument("--out", type=Path, default=Path("boxes.png"))
    draw.add_argument("--confidence", type=float, default=0.25)
    parser.add_argument("--folder", type=Path, default=Path("runs/yolo"))
    parser.add_argument("--epochs", type=int, default=60, help="of the dense network")
    parser.add_argument("--recover", type=int, default=20, help="epochs of each fine-tuning")
    parser.add_argument("--tune", type=int, default=8, help="schedules tried for each kernel")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results, sys.stdout = sys.stdout, sys.stderr  # ultralytics prints its progress: standard output is for the results
    folder: Path = options.folder.resolve()
    board = f"local:{folder / 'board'}"
    if options.command == "draw":
        drawn(options.pictures, options.device or board, options.out, options.confidence)
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    data = draw_set(folder / "shapes", TRAIN, VAL, SIZE)
    weights = folder / "dense.safetensors"
    if not weights.is_file():
        trained = by_ultralytics(network(), data, folder, options.epochs, lr=0.01, batch_size=16, seed=0)
        save_file(trained.state_dict(), weights)
    tasks = {
        "edgeprune": detection("yolov8", step=loss_of),
        "ultralytics": detection("yolov8", step=loss_of, finetune=trainer(data)),
    }
    rows = []
    for name, task in tasks.items():
        fit = edgeprune.fit(
            network(weights),
            example_inputs=(1, 3, SIZE, SIZE),
            device=board,
            store=folder / "profiles.sqlite3",
            latency=BUDGET,
            data=str(data),
            task=task,
            epochs=options.recover,
            lr=0.01,
            batch_size=16,
            tune=options.tune,
            points=6,
            baseline=False,
            out=folder / f"by_{name}",
        )
        rows.append(row_of(name, fit))
        say(str(fit))
    pictures = sorted((folder / "shapes" / "images" / "val").glob("*.png"))[:8]
    drawn(pictures, board, folder / "boxes.png")
    failures = [why for row in rows for why in failures_of(row)]
    print(json.dumps({"rows": rows, "failures": failures}, indent=1) if options.json else table(rows), file=results)
    for why in failures:
        say(f"FAILED: {why}")
    return 1 if failures else 0


# The network, and ultralytics' part


def network(weights: Path | None = None) -> nn.Module:
    """YOLO11n for the shapes' classes; in evaluation mode it yields boxes and scores, as an exported one does."""
    provide_torchvision()
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    model: nn.Module = DetectionModel(ARCHITECTURE, nc=len(NAMES), verbose=False)
    model.args = get_cfg()  # the weights of the parts of the loss
    model.names = dict(enumerate(NAMES))
    if weights is not None:
        model.load_state_dict(load_file(weights))
    return exporting(model)


def exporting(model: nn.Module) -> nn.Module:
    """Boxes and scores in one tensor, (N, 4 + classes, places)."""
    model.model[-1].export = True
    return model.eval()


def by_ultralytics(
    module: nn.Module, data: Path, folder: Path, epochs: int, *, lr: float, batch_size: int, seed: int
) -> nn.Module:
    """Train a module in place by ultralytics' trainer; it ends with the averaged weights."""
    provide_torchvision()
    from ultralytics.models.yolo.detect import DetectionTrainer

    class InPlace(DetectionTrainer):
        def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:
            return module

        def final_eval(self) -> None:  # it would load a file that was not saved
            pass

    module.model[-1].export = False
    asked = {"model": ARCHITECTURE, "data": str(data), "imgsz": SIZE, "epochs": epochs, "batch": batch_size, "lr0": lr}
    asked |= {"seed": seed, "optimizer": "SGD", "workers": 0, "device": "cpu", "amp": False, "pretrained": False}
    asked |= {"val": False, "save": False, "plots": False, "verbose": False, "exist_ok": True}
    asked |= {"project": str(folder / "ultralytics"), "name": "training"}
    training = InPlace(overrides=asked)
    training.train()
    module.load_state_dict(training.ema.ema.float().state_dict())
    return exporting(module)


def trainer(data: Path) -> Any:
    """Ultralytics' trainer as that of a task (docs/TASKS.md)."""

    def finetune(module: nn.Module, _: Any, *, epochs: int, lr: float, batch_size: int, seed: int, **__: Any) -> None:
        by_ultralytics(module, data, data.parent.parent, epochs, lr=lr, batch_size=batch_size, seed=seed)

    return finetune


def loss_of(module: nn.Module, batch: Any) -> Tensor:
    """Ultralytics' loss, which channels are scored by."""
    from ultralytics.utils.loss import v8DetectionLoss

    labels = {"img": batch.inputs, **labels_of(batch.targets, *batch.inputs.shape[2:])}
    total, _ = v8DetectionLoss(module)(module(batch.inputs), labels)
    loss: Tensor = total.sum() / len(batch.inputs)
    return loss


def provide_torchvision() -> None:
    """PyPI's torchvision is built for CUDA, and beside a torch without CUDA its operators do not load. Ultralytics uses
    one of them, and has its own way to do the same.
    """
    os.environ.setdefault("YOLO_OFFLINE", "true")
    try:
        import torchvision
    except RuntimeError:
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
        import torchvision
        from ultralytics.utils.nms import TorchNMS

        torchvision.ops.nms = TorchNMS.nms
    except ImportError:
        sys.exit("ultralytics is missing: pip install ultralytics")


# Pictures


def drawn(pictures: Sequence[Path], device: str, out: Path, confidence: float = 0.25) -> None:
    """Run the installed network on pictures, and draw what it finds into one sheet of them."""
    pixels = Pixels.parse(None, "unit,letterbox", 3)
    read = [pixels.read(picture, SIZE, SIZE) for picture in pictures]
    (outputs,) = edgeprune.run(pixels.scaled(torch.stack([image for image, _ in read])), device)
    found = detection("yolov8", confidence=confidence, iou=0.5).read(torch.tensor(outputs))
    tiles = []
    for picture, (_, placed), boxes in zip(pictures, read, found, strict=True):
        image = Image.open(picture).convert("RGB")
        scale = 2 * SIZE / max(image.size)
        tile = image.resize((round(image.width * scale), round(image.height * scale)))
        pen = ImageDraw.Draw(tile)
        for *corners, score, kind in boxes.tolist():
            shift, by = np.array([placed.shift_x, placed.shift_y] * 2), np.array([placed.scale_x, placed.scale_y] * 2)
            left, top, right, bottom = (np.array(corners) - shift) / by * scale
            colour = COLOURS[int(kind)]
            pen.rectangle((left, top, right, bottom), outline=colour, width=2)
            pen.text(
                (left + 3, top + 2), f"{NAMES[int(kind)]} {score:.2f}", fill="white", stroke_width=2, stroke_fill=colour
            )
        tiles.append(tile)
        say(f"{picture.name}: " + (", ".join(f"{NAMES[int(b[5])]} {b[4]:.2f}" for b in boxes) or "nothing"))
    columns = min(4, len(tiles))
    sheet = Image.new("RGB", (columns * 2 * SIZE, -(-len(tiles) // columns) * 2 * SIZE))
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i % columns * 2 * SIZE, i // columns * 2 * SIZE))
    sheet.save(out)
    say(f"written: {out}")


# Results


def row_of(name: str, fit: edgeprune.Fit) -> dict[str, Any]:
    dense = fit.result.dense
    assert dense.metric is not None
    assert fit.metric is not None
    return {
        "fine-tuned by": name,
        "met": fit.met,
        "evidence": fit.result.evidence,
        "dense_ms": dense.latency_ms,
        "pruned_ms": fit.latency_ms,
        "dense_map": dense.metric.value,
        "pruned_map": fit.metric.value,
    }


def failures_of(row: dict[str, Any]) -> list[str]:
    why, by = [], row["fine-tuned by"]
    if not row["met"]:
        why.append(f"fine-tuned by {by}: the budget is not met")
    if row["pruned_map"] < row["dense_map"] - POINTS:
        why.append(f"fine-tuned by {by}: mAP {row['pruned_map']:.3f}, dense {row['dense_map']:.3f}")
    return why


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["fine-tuned by   dense ms  pruned ms  ratio  dense mAP 50-95  pruned mAP 50-95  (measured)"]
    for row in rows:
        ratio = row["pruned_ms"] / row["dense_ms"]
        lines.append(
            f"{row['fine-tuned by']:14} {row['dense_ms']:9.2f} {row['pruned_ms']:10.2f} {ratio:6.2f}"
            f" {row['dense_map']:16.3f} {row['pruned_map']:17.3f}"
        )
    return "\n".join(lines)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
