"""Outcome of an acceptance, as data that the owner of a board can pass on."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warn", "fail", "skipped"]
SCHEMA = "edgeprune.board-check/1"
PACKAGES = ("edgeprune", "apache-tvm", "torch", "ziglang")


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        found: what was found, in words; for a failure, what happened.
        figures: numbers by name, the unit in the name.
        evidence: how the figures were obtained; empty where there are none.
        mend: what to do about it.
    """

    name: str
    status: Status
    found: str
    figures: Mapping[str, float] = field(default_factory=dict)
    evidence: str = ""
    mend: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "check": self.name,
            "status": self.status,
            "found": self.found,
            "figures": dict(self.figures),
            "evidence": self.evidence,
            "mend": self.mend,
        }


@dataclass(frozen=True, slots=True)
class Acceptance:
    """All checks of one board, in the order in which they ran.

    ``profile``: the digest of the fingerprint of the profile that was measured; None where none was.
    """

    device: str
    target: str
    target_digest: str
    info: Mapping[str, Any]
    checks: tuple[Check, ...]
    profile: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether nothing failed and nothing was left out."""
        return all(c.status in ("ok", "warn") for c in self.checks)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "accepted": self.accepted,
            "device": self.device,
            "target": self.target,
            "target_digest": self.target_digest,
            "board": dict(self.info),
            "checks": [c.to_json() for c in self.checks],
            "profile": self.profile,
            "versions": {p: importlib.metadata.version(p) for p in PACKAGES},
        }
