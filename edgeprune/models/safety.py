"""File types by their first bytes, so that nothing in a file is ever executed."""

from __future__ import annotations

import zipfile
from pathlib import Path

from edgeprune.errors import ModelLoadError

PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".tar"})
SAFETENSORS_HINT = (
    "where you trust the file: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors'), "
    "then pass zoo:NAME or FILE.py:FACTORY with --weights weights.safetensors"
)


def regular_file(file: Path) -> None:
    """Refuse what is not a file, or is empty.

    Raises:
        ModelLoadError
    """
    if not file.is_file():
        raise ModelLoadError(f"there is no file {file}", file=str(file))
    if file.stat().st_size == 0:
        raise ModelLoadError(f"{file} is empty", hint="copy or export it again", file=str(file))


def refuse_pickle(file: Path, *, suffixes: bool = True) -> None:
    """Refuse pickled checkpoints by name (with ``suffixes``), by magic, and inside zip archives.

    A pickle is a program: loading one can run anything. edgeprune never does, whatever its name.

    Raises:
        ModelLoadError: with the way to convert it.
    """
    if (suffixes and file.suffix.lower() in PICKLE_SUFFIXES) or _is_pickle(file):
        raise ModelLoadError(
            f"{file} is a pickled checkpoint; loading one can run any code, so edgeprune never does",
            hint=SAFETENSORS_HINT,
            file=str(file),
        )


def _is_pickle(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(2)
    if len(head) == 2 and head[0] == 0x80 and head[1] <= 5:  # PROTO opcode, protocols 2 to 5
        return True
    if head == b"PK":
        try:
            with zipfile.ZipFile(file) as archive:
                return any(name.endswith((".pkl", ".pickle")) for name in archive.namelist())
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            return False
    return False
