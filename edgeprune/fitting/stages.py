"""The stages of a run: each is made once, kept in the run folder as it ends, and read back when the run is resumed.

``RUN/stages/NAME.json`` holds the result of a finished stage; files that it made lie beside and were written first. A
stage is finished when that file exists, so a kill at any moment leaves finished stages and at most one that starts
again. ``RUN/stages.jsonl`` tells in order which stages began and which ended.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgeprune.errors import BadInputError
from edgeprune.files import write_whole
from edgeprune.jsonable import jsonable, unjson

T = TypeVar("T")

FOLDER, LOG, DENSE, CALL = "stages", "stages.jsonl", "dense", "call.json"


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages in a run folder."""

    run: Path

    def finished(self, name: str) -> bool:
        return self._file(name).is_file()

    def once(
        self,
        name: str,
        make: Callable[[], T],
        kind: Any = None,
        *,
        save: Callable[[T], Any] | None = None,
        load: Callable[[Any], T] | None = None,
    ) -> T:
        """The result of the stage ``name``: made now, or read back if the stage is finished.

        Args:
            kind: the type of the result, which says how it is kept as JSON.
            save, load: for results without such a type, or with files beside them: ``save`` writes the files and
                returns JSON, ``load`` gives the result back.

        Raises:
            BadInputError: the stage is finished and cannot be read back. Whatever ``make`` raises.
        """
        path = self._file(name)
        if path.is_file():
            try:
                found = json.loads(path.read_text())
                return load(found) if load else unjson(kind, found)
            except (OSError, ValueError, KeyError, TypeError) as e:
                raise BadInputError(
                    f"stage {name} in {self.run} cannot be read back: {type(e).__name__}: {e}",
                    hint=f"remove {path}: this stage is then made again",
                    stage=name,
                ) from e
        self._note(name, "began")
        start = time.monotonic()
        made = make()
        self.finish(name, save(made) if save else jsonable(kind, made), seconds=round(time.monotonic() - start, 3))
        return made

    def finish(self, name: str, found: Any, **facts: Any) -> None:
        """Finish a stage: write its result as JSON."""
        write_whole(self._file(name), json.dumps(found, allow_nan=False) + "\n")
        self._note(name, "ended", **facts)
        self.under_way(name).unlink(missing_ok=True)

    def under_way(self, name: str) -> Path:
        """A file for what a long stage needs to go on from after a kill. It goes as the stage is finished."""
        return self.run / FOLDER / f"{name}.under-way"

    def reopen(self, name: str) -> None:
        """Reopen a finished stage, whose result no longer exists, so that it is made again."""
        self._file(name).unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove all stages of a run that failed, so that its folder does not look like a run."""
        for folder in (FOLDER, DENSE):
            shutil.rmtree(self.run / folder, ignore_errors=True)
        for name in (LOG, CALL):
            (self.run / name).unlink(missing_ok=True)
        with suppress(OSError):  # it holds something of the user's, or is not there
            self.run.rmdir()

    def _file(self, name: str) -> Path:
        return self.run / FOLDER / f"{name}.json"

    def _note(self, name: str, event: str, **facts: Any) -> None:
        self.run.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"stage": name, "event": event, **facts}) + "\n"
        # One write of one line to a file opened for appending: a kill leaves whole lines.
        handle = os.open(self.run / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, line.encode())
            os.fsync(handle)
        finally:
            os.close(handle)
