"""What weights without their zeros save of a program's file, and what they take of its RAM and of its start.

Networks of the zoo get zeros by magnitude, as pruning of single weights, of two in four, or of blocks leaves them;
nothing is trained, for sizes do not depend on what the values are. Each is compiled for this computer as ``dense``,
``auto`` and ``compressed``. Printed are the file, the RAM that the program really took, and the milliseconds that
``ep_open`` takes; outputs have to be equal to the bit.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import edgeprune

Pattern = Callable[[Tensor], Tensor]
SIDES = {"resnet20": 32, "mobilenet_v2": 64, "resnet18": 64}


def single(share: float) -> Pattern:
    """The smallest weights of each tensor."""

    def kept(weight: Tensor) -> Tensor:
        sizes = weight.abs().flatten()
        return weight.abs() > sizes.kthvalue(int(share * sizes.numel())).values

    return kept


def two_of_four(weight: Tensor) -> Tensor:
    """The smaller two of each four, along the inputs."""
    rows = weight.reshape(weight.shape[0], -1)
    if rows.shape[1] % 4:
        return torch.ones_like(weight, dtype=torch.bool)
    fours = rows.abs().reshape(-1, 4)
    return (fours >= fours.sort(dim=1).values[:, 2:3]).reshape(weight.shape)


def blocks(share: float, of: int = 16) -> Pattern:
    """Of each input of a filter, the smallest runs of so many neighbouring filters."""

    def kept(weight: Tensor) -> Tensor:
        if weight.shape[0] % of:
            return torch.ones_like(weight, dtype=torch.bool)
        sums = weight.abs().reshape(weight.shape[0] // of, of, -1).sum(1)
        stays = sums > sums.flatten().kthvalue(int(share * sums.numel())).values
        return stays.repeat_interleave(of, 0).reshape(weight.shape)

    return kept


PATTERNS: dict[str, Pattern] = {
    "50 % single": single(0.5),
    "2 of 4": two_of_four,
    "80 % single": single(0.8),
    "90 % single": single(0.9),
    "80 % blocks of 16": blocks(0.8),
}


def thinned(model: str, pattern: Pattern) -> nn.Module:
    module = edgeprune.load_model(f"zoo:{model}").module
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim > 1:
                p.mul_(pattern(p))
    return module


def open_ms(library: Path, times: int = 15) -> float:
    """The quickest of some times of opening the model with one thread."""
    c = ctypes.CDLL(str(library))
    c.ep_open.restype, c.ep_close.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        model = c.ep_open(1)
        found.append(1e3 * (time.perf_counter() - begin))
        c.ep_close(model)
    return min(found)


def measured(models: list[str]) -> Iterator[dict[str, Any]]:
    for name in models:
        x = torch.randn(1, 3, SIDES[name], SIDES[name], generator=torch.Generator().manual_seed(0))
        for pattern, kept in PATTERNS.items():
            module, outputs = thinned(name, kept), set()
            with tempfile.TemporaryDirectory() as scratch:
                for storage in ("dense", "auto", "compressed"):
                    out = Path(scratch, storage)
                    made = edgeprune.compile(module, example_inputs=(x,), weight_storage=storage, out=out).manifest
                    command = [str(out / made.program), "bench", "--warmup", "1", "--repeats", "5"]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    with edgeprune.load_bundle(out) as program:
                        outputs.add(program(x.numpy())[0].tobytes())
                    yield {
                        "network": name,
                        "zeros": pattern,
                        "storage": storage,
                        "flash_bytes": made.memory.flash,
                        "ram_bytes": json.loads(done.stdout)["allocated_bytes"],
                        "open_ms": open_ms(out / "libmodel.so"),
                        "compressed": made.compressed_json(),
                        "evidence": "measured",
                    }
            if len(outputs) != 1:
                raise SystemExit(f"{name}, {pattern}: outputs differ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=SIDES)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = measured(args.model or list(SIDES))
    if args.json:
        print(json.dumps(list(rows), indent=1))
        return
    for row in rows:
        flash, ram = row["flash_bytes"] / 1e3, row["ram_bytes"] / 1e3
        said = f"{row['network']:13}{row['zeros']:19}{row['storage']:12}"
        print(f"{said}{flash:9.0f} kB of flash {ram:9.0f} kB of RAM {row['open_ms']:8.2f} ms to open", flush=True)


if __name__ == "__main__":
    main()
