"""Targets: one kind of board per TOML file, read and checked.

A target is a passive record; devices do the work. The file's name is the target's name. Files are
looked for in the folders of the caller, then in those of ``$EDGEPRUNE_TARGETS`` (separated as
``$PATH`` is), then in ``$EDGEPRUNE_HOME/targets``, then in the ones edgeprune ships; the first file
found is the one used (docs/TARGETS.md).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import platform
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StrictBool, ValidationError, model_validator

from edgeprune.architectures import ARCHITECTURES, Architecture
from edgeprune.errors import EdgepruneError, TargetError
from edgeprune.gpus import COMPILED_FOR, code_for, local_gpus
from edgeprune.home import home
from edgeprune.processors import Caches, Cuda, Llvm, Positive, Record, Vta, cuda_of, host_features

ENVIRONMENT = "EDGEPRUNE_TARGETS"

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]
Feature = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.]*$")]

_ACCELERATORS = ("cuda", "vta")


def _known_architecture(name: str) -> str:
    if name not in ARCHITECTURES:
        raise ValueError(f"no architecture {name!r}; there are: {', '.join(ARCHITECTURES)}")
    return name


_GPU_TARGET = re.compile(rf"({'|'.join(a.name for a in ARCHITECTURES.values() if a.gpus)})_sm_([1-9]\d{{1,2}})")
HOST, HOST_GPU = "host", "host_gpu"
_DESCRIPTIVE: dict[str, Any] = {
    **dict.fromkeys(("name", "title", "notes", "sources", "default_device", "generic", "requires"), True),
    **dict.fromkeys(("cores", "clock_mhz", "ram_bytes", "flash_bytes", "caches"), True),
    "cuda": {"multiprocessors", "toolkit"},
}
"""Fields that tell people and devices about a board, and that no compiler reads: they are not in the digest."""


class Target(Record):
    """One kind of board.

    Attributes:
        name: the name of its file, without ``.toml``.
        title: the name people use.
        kind: what executes kernels: the cores (``cpu``), a GPU (``cuda``) or an FPGA (``vta``).
        llvm: the processor, for the compiler. This and all that follows is about the cores, whatever ``kind`` is.
        zig_target: architecture and C library, for the linker: ``aarch64-linux-gnu.2.28``.
        arch: ``uname -m`` of the board.
        vector_bits: width of one vector register.
        cores: cores a kernel can use; for a generic target the least there can be.
        clock_mhz: highest sustained clock; None where it differs from board to board.
        ram_bytes: memory of the smallest board sold; None where it differs from board to board.
        flash_bytes: storage for bundles, where the board fixes it.
        caches: data caches of one core.
        default_device: URL of the device that is used when the user names none.
        requires: CPU features, named as ``/proc/cpuinfo`` names them, without which the compiled code would crash.
        cuda, vta: the accelerator, where ``kind`` says that there is one.
        generic: not one board but a family of computers; ``host`` chooses among these.
        notes: what a user of this target should know.
        sources: where each figure comes from.
    """

    name: Name
    title: str
    kind: Literal["cpu", "cuda", "vta"]
    llvm: Llvm
    zig_target: Annotated[str, Field(pattern=r"^[a-z0-9_]+-linux-(gnu|musl)[a-z]*(\.\d+)*$")]
    arch: Annotated[str, AfterValidator(_known_architecture)]
    vector_bits: Literal[128, 256, 512]
    cores: Positive
    clock_mhz: Positive | None = None
    ram_bytes: Positive | None = None
    flash_bytes: Positive | None = None
    caches: Caches
    default_device: str
    requires: tuple[Feature, ...] = ()
    cuda: Cuda | None = None
    vta: Vta | None = None
    generic: StrictBool = False
    notes: tuple[str, ...] = ()
    sources: Annotated[tuple[str, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_architecture(self) -> Self:
        for field, value in (("llvm.mtriple", self.llvm.mtriple), ("zig_target", self.zig_target)):
            if not value.startswith(self.architecture.triples):
                raise ValueError(f"{field} {value!r} is not for arch {self.arch!r}")
        return self

    @model_validator(mode="after")
    def _its_accelerator(self) -> Self:
        for kind in _ACCELERATORS:
            if (getattr(self, kind) is not None) != (self.kind == kind):
                says = "needs a table" if self.kind == kind else "has no place for"
                raise ValueError(f"kind {self.kind!r} {says} [{kind}]")
        if self.generic and self.kind != "cpu":
            raise ValueError("only a target of kind 'cpu' can be generic: host chooses among these")
        return self

    @property
    def architecture(self) -> Architecture:
        return ARCHITECTURES[self.arch]

    @property
    def libc(self) -> str:
        """The C library that programs are linked with, as a device names its own: ``glibc 2.28``, ``musl``."""
        _, _, system = self.zig_target.partition("-linux-")
        family, _, version = system.partition(".")
        return "musl" if family.startswith("musl") else f"glibc {version}".strip()

    @property
    def lanes(self) -> int:
        """float32 elements that tensors are kept in blocks of: a vector register of the cores; 1 for a GPU or FPGA."""
        return self.vector_bits // 32 if self.kind == "cpu" else 1

    @property
    def width_step(self) -> int:
        """Smallest difference of widths that can pay: half a vector register; on a GPU, the channels of a thread."""
        return 4 if self.kind == "cuda" else max(1, self.lanes // 2)

    @property
    def digest(self) -> str:
        """The hash, 16 hex digits, of the fields that compiled code depends on."""
        # Fields are listed that are left out: one that is added counts until someone says that it does not.
        # What a file does not give is left out too, so that a new kind of accelerator changes no other digest.
        data = self.model_dump(mode="json", by_alias=True, exclude=_DESCRIPTIVE, exclude_none=True)
        return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)

    @property
    def cores_hint(self) -> str:
        """Which target to take for the board's cores, where its accelerator cannot do something."""
        name = self.architecture.generic
        # A Cortex-A9 has fewer features than any target for its architecture asks for.
        if read_target(data_folder("targets") / f"{name}.toml").missing_features(self.requires):
            return "no target fits the board's cores"
        return f"for the board's cores choose a cpu target: {name}"

    def require_buildable(self) -> None:
        """Raises:
        TargetError: edgeprune builds nothing for what executes kernels there.
        """
        if self.kind == "vta":
            raise TargetError(
                f"nothing can be built for {self.name} yet: its kernels would run on VTA",
                hint=self.cores_hint,
                name=self.name,
                kind=self.kind,
            )

    def missing_features(self, features: Iterable[str]) -> tuple[str, ...]:
        """What a device with these CPU features lacks to run code compiled for this target."""
        have = set(features)
        return tuple(f for f in self.requires if f not in have)


