"""The NVIDIA GPUs of this computer, asked through the driver (libcuda.so.1); no CUDA toolkit is needed.

The driver is asked in a process that does nothing else: it takes memory, it does not survive a fork, and it reads
``$CUDA_VISIBLE_DEVICES`` once, so that a training that starts afterwards in the user's process would be bound by it.
Both ends of the pipe are in this file.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeprune.errors import DeviceUnreachableError, MissingDependencyError

SIMULATED = "simulated"
"""A stand-in for a GPU begins its name with this: no figure taken on it counts as measured."""

COMPILED_FOR = (35, 37, 50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90)
"""Compute capabilities that NVRTC 11.8 compiles for."""

_EMBEDDED = (53, 62, 72, 87)  # of Jetson boards: code for them is not for other GPUs, nor other code for them
_TIMEOUT_S = 60.0
_NO_DRIVER = "there is no NVIDIA driver here"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_…
_COMMAND = (sys.executable, "-P", "-m", "edgeprune.gpus")  # -P: nothing that merely lies in the current folder


@dataclass(frozen=True, slots=True)
class Gpu:
    """``arch``: compute capability as the compiler names it: ``sm_87``. ``uuid``: ``GPU-…``, as nvidia-smi shows it."""

    name: str
    arch: str
    memory_bytes: int
    uuid: str = ""

    @property
    def evidence(self) -> str:
        """Level of what is timed on it."""
        return SIMULATED if self.name.startswith(SIMULATED) else "measured"


def local_gpus() -> list[Gpu]:
    """The GPUs in the order that the driver counts them; at least one.

    Raises:
        MissingDependencyError: there is no driver.
        DeviceUnreachableError: the driver fails, or finds no GPU.
    """
    package = str(Path(__file__).parents[1])  # this very edgeprune
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            _COMMAND,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired:
        raise DeviceUnreachableError(
            f"the NVIDIA driver did not answer in {_TIMEOUT_S:g} s", hint="see what nvidia-smi says"
        ) from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise DeviceUnreachableError(
            f"the process that asked the NVIDIA driver ended with exit code {done.returncode}: {done.stderr[-300:]}",
            hint="see what nvidia-smi says",
        ) from None
    if why := answer.get("error"):
        if why.startswith(_NO_DRIVER):
            raise MissingDependencyError(
                why, hint="install NVIDIA's driver, until nvidia-smi lists the GPU; or use the cores: --device local:"
            )
        raise DeviceUnreachableError(why, hint="see what nvidia-smi says; or use the cores: --device local:")
    return [Gpu(**gpu) for gpu in answer["gpus"]]


def runs_on(code: str, gpu: str) -> bool:
    """Whether machine code for ``code`` (``sm_80``) runs on ``gpu`` (``sm_86``).

    CUDA C++ Programming Guide, Binary Compatibility: on later minor revisions of the same major one, boards'
    GPUs (Tegra) aside.
    """
    (major, minor), (on_major, on_minor) = _capability(code), _capability(gpu)
    if code == gpu:
        return True
    aside = any(10 * a + b in _EMBEDDED for a, b in ((major, minor), (on_major, on_minor)))
    return not aside and major == on_major and minor <= on_minor


def code_for(gpu: str) -> str | None:
    """The newest architecture that is compiled for and runs on that GPU; None if none does."""
    fits = [n for n in COMPILED_FOR if runs_on(f"sm_{n}", gpu)]
    return f"sm_{max(fits)}" if fits else None


def _capability(arch: str) -> tuple[int, int]:
    return divmod(int(arch.removeprefix("sm_")), 10)


class _DriverError(Exception):
    pass


def _asked() -> list[Gpu]:
    """The answer of the process that has the driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as e:
        raise _DriverError(f"{_NO_DRIVER}: {e}") from e

    def call(name: str, *arguments: Any) -> None:
        try:
            function = getattr(driver, name)
        except AttributeError:
            raise _DriverError(f"the NVIDIA driver has no {name}") from None
        if code := function(*arguments):
            text = ctypes.c_char_p()
            known = driver.cuGetErrorName(code, ctypes.byref(text)) == 0 and text.value
            raise _DriverError(f"{name} of the NVIDIA driver: {known.decode() if known else 'unknown error'} ({code})")

    call("cuInit", 0)
    count = ctypes.c_int()
    call("cuDeviceGetCount", ctypes.byref(count))
    if count.value == 0:
        raise _DriverError("the NVIDIA driver finds no GPU")
    return [_one(call, ordinal) for ordinal in range(count.value)]


def _one(call: Callable[..., None], ordinal: int) -> Gpu:
    device, size, major, minor = ctypes.c_int(), ctypes.c_size_t(), ctypes.c_int(), ctypes.c_int()
    name, identity = ctypes.create_string_buffer(256), ctypes.create_string_buffer(16)
    call("cuDeviceGet", ctypes.byref(device), ordinal)
    call("cuDeviceGetName", name, len(name), device)
    call("cuDeviceTotalMem_v2", ctypes.byref(size), device)
    call("cuDeviceGetUuid", identity, device)
    for attribute, place in ((_MAJOR, major), (_MINOR, minor)):
        call("cuDeviceGetAttribute", ctypes.byref(place), attribute, device)
    arch = f"sm_{10 * major.value + minor.value}"
    return Gpu(name.value.decode(errors="replace"), arch, size.value, f"GPU-{uuid.UUID(bytes=identity.raw)}")


def main() -> None:
    """The asking process: one JSON object on stdout."""
    try:
        print(json.dumps({"gpus": [asdict(gpu) for gpu in _asked()]}))
    except _DriverError as e:
        print(json.dumps({"error": str(e)}))


if __name__ == "__main__":
    main()
