"""The main job on boards nobody has to own: ``make emulated``.

A residual network is profiled on ``emulated:a53``, whose clock counts instructions, and pruned to half
of them; the result is installed over the serial console of ``emulated:rpi3``, its outputs are compared
with torch's there, and it is rolled back. Exits 0 only if the budget is met and the outputs agree.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from command import edgeprune
from mnist import mnist
from safetensors.torch import save_file

from edgeprune.compiler.compile import compile_network, read_network
from edgeprune.deploy.flash import flash
from edgeprune.deploy.rollback import rollback
from edgeprune.devices.emulator.images import prepare
from edgeprune.devices.registry import open_device
from edgeprune.models.loading import load_model
from edgeprune.targets import load_target
from edgeprune.training.data import check
from edgeprune.training.finetune import train

MODEL, SIZE, SEED = "zoo:resnet20?in_channels=1", 16, 0
LARGEST_DIFFERENCE = 1e-4
# The budget counts instructions of emulated:a53; the clock of emulated:rpi3 is that of this computer.
NO_BUDGET_MS = 1e6


def main() -> int:
    began = time.monotonic()
    prepare()
    out = Path("runs/emulated")
    out.mkdir(parents=True, exist_ok=True)
    model = load_model(MODEL, input_shape=(1, 1, SIZE, SIZE), seed=SEED)
    train(model.module, check(mnist(SIZE), "mnist"), epochs=2, lr=0.05, batch_size=64, seed=SEED)
    weights = out / "dense.safetensors"
    save_file(model.module.state_dict(), weights)
    network = read_network(model.module, model.example_inputs)
    compile_network(network, load_target("emulated_a53"), out / "dense", name="dense")
    fitted = edgeprune(
        *("fit", MODEL, "--weights", weights, "--input-shape", f"1x1x{SIZE}x{SIZE}"),
        *("--target", "emulated_a53", "--device", "emulated:a53", "--latency", "50%"),
        *("--data", f"{Path(__file__).with_name('mnist.py')}:mnist{SIZE}", "--out", out / "run"),
        *("--points", "3", "--tune", "1", "--epochs", "1", "--no-blocks", "--seed", SEED),
    )
    print(f"{'network':10}{'instructions':>14}{'accuracy':>10}   (emulated:a53)")
    for name, v in fitted["report"]["variants"].items():
        print(f"{name:10}{v['latency_ms']['value'] * 1e6:14,.0f}{v['accuracy']['value']:10.2%}")
    board = open_device("emulated:rpi3")
    try:
        dense = flash(out / "dense", board, latency_budget_ms=NO_BUDGET_MS)
        pruned = flash(Path(fitted["paths"]["bundle"]), board, latency_budget_ms=NO_BUDGET_MS)
        back = rollback(board)
    finally:
        board.close()
    print(f"{'on rpi3':10}{'difference':>14}{'scale':>10}")
    for name, golden in (("dense", dense.golden), ("pruned", pruned.golden), ("rolled back", back.golden)):
        print(f"{name:10}{golden.max_abs_diff:14.2e}{golden.scale:10.3g}")
    print(f"{time.monotonic() - began:.0f} s in all")
    agree = all(
        g.max_abs_diff <= LARGEST_DIFFERENCE * max(1.0, g.scale) for g in (dense.golden, pruned.golden, back.golden)
    )
    return 0 if fitted["met"] and agree and back.release == dense.release else 1


if __name__ == "__main__":
    sys.exit(main())
