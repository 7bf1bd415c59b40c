"""Flashing a bundle whose budget is relative: judged in turns with the dense network, where that is at hand."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edgeprune.budget.promise import Promise
from edgeprune.budget.verdict import PATIENCE_S
from edgeprune.compiler.manifest import MANIFEST, read_manifest
from edgeprune.deploy.flash import Deployment, flash
from edgeprune.deploy.standard import Standard
from edgeprune.deploy.timing import timed
from edgeprune.deploy.trials import on_trial
from edgeprune.devices.protocol import Device
from edgeprune.progress import SILENT, Progress


def flash_beside(
    bundle: Path,
    device: Device,
    *,
    promise: Promise | None = None,
    beside: Path | None = None,
    patience_s: float = PATIENCE_S,
    resume: bool = False,
    progress: Progress = SILENT,
) -> Deployment:
    """:func:`flash` with the standard that the bundle, or ``promise``, asks for.

    Without a dense bundle a relative limit is judged by the milliseconds that its run resolved it to.

    Args:
        promise: what is asked for instead of what the bundle's manifest promises.
        beside: bundle of the dense network; None: the folder ``dense`` beside the bundle, if there is one.

    Raises:
        UsageError: a relative limit, and neither a dense bundle nor a latency of it that the manifest knows.
        What :func:`flash` raises.
    """
    standard = Standard.from_json(read_manifest(bundle).budget)
    if promise is not None:
        standard = replace(standard or Standard(promise), promise=promise)
    if standard is None:
        return flash(bundle, device, resume=resume, progress=progress)
    standard = replace(standard, patience_s=patience_s)
    dense = beside or bundle.parent / "dense"
    relative = any(x is not None and x.relative for x in (standard.promise.latency, standard.promise.flash))
    with ExitStack() as stack:
        if relative and (beside is not None or (dense / MANIFEST).is_file()):
            progress.stage("dense network")
            placed = stack.enter_context(on_trial(device)).keep(dense)
            timing = timed(placed)
            standard = replace(
                standard,
                dense=placed,
                dense_ms=timing.statistic(standard.promise.statistic),
                dense_flash_bytes=float(placed.manifest.memory.flash),
            )
        return flash(bundle, device, resume=resume, standard=standard, progress=progress)
