"""Make the profiles that edgeprune ships, in profiles/: sampled, on boards that any computer has.

    python tools/shipped_profiles.py [NAME ...]

Emulated boards count instructions, so their profiles are the same on every computer; that of this computer's class of
processors is measured. A change of the schedules' version or of the compiler asks for new ones.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import edgeprune

PROFILES = Path(__file__).parents[1] / "profiles"


@dataclass(frozen=True)
class Shipped:
    """A file: a target, and the networks that share its fingerprint."""

    target: str
    model: str
    pixels: int


FILES = {
    "emulated_a53-resnet8": Shipped("emulated_a53", "zoo:resnet8", 32),
    "emulated_a72-resnet8": Shipped("emulated_a72", "zoo:resnet8", 32),
    "emulated_rpi3-resnet8": Shipped("emulated_rpi3", "zoo:resnet8", 32),
    "x86_64_avx2-resnet8": Shipped("x86_64_avx2", "zoo:resnet8", 32),
}


def main() -> None:
    PROFILES.mkdir(exist_ok=True)
    for name in sys.argv[1:] or FILES:
        wanted = FILES[name]
        with tempfile.TemporaryDirectory() as folder:
            found = edgeprune.profile(
                wanted.model,
                input_shape=(1, 3, wanted.pixels, wanted.pixels),
                target=wanted.target,
                sampled=True,
                store=Path(folder) / "profiles.sqlite3",
                progress=True,
            )
            path = found.export(PROFILES / f"{name}.profile.jsonl")
        print(f"{path}: {found.summary}, {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
