"""Entry points: ``package.module:name`` and ``file.py:name``, resolved and called.

This runs the user's own code with the user's rights, as ``python file.py`` would. Only a person
who typed the entry point should be able to cause that: never resolve one found in a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeprune.errors import EdgepruneError, ModelLoadError


def is_entrypoint(source: str) -> bool:
    """True for ``something:name`` where name is an identifier."""
    place, colon, name = source.rpartition(":")
    return bool(place and colon) and name.isidentifier()


def call(source: str, **arguments: Any) -> Any:
    """Import the module or file of ``source`` and call its factory.

    The file's folder (or the working folder, for ``package.module``) is importable meanwhile.

    Raises:
        ModelLoadError: a missing file, module or name, something that cannot be called, or an exception from
            the user's code, which is then the cause of this one.
    """
    place, _, name = source.rpartition(":")
    file = Path(place) if place.endswith(".py") else None
    if file is not None and not file.is_file():
        raise ModelLoadError(f"there is no file {file}", hint="FILE.py:FACTORY needs a file that exists", source=source)
    with _importable(file.resolve().parent if file else Path.cwd()):
        try:
            module = _run_file(file.resolve()) if file else importlib.import_module(place)
        except Exception as error:
            raise _failed(source, f"{place} cannot be imported", error) from error
        factory = getattr(module, name, None)
        if not callable(factory):
            public = sorted(n for n, v in vars(module).items() if callable(v) and not n.startswith("_"))
            raise ModelLoadError(
                f"{place} has no function {name!r}; it has: {', '.join(public) or 'none'}", source=source, known=public
            )
        try:
            return factory(**arguments)
        except EdgepruneError:
            raise
        except Exception as error:
            raise _failed(source, f"{name}() of {place} failed", error) from error


def _run_file(file: Path) -> ModuleType:
    # A stable name of its own: two files called model.py do not replace each other.
    name = f"edgeprune_user_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and torch.export look the module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)


def _failed(source: str, what: str, error: Exception) -> ModelLoadError:
    return ModelLoadError(f"{what}: {type(error).__name__}: {error}", source=source, cause=type(error).__name__)
