"""Writing a bundle: program, library, header, golden input and output, manifest."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.compiler.elf import read_needs
from edgeprune.compiler.link import board_sources
from edgeprune.compiler.lower import Lowered
from edgeprune.compiler.manifest import (
    MANIFEST,
    FileEntry,
    Golden,
    ImageEntry,
    KernelEntry,
    Manifest,
    Memory,
    TensorEntry,
    read_manifest,
    sha256_file,
)
from edgeprune.compiler.memory import aligned
from edgeprune.compiler.objects import compiler_versions
from edgeprune.compiler.program import Port, Program, write_program
from edgeprune.errors import BundleError, UsageError
from edgeprune.models.precise import tolerance
from edgeprune.targets import Target

ATOL = 1e-6
"""What the board's output may differ from torch's besides, where the largest output value is tiny."""
_HALF = 2.0**-10
"""Two neighbours among float16, relative to the larger."""


@dataclass(frozen=True, slots=True)
class GoldenPair:
    """An input and the output that the network itself gives for it: row-major, of the types of the program.

    Attributes:
        rounding: how far torch's own float32 is from float64 here, relative to the largest output.
    """

    inputs: tuple[NDArray[Any], ...]
    outputs: tuple[NDArray[Any], ...]
    rounding: float = 0.0

    @property
    def rtol(self) -> float:
        """What the board's output may differ, relative to the largest output."""
        return tolerance(self.rounding)


def peak_ram_bytes(program: Program, target: Target) -> int:
    """What ``ep_open`` allocates (board/runtime.c): the arena, and one descriptor a buffer.

    On a GPU (board/cuda.c) the weights as well, which are copied there, and room for one tensor that the caller has in
    another type than the GPU.
    """
    if target.kind == "cuda":
        held = sum(aligned(max(n, 1)) for n in (program.arena_bytes, program.weight_bytes))
        ports = (*program.inputs, *program.outputs)
        staging = aligned(max((4 * p.elements for p in ports if p.dtype != "float32"), default=0))
        return staging + held + aligned(8 * 8) + sum(len(c.buffers) for c in program.calls) * (48 + 8)
    pointer = target.architecture.bits // 8
    descriptor = 48 if pointer == 8 else 40
    buffers = sum(len(c.buffers) for c in program.calls)
    synthetic = aligned(program.weight_bytes) if program.weights is None else 0
    return program.arena_bytes + aligned(4 * pointer) + buffers * (descriptor + 8) + synthetic


def write_bundle(
    lowered: Lowered,
    target: Target,
    golden: GoldenPair,
    out: Path,
    *,
    threads: int,
    budget: Mapping[str, float],
    provenance: Mapping[str, Any],
) -> Manifest:
    """Link and write the bundle folder ``out``; it appears whole or not at all.

    An existing bundle at ``out`` is replaced; any other existing folder is refused.

    Raises:
        UsageError: ``out`` exists and is no bundle.
        LinkError, MissingDependencyError: see :func:`edgeprune.compiler.link.link`.
    """
    if out.exists() or out.is_symlink():
        _require_bundle(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=out.parent) as scratch:
        folder = Path(scratch) / "bundle"
        folder.mkdir()
        manifest = _fill(lowered, target, golden, Path(scratch), folder, threads, budget, provenance)
        (folder / MANIFEST).write_text(manifest.to_text())
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)
    return manifest


def _require_bundle(out: Path) -> None:
    """What is about to be replaced is a bundle; many other things keep a manifest.json too."""
    try:
        read_manifest(out, verify=False)
    except BundleError as e:
        raise UsageError(
            f"{out} exists and is not a bundle: {e.message}", hint="choose another --out, or remove it yourself"
        ) from e


def _fill(
    lowered: Lowered,
    target: Target,
    golden: GoldenPair,
    work: Path,
    folder: Path,
    threads: int,
    budget: Mapping[str, float],
    provenance: Mapping[str, Any],
) -> Manifest:
    program = lowered.program
    built = write_program(program, target, work, library=True)
    shutil.copy2(built["program"], folder / "model")
    shutil.copy2(built["library"], folder / "libmodel.so")
    shutil.copy2(board_sources() / "edgeprune_model.h", folder / "edgeprune_model.h")
    roles = {
        "model": ("program", True, True),
        "libmodel.so": ("library", False, True),
        "edgeprune_model.h": ("header", False, False),
    }
    named = {}
    sides = (("golden_input", golden.inputs, program.inputs), ("golden_output", golden.outputs, program.outputs))
    for role, arrays, ports in sides:
        named[role] = tuple(f"{role}_{i}.bin" for i in range(len(arrays)))
        roles |= dict.fromkeys(named[role], (role, True, False))
        for name, array, port in zip(named[role], arrays, ports, strict=True):
            (folder / name).write_bytes(np.ascontiguousarray(array, port.dtype).tobytes())
    files = {
        name: FileEntry(
            sha256=sha256_file(folder / name),
            bytes=(folder / name).stat().st_size,
            role=role,
            deploy=deploy,
            executable=executable,
            needs=read_needs(folder / name),
        )
        for name, (role, deploy, executable) in roles.items()
    }
    kernels = tuple(
        KernelEntry(
            node=c.name,
            symbol=c.kernel.symbol,
            spec=c.spec.to_json(),
            schedule=dict(c.schedule),
            schedule_source=choice.source,
        )
        for c, choice in zip(program.calls, lowered.chosen, strict=True)
    )
    return Manifest(
        target=target.name,
        target_hash=target.digest,
        program="model",
        files=files,
        inputs=tuple(map(_entry, program.inputs)),
        outputs=tuple(map(_entry, program.outputs)),
        golden=Golden(
            inputs=named["golden_input"],
            outputs=named["golden_output"],
            rtol=max(golden.rtol, _HALF if any(p.dtype == "float16" for p in program.outputs) else 0.0),
            atol=ATOL,
        ),
        memory=Memory(
            arena=program.arena_bytes,
            peak_ram=peak_ram_bytes(program, target),
            weights=program.weight_bytes,
            flash=files["model"].bytes,
        ),
        threads=threads,
        kernels=kernels,
        versions=dict(compiler_versions(target)),
        provenance=dict(provenance),
        budget=dict(budget),
    )


def _entry(port: Port) -> TensorEntry:
    image = None if port.image is None else ImageEntry.of(port.image)
    return TensorEntry(name=port.name, shape=port.shape, dtype=port.dtype, image=image)
