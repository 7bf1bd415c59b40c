"""Puts a report into a folder: ``report.json`` and ``report.html``, each whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

from edgeprune.errors import BadInputError
from edgeprune.report.html import render_html
from edgeprune.report.schema import Report


def write_report(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write both files and return their paths (JSON, HTML). Both are made before either is written.

    Raises:
        BadInputError: the folder cannot be written.
    """
    texts = {
        "report.json": json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n",
        "report.html": render_html(report),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            _replace(folder / name, text)
    except OSError as e:
        raise BadInputError(
            f"the report cannot be written to {folder}: {e.strerror}",
            hint="choose another folder with --out",
            folder=str(folder),
        ) from e
    return folder / "report.json", folder / "report.html"


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
