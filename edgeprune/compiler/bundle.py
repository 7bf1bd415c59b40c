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

from edgeprune.compiler.allocated import allocated_bytes, staged_bytes
from edgeprune.compiler.elf import read_needs
from edgeprune.compiler.link import board_sources
from edgeprune.compiler.lower import Lowered
from edgeprune.compiler.manifest import (
    MANIFEST,
    CodeEntry,
    Compressed,
    FileEntry,
    Golden,
    ImageEntry,
    KernelEntry,
    Manifest,
    Memory,
    RangeEntry,
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
    """What ``ep_open`` allocates for a program: see :func:`edgeprune.compiler.allocated.allocated_bytes`."""
    return allocated_bytes(
        target,
        program.arena_bytes,
        sum(len(c.buffers) for c in program.calls),
        program.plain_bytes,
        staged_bytes((*program.inputs, *program.outputs)),
        synthetic=program.weights is None,
        decoded_bytes=program.decoded_bytes,
    )


def write_bundle(
    lowered: Lowered,
    target: Target,
    golden: GoldenPair,
    out: Path,
    *,
    threads: int,
    budget: Mapping[str, float],
    provenance: Mapping[str, Any],
    coded: Program | None = None,
) -> Manifest:
    """Link and write the bundle folder ``out``; it appears whole or not at all.

    An existing bundle at ``out`` is replaced; any other existing folder is refused.

    Args:
        coded: the program with constants stored without their zeros (compiler/storage.py), if it has such. It is taken
            where its file is smaller.

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
        manifest = _fill(lowered, target, golden, Path(scratch), folder, threads, budget, provenance, coded)
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
    coded: Program | None,
) -> Manifest:
    program, compressed = lowered.program, None
    if coded is not None and coded.codes:
        program, compressed = _smaller(program, coded, target, work / "compared")
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
        inspects=True,
        compressed=compressed,
    )


def _smaller(dense: Program, coded: Program, target: Target, folder: Path) -> tuple[Program, Compressed | None]:
    """The program whose file is smaller: the decoder takes its part of what its codes save."""
    sizes = []
    for name, program in (("dense", dense), ("coded", coded)):
        (folder / name).mkdir(parents=True)
        sizes.append(write_program(program, target, folder / name)["program"].stat().st_size)
    if sizes[1] >= sizes[0]:
        return dense, None
    entries = [
        CodeEntry(name=c.name, elements=c.elements, zeros=c.zeros, dense_bytes=aligned(4 * c.elements), bytes=c.bytes)
        for c in coded.codes
    ]
    return coded, Compressed(constants=tuple(entries), dense_flash=sizes[0], decoded=coded.decoded_bytes)


def _entry(port: Port) -> TensorEntry:
    image = None if port.image is None else ImageEntry.of(port.image)
    found = None if port.range is None else RangeEntry.of(port.range)
    return TensorEntry(name=port.name, shape=port.shape, dtype=port.dtype, image=image, range=found)
