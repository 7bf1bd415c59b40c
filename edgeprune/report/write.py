"""Puts a report into a folder: ``report.json`` and ``report.html``, each whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

from edgeprune.errors import BadInputError
from edgeprune.files import write_whole
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
        for name, text in texts.items():
            write_whole(folder / name, text)
    except OSError as e:
        raise BadInputError(
            f"the report cannot be written to {folder}: {e.strerror}",
            hint="choose another folder with --out",
            folder=str(folder),
        ) from e
    return folder / "report.json", folder / "report.html"
