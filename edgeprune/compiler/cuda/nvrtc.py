"""CUDA source to a cubin for one GPU, through NVRTC: no GPU, no driver and no CUDA toolkit are needed.

NVRTC is a library; the package ``nvidia-cuda-nvrtc-cu11`` (the extra ``jetson``) brings it. Release
11.8 compiles for all Jetson boards. CUDA 13 has dropped sm_53 and sm_72, and a board whose system has
CUDA 11 does not load what CUDA 12 made.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import metadata
from pathlib import Path

from edgeprune.compiler.failures import KernelBuildError
from edgeprune.errors import MissingDependencyError

PACKAGE = "nvidia-cuda-nvrtc-cu11"
CUDA_MAJOR = 11
_LIBRARIES = ("libnvrtc-builtins.so.11.8", "libnvrtc.so.11.2")
_MAGIC = b"\x7fELF"
_EM_CUDA = 190


def compile_cubin(source: str, arch: str, kernels: Sequence[str]) -> bytes:
    """Compile to machine code of ``arch`` (``sm_87``), with all of ``kernels`` in it.

    Raises:
        MissingDependencyError: NVRTC is not installed.
        KernelBuildError: it refused the source, or what it made is not a cubin of that GPU.
    """
    # A thread that compiled is left in the C locale by NVRTC, and would read files as ASCII from then on.
    with ThreadPoolExecutor(1) as pool:
        cubin = pool.submit(_compile, source, arch).result()
    require_cubin(cubin, arch, kernels)
    return cubin


def _compile(source: str, arch: str) -> bytes:
    library = _library()
    program = ctypes.c_void_p()
    _check(library, library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None))
    try:
        options = [f"--gpu-architecture={arch}".encode(), b"--std=c++17"]
        code = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        if code != 0:
            log = _read(library, program, "ProgramLog").decode(errors="replace").strip("\0\n ")
            raise KernelBuildError(f"NVRTC refuses the kernels for {arch}: {log[-800:] or _name(library, code)}")
        return _read(library, program, "CUBIN")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def require_cubin(data: bytes, arch: str, kernels: Sequence[str]) -> None:
    """Machine code for that GPU, and neither source nor PTX that a board would have to compile first.

    Raises:
        KernelBuildError: it is something else.
    """
    built_for = gpu_of(data)
    if not built_for:
        raise KernelBuildError(f"no machine code for {arch}: it begins with {data[:16]!r}")
    if built_for != arch:
        raise KernelBuildError(f"machine code for {built_for} instead of {arch}")
    if missing := [name for name in kernels if b"\0.text." + name.encode() + b"\0" not in data]:
        raise KernelBuildError(f"the machine code for {arch} lacks {', '.join(missing)}")


def gpu_of(data: bytes) -> str:
    """The GPU that a cubin is for: ``sm_87``; empty for anything else."""
    if len(data) < 64 or data[:4] != _MAGIC or int.from_bytes(data[18:20], "little") != _EM_CUDA:
        return ""
    # e_flags of the CUDA ELF ABI as CUDA 11 and 12 write it: the lowest byte.
    return f"sm_{int.from_bytes(data[48:52], 'little') & 0xFF}"


def embedded_gpus(program: bytes) -> list[str]:
    """GPUs that a program or library carries machine code for, in order of appearance."""
    places = [match.start() for match in re.finditer(re.escape(_MAGIC), program)]
    return [gpu for place in places if (gpu := gpu_of(program[place:]))]


def versions() -> dict[str, str]:
    """Of what compiles for GPUs; part of fingerprints and of a bundle's provenance.

    Raises:
        MissingDependencyError: it is not installed.
    """
    _folder()
    return {PACKAGE: metadata.version(PACKAGE)}


@cache
def _folder() -> Path:
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(place) / "cuda_nvrtc" / "lib" for place in (spec and spec.submodule_search_locations) or ()]
    folder = next((f for f in folders if all((f / name).is_file() for name in _LIBRARIES)), None)
    if folder is None:
        raise MissingDependencyError(
            f"the package {PACKAGE} is not installed, which compiles for NVIDIA GPUs",
            hint="pip install 'edgeprune[jetson]'",
            package=PACKAGE,
        )
    return folder


@cache
def _library() -> ctypes.CDLL:
    folder = _folder()
    try:
        # The first is what the second looks for by name.
        return [ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL) for name in _LIBRARIES][-1]
    except OSError as e:
        raise MissingDependencyError(
            f"NVRTC does not load: {e}", hint=f"pip install --force-reinstall {PACKAGE}"
        ) from e


def _read(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(library, getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(library, getattr(library, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw


def _check(library: ctypes.CDLL, code: int) -> None:
    if code != 0:
        raise KernelBuildError(f"NVRTC failed: {_name(library, code)}")


def _name(library: ctypes.CDLL, code: int) -> str:
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return bytes(library.nvrtcGetErrorString(code)).decode(errors="replace")
