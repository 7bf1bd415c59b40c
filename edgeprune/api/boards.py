"""flash, run, bench, rollback: a bundle on a board, and what is installed there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.api.opened import Where, board_of
from edgeprune.api.progress import reporting
from edgeprune.board.anomalies import FLAG, GUARD, REFUSE, Anomaly, require_mode
from edgeprune.budget.promise import Promise
from edgeprune.budget.verdict import PATIENCE_S
from edgeprune.compiler.manifest import MANIFEST, read_manifest
from edgeprune.deploy.flash import Deployment
from edgeprune.deploy.flash import flash as install
from edgeprune.deploy.installed import bench_installed, installed
from edgeprune.deploy.placed import Placed
from edgeprune.deploy.rollback import Rollback
from edgeprune.deploy.rollback import rollback as go_back
from edgeprune.deploy.standard import Standard
from edgeprune.deploy.timing import WARMUP, Timing
from edgeprune.deploy.trials import on_trial
from edgeprune.devices.protocol import Device
from edgeprune.errors import AnomalousInputError, BadInputError, UsageError
from edgeprune.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor


def flash(
    bundle: str | PathLike[str],
    *,
    device: str | Device = "local:",
    latency: str | float | None = None,
    flash: str | float | None = None,
    ram: str | float | None = None,
    statistic: str = "median",
    beside: Where = None,
    patience_s: float = PATIENCE_S,
    resume: bool = False,
    progress: bool | Progress | None = None,
) -> Deployment:
    """A bundle installed on a device and proved there: hashes, golden output and latency, or the old release stays.

    A relative limit is judged in turns with the dense network where its bundle is at hand (``beside``, or the folder
    ``dense`` next to the bundle), and else by the milliseconds that its run resolved it to. Arguments and results are
    described in docs/API.md.

    Raises:
        UsageError, BundleError: what was asked for makes no sense, or is relative to a network that is not known.
        BusyError, DeviceError: somebody else is deploying, or the device failed; nothing was switched.
        VerificationError, RolledBackError, UndecidedError: the program does not keep what it promises.
    """
    folder = Path(bundle)
    standard = Standard.from_json(read_manifest(folder).budget)
    if any(limit is not None for limit in (latency, flash, ram)) or statistic != "median":
        promise = Promise.parse(latency, flash, statistic, ram)
        standard = replace(standard or Standard(promise), promise=promise)
    with ExitStack() as stack:
        board, bar = stack.enter_context(board_of(device)), stack.enter_context(reporting(progress))
        if standard is not None:
            standard = replace(standard, patience_s=patience_s)
            dense = Path(beside) if beside is not None else folder.parent / "dense"
            if standard.promise.relative and (beside is not None or (dense / MANIFEST).is_file()):
                bar.stage("dense network")
                standard = standard.beside(stack.enter_context(on_trial(board)).keep(dense))
        return install(folder, board, resume=resume, standard=standard, progress=bar)


def bench(
    device: str | Device = "local:", *, warmup: int = WARMUP, repeats: int | None = None, threads: int | None = None
) -> Timing:
    """Latency of the network that is installed on a device: the current release, end to end.

    Arguments and results are described in docs/API.md.

    Raises:
        UsageError: nothing is installed, or fewer than one repeat. VerificationError: the program fails.
    """
    with board_of(device) as board:
        return bench_installed(board, warmup, repeats, threads)


def run(
    inputs: NDArray[Any] | Tensor | Sequence[NDArray[Any] | Tensor],
    device: str | Device = "local:",
    *,
    threads: int | None = None,
    anomalies: str = GUARD,
) -> Results:
    """Outputs of the network that is installed on a device, computed there: one array for each.

    Args:
        inputs: an array of stacked samples, (N, C, H, W) for images, (N, H, W, C) of uint8 for camera frames; a list of
            them where the model has several inputs. Arrays come back in the types of the network.
        anomalies: what is done with samples that hold NaN, infinity, or values outside the range of the data: ``guard``
            refuses those that are not finite and flags the others; ``refuse``, ``flag`` and ``off`` treat both
            alike. ``anomalies`` of the result has those that were flagged.

    Raises:
        UsageError: nothing is installed. BadInputError: the arrays are not what the network takes.
        AnomalousInputError: a sample is refused for its values; nothing was computed.
        VerificationError: the program fails.
    """
    # Tensors are told by what they can: torch takes seconds to import, and arrays need none of it.
    given = [inputs] if isinstance(inputs, np.ndarray) or hasattr(inputs, "detach") else inputs
    arrays = [x.detach().cpu().numpy() if hasattr(x, "detach") else x for x in given]
    with board_of(device) as board:
        return outputs_of(installed(board), arrays, threads=threads, anomalies=anomalies)


class Results(list[NDArray[Any]]):
    """Outputs of a network, one array for each; ``anomalies``: the samples that were flagged (docs/BOARD.md)."""

    def __init__(self, arrays: Iterable[NDArray[Any]], anomalies: Sequence[Anomaly] = ()) -> None:
        super().__init__(arrays)
        self.anomalies = tuple(anomalies)


def outputs_of(
    placed: Placed, inputs: Sequence[NDArray[Any]], *, threads: int | None = None, anomalies: str = GUARD
) -> Results:
    """Outputs of a program on a device, one array for each, for arrays of stacked samples; raises as :func:`run`."""
    require_mode(anomalies)
    if not placed.manifest.inspects and anomalies in (REFUSE, FLAG):
        raise UsageError(
            f"anomalies={anomalies}: this program was built by a version that does not look at inputs",
            hint="compile the model again",
        )
    ports = placed.manifest.inputs
    if len(inputs) != len(ports):
        raise BadInputError(f"the network has {len(ports)} inputs, {len(inputs)} were given")
    arrays = [port.given(x) for x, port in zip(inputs, ports, strict=True)]
    for array, port in zip(arrays, ports, strict=True):
        if array.ndim != len(port.shape) or array.shape[1:] != port.shape[1:] or len(array) % port.shape[0]:
            raise BadInputError(
                f"input {port.name!r} has shape {array.shape}; the network takes {port.shape}, stacked along N"
            )
        # Programs of earlier versions do not look at their inputs.
        if anomalies == GUARD and not placed.manifest.inspects and (broken := int(np.isnan(array).sum())):
            raise AnomalousInputError(
                f"input {port.name!r} holds {broken} values that are NaN",
                hint="see where they come from; what a board computes of NaN is not promised (docs/OPERATORS.md)",
            )
    counts = {len(a) // p.shape[0] for a, p in zip(arrays, ports, strict=True)}
    if len(counts) != 1 or not (samples := counts.pop()):
        raise BadInputError("the inputs hold different numbers of samples, or none")
    raw = placed.run([a.tobytes() for a in arrays], samples, threads=threads, anomalies=anomalies)
    read = [port.read(data, samples) for data, port in zip(raw, placed.manifest.outputs, strict=True)]
    return Results(read, raw.anomalies)


def rollback(device: str | Device = "local:", *, progress: bool | Progress | None = None) -> Rollback:
    """The previous release of a device, current again after its files and its golden output were checked.

    Raises:
        UsageError: there is no previous release. BusyError: somebody else is deploying.
        VerificationError: the previous release fails its checks; current stays what it was.
    """
    with board_of(device) as board, reporting(progress) as bar:
        return go_back(board, progress=bar)
