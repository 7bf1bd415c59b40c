"""``board_check``: identity, build, transfer, numerics, timing, prediction, flash and rollback on a live board.

All of it happens in a folder of its own, which is removed at the end: a release that is installed on the board stays
what it was.
"""

from __future__ import annotations

import hashlib
import random
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch

from edgeprune.acceptance.outcome import Acceptance, Check, Status
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.deploy.board import Board
from edgeprune.deploy.flash import flash
from edgeprune.deploy.rollback import rollback
from edgeprune.deploy.status import status
from edgeprune.deploy.timing import timed
from edgeprune.deploy.trials import Trials, on_trial
from edgeprune.devices.protocol import Device, DeviceInfo
from edgeprune.devices.subfolder import Subfolder
from edgeprune.errors import DeviceUnreachableError, EdgepruneError, VerificationError
from edgeprune.fitting.build import Builder
from edgeprune.graph.network import Network, read_network
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.store import Profile, ProfileStore
from edgeprune.models.loading import LoadedModel
from edgeprune.profiling.fingerprint import require_match
from edgeprune.profiling.profile import ProfileOptions, ProfileResult, profile
from edgeprune.progress import SILENT, Progress
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink
from edgeprune.targets import Target

TRANSFER_BYTES = 256 << 10
AGREES = 1e-4
"""Of the board's outputs with torch, relative to the largest."""
UNSTEADY, SHAKY = 0.02, 0.10
"""Difference of two launches of one program, over the smaller, that is worth a warning, and that fails."""
INEXACT, WRONG = 0.10, 0.30
"""Difference of the predicted latency from the measured one, over the measured one: the same two."""
_TOOLS = ("sha256sum", "df", "mv", "ln", "readlink", "ls", "sync")


@dataclass(frozen=True, slots=True)
class _Subject:
    """A small network on the board that is checked, and what builds and times it there.

    ``measured``: the profile, once the check of predictions made it.
    """

    network: Network
    builder: Builder
    trials: Trials
    device: Device
    folder: Path
    store: ProfileStore
    options: ProfileOptions
    measured: list[Profile] = field(default_factory=list)

    @property
    def info(self) -> DeviceInfo:
        return self.trials.info

    @property
    def progress(self) -> Progress:
        return self.builder.progress


def board_check(
    device: Device,
    target: Target,
    model: LoadedModel,
    *,
    store: Path | None = None,
    profile_out: Path | None = None,
    threads: int = 1,
    progress: Progress = SILENT,
) -> Acceptance:
    """Run the acceptance; a check that fails does not keep the others from running.

    Args:
        model: a small network, prunable; the zoo's resnet20 is meant for this.
        store: a profile store that keeps what is measured; a temporary one if it is None.
        profile_out: a file for the profile that was measured, as JSON lines; not written where nothing was.

    Raises:
        ProfileError: ``profile_out`` cannot be written.
        DeviceUnreachableError: the board does not answer at all.
        UnsupportedOperatorError: the model cannot be compiled for any board.
    """
    info = device.describe()
    network = read_network(model.module, model.example_inputs, model.interface)
    checks: list[Check] = []
    with (
        tempfile.TemporaryDirectory(prefix="edgeprune-check-") as folder,
        closing(Subfolder(device, f"board-check-{secrets.token_hex(4)}")) as inner,
        on_trial(inner) as trials,
        ProfileStore(store or Path(folder) / "profiles.sqlite3") as opened,
    ):
        options = ProfileOptions(threads=threads, points=1, tune=1)
        builder = Builder(target, ScheduleBook(target), model.name, threads, 0, {}, progress)
        on = _Subject(network, builder, trials, inner, Path(folder), opened, options)
        for name, check in _CHECKS.items():
            progress.stage(f"checking {name}")
            if checks and checks[0].status == "fail":
                checks.append(Check(name, "skipped", "the board is not of this target"))
            else:
                checks += _outcome(name, check, on)
        if profile_out is not None and on.measured:
            opened.export_jsonl(on.measured[0], profile_out)
    digest = on.measured[0].fingerprint.digest if on.measured else None
    return Acceptance(device.url, target.name, target.digest, info.to_json(), tuple(checks), digest)


