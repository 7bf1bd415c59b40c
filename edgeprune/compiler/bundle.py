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
    KernelEntry,
    Manifest,
    Memory,
    TensorEntry,
    read_manifest,
    sha256_file,
)
from edgeprune.compiler.memory import aligned
from edgeprune.compiler.objects import compiler_versions
from edgeprune.compiler.program import Program, write_program
from edgeprune.errors import BundleError, UsageError
from edgeprune.targets import Target

RTOL, ATOL = 1e-4, 1e-6
"""What the board's output may differ from torch's, relative to the largest output value."""


@dataclass(frozen=True, slots=True)
class GoldenPair:
    """An input and the output that the network itself gives for it (row-major fp32)."""

    inputs: tuple[NDArray[np.float32], ...]
    outputs: tuple[NDArray[np.float32], ...]


def peak_ram_bytes(program: Program, target: Target) -> int:
    """What ``ep_open`` allocates (board/runtime.c): the arena, and one descriptor a buffer.

    On a GPU (board/cuda.c) the weights as well, which are copied there.
    """
    if target.kind == "cuda":
        held = sum(aligned(max(n, 1)) for n in (program.arena_bytes, program.weight_bytes))
        return held + aligned(7 * 8) + sum(len(c.buffers) for c in program.calls) * (48 + 8)
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
    for role, arrays in (("golden_input", golden.inputs), ("golden_output", golden.outputs)):
        named[role] = tuple(f"{role}_{i}.bin" for i in range(len(arrays)))
        roles |= dict.fromkeys(named[role], (role, True, False))
        for name, array in zip(named[role], arrays, strict=True):
            (folder / name).write_bytes(np.ascontiguousarray(array, np.float32).tobytes())
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
        inputs=tuple(TensorEntry(name=p.name, shape=p.shape, dtype="float32") for p in program.inputs),
        outputs=tuple(TensorEntry(name=p.name, shape=p.shape, dtype="float32") for p in program.outputs),
        golden=Golden(inputs=named["golden_input"], outputs=named["golden_output"], rtol=RTOL, atol=ATOL),
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
