"""Targets: one kind of board per TOML file, read and checked.

A target is a passive record; devices do the work. The file's name is the target's name. Files are
looked for in the folders of the caller, then in those of ``$EDGEPRUNE_TARGETS`` (separated as
``$PATH`` is), then in the ones edgeprune ships; the first file found is the one used.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import platform
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, model_validator

from edgeprune.errors import EdgepruneError, TargetError

ENVIRONMENT = "EDGEPRUNE_TARGETS"

Positive = Annotated[int, Field(strict=True, gt=0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]
Feature = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.]*$")]

_TRIPLE_STARTS = {"x86_64": ("x86_64-",), "aarch64": ("aarch64-",), "armv7l": ("arm-", "armv7", "thumbv7")}
_PROSE = {"title", "notes", "sources", "default_device"}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Llvm(_Record):
    """How LLVM names the processor."""

    mtriple: str
    mcpu: str
    mattr: tuple[str, ...] = ()
    mfloat_abi: Literal["hard", "soft"] | None = Field(default=None, alias="mfloat-abi")

    def to_dict(self) -> dict[str, Any]:
        """The dictionary that ``tvm.target.Target`` takes."""
        target: dict[str, Any] = {"kind": "llvm", "mtriple": self.mtriple, "mcpu": self.mcpu}
        if self.mattr:
            target["mattr"] = list(self.mattr)
        if self.mfloat_abi:
            target["mfloat-abi"] = self.mfloat_abi
        return target


class Caches(_Record):
    """Bytes of data cache that one core sees."""

    l1d: Positive
    l2: Positive


class Target(_Record):
    """One kind of board.

    Attributes:
        name: the name of its file, without ``.toml``.
        title: the name people use.
        kind: what executes kernels.
        llvm: the processor, for the compiler.
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
        generic: not one board but a family of computers; ``host`` chooses among these.
        notes: what a user of this target should know.
        sources: where each figure comes from.
    """

    name: Name
    title: str
    kind: Literal["cpu"]
    llvm: Llvm
    zig_target: Annotated[str, Field(pattern=r"^[a-z0-9_]+-linux-(gnu|musl)[a-z]*(\.\d+)*$")]
    arch: Literal["x86_64", "aarch64", "armv7l"]
    vector_bits: Literal[128, 256, 512]
    cores: Positive
    clock_mhz: Positive | None = None
    ram_bytes: Positive | None = None
    flash_bytes: Positive | None = None
    caches: Caches
    default_device: str
    requires: tuple[Feature, ...] = ()
    generic: StrictBool = False
    notes: tuple[str, ...] = ()
    sources: Annotated[tuple[str, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_architecture(self) -> Self:
        for field, value in (("llvm.mtriple", self.llvm.mtriple), ("zig_target", self.zig_target)):
            if not value.startswith(_TRIPLE_STARTS[self.arch]):
                raise ValueError(f"{field} {value!r} is not for arch {self.arch!r}")
        return self

    @property
    def lanes(self) -> int:
        """float32 elements of one vector register."""
        return self.vector_bits // 32

    @property
    def digest(self) -> str:
        """16 hex digits of all that can change compiled code or its speed (so: not of the prose)."""
        data = self.model_dump(mode="json", by_alias=True, exclude=_PROSE)
        return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)

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

    Raises:
        TargetError: no such target (lists those that exist), or a file that does not check (names its fields).
    """
    files = _files(folders)
    if name == "host":
        return _host(files)
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


def host_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """CPU features of this computer, sorted; none where the kernel does not list them."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return tuple(sorted(value.split()))
    return ()


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


def _files(folders: Iterable[str | os.PathLike[str]]) -> dict[str, Path]:
    extra = [Path(f) for f in folders]
    extra += [Path(f) for f in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if f]
    files: dict[str, Path] = {}
    for folder in (*extra, data_folder("targets")):
        if not folder.is_dir():
            raise TargetError(
                f"target folder {folder} does not exist", hint=f"check ${ENVIRONMENT}", folder=str(folder)
            )
        for file in sorted(folder.glob("*.toml")):
            files.setdefault(file.stem, file)
    return files
