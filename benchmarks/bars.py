"""Bars of a benchmark: what an issue asks for, beside what was seen; a missed one is exit code 1."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def bar(name: str, value: float, limit: float, met: bool) -> dict[str, Any]:
    return {"name": name, "value": value, "limit": limit, "met": bool(met)}


def told(schema: str, body: Mapping[str, Any], bars: Sequence[Mapping[str, Any]], as_json: bool) -> int:
    """Print the bars, or all of it as one JSON object; the exit code."""
    if as_json:
        print(json.dumps({"schema": schema, **body, "bars": bars}))
    else:
        for row in bars:
            print(f"{row['name']}: {row['value']:g}, bar {row['limit']:g}: {'met' if row['met'] else 'MISSED'}")
    return 0 if all(row["met"] for row in bars) else 1