def data_folder(kind: Literal["targets", "profiles"]) -> Path:
    """Where edgeprune's own data lies: inside the installed package, or beside it in a source checkout."""
    package = Path(__file__).parent
    for folder in (package / "_data" / kind, package.parent / kind):
        if folder.is_dir():
            return folder
    raise EdgepruneError(f"edgeprune's own {kind} are missing from {package}", hint="install edgeprune again")


def load_target(name: str, folders: Iterable[str | os.PathLike[str]] = ()) -> Target:
    """The target of that name; ``host`` is the best generic one that this computer can run.

    A name such as ``x86_64_sm_86`` stands for any computer of that architecture with any GPU that runs code for
    ``sm_86``; ``host_gpu`` is the one of this computer and its GPU.

    Raises:
        TargetError: no such target (lists those that exist), a file that does not check (names its fields), or a GPU
            that nothing can be compiled for.
        MissingDependencyError, DeviceUnreachableError: ``host_gpu`` where there is no driver or no GPU.
    """
    files = _files(folders)
    if name == HOST:
        return _host(files)
    if name == HOST_GPU:
        return _host_gpu(files)
    if name not in files and (parts := _GPU_TARGET.fullmatch(name)):
        return _with_gpu(files, parts[1], f"sm_{parts[2]}")
    if name not in files:
        close = difflib.get_close_matches(name, files, n=1)
        raise TargetError(
            f"there is no target {name!r}; there are: {', '.join(sorted(files))}",
            hint=f"did you mean {close[0]!r}?"
            if close
            else f"put your own {name}.toml into a folder of ${ENVIRONMENT}",
            name=name,
            known=sorted(files),
        )
    return read_target(files[name])


def list_targets(folders: Iterable[str | os.PathLike[str]] = ()) -> list[Target]:
    """Every target that :func:`load_target` finds, by name. A file that does not check raises."""
    files = _files(folders)
    return [read_target(files[name]) for name in sorted(files)]


def read_target(file: Path) -> Target:
    """Read and check one file.

    Raises:
        TargetError: with one entry per wrong field in ``details["fields"]``.
    """
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TargetError(f"target file {file} cannot be read: {error}", file=str(file)) from error
    try:
        target = Target.model_validate(data)
    except ValidationError as error:
        fields = {".".join(map(str, e["loc"])) or "(whole file)": e["msg"] for e in error.errors()}
        raise TargetError(
            f"target file {file} does not check: " + "; ".join(f"{k}: {v}" for k, v in fields.items()),
            hint=f"compare it with the shipped ones in {data_folder('targets')}",
            file=str(file),
            fields=fields,
        ) from error
    if target.name != file.stem:
        raise TargetError(
            f"target file {file} does not check: name: is {target.name!r}, the file is called {file.stem!r}",
            hint="rename one of them",
            file=str(file),
            fields={"name": target.name},
        )
    return target


