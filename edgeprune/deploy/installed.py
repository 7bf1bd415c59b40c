"""Use what is installed: run the current release on data, and time a release."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from edgeprune.compiler.manifest import Manifest, TensorEntry
from edgeprune.deploy.board import Board
from edgeprune.deploy.checks import BenchResult, crashed, run_program
from edgeprune.deploy.layout import IO, release_path, short
from edgeprune.deploy.package import installed_manifest
from edgeprune.deploy.steady import steady_bench
from edgeprune.devices.protocol import Device
from edgeprune.devices.scratch import scratch
from edgeprune.errors import BadInputError, UsageError

_BAD_INPUT = 3  # docs/BOARD.md


def run_installed(
    device: Device, inputs: Sequence[bytes], batch: int = 1, *, threads: int | None = None, timeout_s: float = 300.0
) -> list[bytes]:
    """Outputs of the current release, in the manifest's order.

    Args:
        inputs: one array per input of the model: ``batch`` stacked samples, raw little-endian.
        threads: as the bundle was compiled for, if None.

    Raises:
        UsageError: nothing is installed.
        BadInputError: the number or the sizes of the inputs are not the model's.
        VerificationError: the program crashes or does not end.
    """
    home, manifest = current_release(device)
    return run_release(device, home, manifest, inputs, batch, threads=threads, timeout_s=timeout_s)


def run_release(
    device: Device,
    home: str,
    manifest: Manifest,
    inputs: Sequence[bytes],
    batch: int = 1,
    *,
    threads: int | None = None,
    timeout_s: float = 300.0,
) -> list[bytes]:
    """:func:`run_installed` for the program in the folder ``home``, installed or not."""
    with scratch(device, IO) as folder:
        stored = [f"{folder}/input{i}" for i in range(len(inputs))]
        for path, data in zip(stored, inputs, strict=True):
            device.put(data, path)
        return run_stored(device, home, manifest, stored, batch, threads=threads, timeout_s=timeout_s)


def run_stored(
    device: Device,
    home: str,
    manifest: Manifest,
    inputs: Sequence[str],
    batch: int = 1,
    *,
    threads: int | None = None,
    timeout_s: float = 300.0,
) -> list[bytes]:
    """:func:`run_release` on inputs that lie on the device already, each at its path."""
    if len(inputs) != len(manifest.inputs) or batch < 1:
        names = ", ".join(tensor.name for tensor in manifest.inputs)
        raise BadInputError(
            f"the model has the inputs {names}; {len(inputs)} were given, with batch {batch}",
            hint="give one array for each input and a batch of at least 1",
        )
    # Beside the input: that folder exists, whatever tools the board has.
    folder, mark = inputs[0].rpartition("/")[0], secrets.token_hex(8)
    outputs = [f"{folder}/{mark}.output{i}" for i in range(len(manifest.outputs))]
    arguments = ["run", *(part for path in inputs for part in ("--input", path))]
    arguments += [part for path in outputs for part in ("--output", path)]
    arguments += ["--batch", str(batch), "--threads", str(threads or manifest.threads)]
    try:
        done = run_program(device, home, manifest, arguments, timeout_s=timeout_s)
        if done.returncode == _BAD_INPUT:
            raise BadInputError(f"the model refuses the input: {done.stderr.strip()}", hint="see edgeprune run --help")
        if done.returncode != 0:
            raise crashed("run", done)
        return [device.get(path) for path in outputs]
    finally:
        for path in outputs:
            device.remove(path)


def current_release(device: Device) -> tuple[str, Manifest]:
    """Folder and manifest of the current release; by its folder, not through the link, which may be switched.

    Raises:
        UsageError: nothing is installed.
        VerificationError: its manifest is missing or altered.
    """
    board = Board(device)
    release = _require_release(board, None)
    return release_path(release), installed_manifest(board, release)


def installed_ports(device: Device) -> tuple[tuple[TensorEntry, ...], tuple[TensorEntry, ...]]:
    """Inputs and outputs of the current release.

    Raises:
        UsageError: nothing is installed.
    """
    _, manifest = current_release(device)
    return manifest.inputs, manifest.outputs


def bench_installed(
    device: Device,
    warmup: int,
    repeats: int,
    threads: int | None = None,
    *,
    release: str | None = None,
    timeout_s: float = 300.0,
) -> BenchResult:
    """Latency of the current release, or of another one on the device by its id.

    Raises:
        UsageError: there is no such release; fewer than one repeat.
        VerificationError: the program crashes, does not end or prints no samples.
    """
    if warmup < 0 or repeats < 1:
        raise UsageError(f"{warmup} warm-up runs and {repeats} repeats cannot be timed", hint="repeat at least once")
    board = Board(device)
    release = _require_release(board, release)
    manifest = installed_manifest(board, release)
    return steady_bench(
        device,
        release_path(release),
        manifest,
        warmup=warmup,
        repeats=repeats,
        threads=threads or manifest.threads,
        timeout_s=timeout_s,
        info=device.describe(),
    )


def _require_release(board: Board, release: str | None) -> str:
    if release is None:
        current = board.current()
        if current is None:
            raise UsageError(f"{board.device.url}: no release is installed", hint="edgeprune flash BUNDLE --device URL")
        return current
    known = board.releases()
    if release not in known:
        raise UsageError(
            f"{board.device.url}: there is no release {release!r}",
            hint=f"these are installed: {', '.join(short(name) for name in sorted(known)) or 'none'}",
        )
    return release