def _outcome(name: str, check: Callable[[_Subject], Iterator[Check]], on: _Subject) -> list[Check]:
    """The checks that ``check`` yields; an error becomes a failed one, unless the board is gone."""
    found: list[Check] = []
    try:
        found.extend(replace(c, name=name) for c in check(on))
    except DeviceUnreachableError:
        raise
    except EdgepruneError as error:
        found.append(Check(name, "fail", error.message, mend=error.hint))
    return found


def _identity(on: _Subject) -> Iterator[Check]:
    require_match(on.builder.target, on.info)
    info = on.info
    # Small boards have no "which"; every shell has "command".
    lacking = [t for t in _TOOLS if on.device.run(["sh", "-c", 'command -v "$0"', t]).returncode]
    ram = f"{info.ram_bytes / 2**20:.0f} MiB"
    gpu = f", {info.gpu.name} ({info.gpu.arch})" if info.gpu else ""
    found = f"{info.cpu}{gpu}, {info.machine}, {info.cores} cores, {ram}, {info.libc or 'no C library found'}"
    if lacking:
        yield Check("", "fail", f"{found}; it lacks {', '.join(lacking)}", mend="install coreutils or busybox on it")
    else:
        yield Check("", "ok", found)


def _build(on: _Subject) -> Iterator[Check]:
    start = time.perf_counter()
    manifest = on.builder.build(on.network, on.folder / "dense")
    memory = manifest.memory
    figures = {"seconds": time.perf_counter() - start, "flash_bytes": memory.flash, "peak_ram_bytes": memory.peak_ram}
    yield Check("", "ok", f"{on.builder.name} for {on.builder.target.name}", figures, "compiled")


def _transfer(on: _Subject) -> Iterator[Check]:
    data, path = random.Random(0).randbytes(TRANSFER_BYTES), "transfer.bin"
    start = time.perf_counter()
    on.device.put(data, path)
    sent = time.perf_counter() - start
    altered = Board(on.device).altered({path: hashlib.sha256(data).hexdigest()})
    start = time.perf_counter()
    back = on.device.get(path)
    got = time.perf_counter() - start
    on.device.remove(path)
    if back != data or altered:
        raise VerificationError(f"{TRANSFER_BYTES} bytes came back altered", hint="check cable, supply and baud rate")
    figures = {"put_bytes_per_s": TRANSFER_BYTES / sent, "get_bytes_per_s": TRANSFER_BYTES / got}
    yield Check("", "ok", f"{TRANSFER_BYTES} bytes there and back, hash computed on the board", figures, _ran(on))


def _numerics(on: _Subject) -> Iterator[Check]:
    generator = torch.Generator().manual_seed(1)
    x = [torch.randn((3, *t.shape[1:]), generator=generator) for t in on.network.example_inputs]
    tried = on.trials.keep(on.folder / "dense")
    with torch.no_grad():
        tried.check()
        raw = on.trials.run(
            tried, [p.given(t.numpy()).tobytes() for t, p in zip(x, tried.manifest.inputs, strict=True)], 3
        )
        expected = torch.cat([on.network.module(*(t[i : i + 1] for t in x)) for i in range(3)]).numpy()
    actual = tried.manifest.outputs[0].read(raw[0], 3)
    difference = float(np.abs(actual - expected).max() / np.abs(expected).max())
    fine = difference <= AGREES
    yield Check(
        "", "ok" if fine else "fail", "outputs of three inputs against torch", {"difference": difference}, _ran(on)
    )