def _host(files: dict[str, Path]) -> Target:
    machine, features = platform.machine(), host_features()
    fits = [
        target
        for target in map(read_target, files.values())
        if target.generic and target.arch == machine and not target.missing_features(features)
    ]
    if not fits:
        raise TargetError(
            f"no generic target fits this computer ({machine} {platform.system()})",
            hint="name a target and give a device that is of that kind with --device",
            machine=machine,
            features=list(features),
        )
    return max(fits, key=lambda target: (target.vector_bits, len(target.requires)))


def _host_gpu(files: dict[str, Path]) -> Target:
    """Of the GPUs here, which all have to take the same code: between two kinds nobody is there to choose."""
    gpus, machine = local_gpus(), platform.machine()
    for gpu in gpus:
        if code_for(gpu.arch) is None:
            raise _not_compiled_for(gpu.arch, f"{gpu.name} is an {gpu.arch}; ")
    codes = sorted({str(code_for(gpu.arch)) for gpu in gpus})
    if len(codes) > 1:
        raise TargetError(
            f"this computer has GPUs of several kinds: {', '.join(f'{g.name} ({g.arch})' for g in gpus)}",
            hint=f"name the target of the one that you mean: {' or '.join(f'{machine}_{code}' for code in codes)}",
            codes=codes,
        )
    if machine not in ARCHITECTURES or not ARCHITECTURES[machine].gpus:
        raise TargetError(f"there is no GPU target of {machine}", hint="use the cores: --target host", machine=machine)
    return _with_gpu(files, machine, codes[0])


def _with_gpu(files: dict[str, Path], machine: str, arch: str) -> Target:
    """Any processor of ``machine`` beside a GPU that runs code for ``arch``: the program on the cores only feeds it."""
    if int(arch.removeprefix("sm_")) not in COMPILED_FOR:
        raise _not_compiled_for(arch)
    cores = read_target(files[ARCHITECTURES[machine].generic])
    return cores.model_copy(
        update={
            "name": f"{machine}_{arch}",
            "title": f"{machine} with an NVIDIA GPU ({arch})",
            "kind": "cuda",
            "default_device": "local-gpu:",
            "cuda": cuda_of(arch),
            "generic": False,
            "notes": ("Not a file: made of the generic target of the cores and the limits of GPUs of this kind.",),
            "sources": (*cores.sources, "cuda: CUDA C++ Programming Guide, Technical Specifications per Capability"),
        }
    )


def _not_compiled_for(arch: str, which: str = "") -> TargetError:
    return TargetError(
        f"{which}nothing can be compiled for {arch}: NVRTC 11.8 knows sm_{min(COMPILED_FOR)} to "
        f"sm_{max(COMPILED_FOR)}, and machine code runs only on GPUs of its own generation",
        hint="use the cores, with --target host --device local:, or a GPU of an earlier generation",
        arch=arch,
    )


def target_file(name: str, folders: Iterable[str | os.PathLike[str]] = ()) -> Path | None:
    """Where :func:`load_target` reads that target; None if there is none of that name."""
    return _files(folders).get(name)


def _files(folders: Iterable[str | os.PathLike[str]]) -> dict[str, Path]:
    named = [Path(f) for f in folders]
    named += [Path(f) for f in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if f]
    files: dict[str, Path] = {}
    for folder in named:
        if not folder.is_dir():
            raise TargetError(
                f"target folder {folder} does not exist", hint=f"check ${ENVIRONMENT}", folder=str(folder)
            )
    own = [folder for folder in (home() / "targets",) if folder.is_dir()]
    for folder in (*named, *own, data_folder("targets")):
        for name, file in _files_of(folder).items():
            files.setdefault(name, file)
    return files


def _files_of(folder: Path) -> dict[str, Path]:
    """The files of one folder by name. Two that claim one name are refused: which is meant cannot be known."""
    claims: dict[str, Path] = {}
    files = {file.stem: file for file in sorted(folder.glob("*.toml"))}
    for stem, file in files.items():
        name = _claimed(file) or stem
        if name in claims:
            raise TargetError(
                f"two files in {folder} are called {name!r}: {claims[name].name} and {file.name}",
                hint="remove one, or give it a name of its own; a target has the name of its file",
                folder=str(folder),
                files=[claims[name].name, file.name],
            )
        claims[name] = file
    return files


def _claimed(file: Path) -> str:
    """The name a file gives itself; empty where it gives none, which :func:`read_target` will tell."""
    try:
        name = tomllib.loads(file.read_text(encoding="utf-8")).get("name", "")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return ""
    return name if isinstance(name, str) else ""