def _timing(on: _Subject) -> Iterator[Check]:
    timing = timed(on.trials.keep(on.folder / "dense"), launches=4)
    launches = [x.median_ms for x in timing.launches]
    medians = sorted(launches)
    apart = (medians[min(1, len(medians) - 1)] - medians[0]) / medians[0]
    drift = (launches[-1] - launches[0]) / launches[0]
    figures = {"latency_ms": median(medians), "two_quickest_apart": apart, "drift": drift}
    yield Check(
        "",
        _graded(apart, UNSTEADY, SHAKY),
        "four launches of one program",
        figures,
        timing.evidence,
        "fix the clock (performance governor), cool the board, stop other programs" if apart > UNSTEADY else "",
    )


def _prediction(on: _Subject) -> Iterator[Check]:
    profiled = profile(
        on.network.kernels,
        on.network.channels,
        on.builder.target,
        on.device,
        on.store,
        on.options,
        progress=on.progress,
    )
    on.measured.append(profiled.profile)
    if profiled.failed:
        raise VerificationError(f"{len(profiled.failed)} kernels failed, the first: {profiled.failed[0].error}")
    model = LatencyModel(profiled.profile.records())
    yield _predicted(on, on.network, "whole", model, profiled)


def _predicted(on: _Subject, network: Network, name: str, model: LatencyModel, profiled: ProfileResult) -> Check:
    bundle = on.folder / name
    replace(on.builder, book=ScheduleBook(on.builder.target, profiled.profile.records())).build(network, bundle)
    with on.trials.open(bundle) as tried:
        timing = timed(tried)
    predicted = model.network(n.spec for n in network.kernels.nodes).latency_ms
    error = (predicted - timing.median_ms) / timing.median_ms
    return Check(
        "",
        _graded(abs(error), INEXACT, WRONG),
        f"{len(network.kernels.nodes)} kernels one by one, and all together",
        {"predicted_ms": predicted, "latency_ms": timing.median_ms, "error": error},
        timing.evidence,
        "profile on a quiet board whose clock is fixed" if abs(error) > INEXACT else "",
    )


def _flash(on: _Subject) -> Iterator[Check]:
    first = flash(on.folder / "dense", on.device, progress=on.progress)
    on.builder.build(_halved(on), on.folder / "half")
    second = flash(on.folder / "half", on.device, progress=on.progress)
    if status(on.device).current != second.release or second.previous != first.release:
        raise VerificationError("the second release is not current, or the first is not kept")
    figures = {"bytes_sent": float(first.bytes_sent + second.bytes_sent), "latency_ms": second.timing.median_ms}
    yield Check("", "ok", "two releases installed, hashes and outputs proved on the board", figures, _ran(on))


def _rollback(on: _Subject) -> Iterator[Check]:
    before = status(on.device)
    done = rollback(on.device, progress=on.progress)
    if done.release != before.previous or status(on.device).current != done.release:
        raise VerificationError("the first release is not current again")
    yield Check("", "ok", "the first release is current again, and gives its outputs")


def _halved(on: _Subject) -> Network:
    """Half of the channels of every group: the weights do not matter here."""
    channels = on.network.channels
    widths = {g.name: max(1, g.size // 2) for g in channels.prunable}
    plan = make_plan(channels, widths, {g.name: np.arange(g.size, dtype=np.float64) for g in channels.prunable})
    return read_network(shrink(on.network.module, channels, plan), on.network.example_inputs, on.network.interface)


def _graded(value: float, warn: float, fail: float) -> Status:
    return "ok" if value <= warn else "warn" if value <= fail else "fail"


def _ran(on: _Subject) -> str:
    return on.info.evidence


_CHECKS: dict[str, Callable[[_Subject], Iterator[Check]]] = {
    "identity": _identity,
    "build": _build,
    "transfer": _transfer,
    "numerics": _numerics,
    "timing": _timing,
    "prediction": _prediction,
    "flash": _flash,
    "rollback": _rollback,
}
