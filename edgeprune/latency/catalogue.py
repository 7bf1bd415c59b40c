"""Which profiles there are: in a store, and among those that edgeprune ships."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.errors import ProfileError
from edgeprune.latency.jsonl import read_jsonl
from edgeprune.latency.networks import NetworkRecord
from edgeprune.latency.records import EVIDENCE, Fingerprint, KernelRecord
from edgeprune.latency.store import Imported, Profile, ProfileStore
from edgeprune.targets import data_folder


@dataclass(frozen=True, slots=True)
class Summary:
    """One profile in a line.

    Attributes:
        kernels, failed: counts of records with a latency and without; ``networks``: of whole networks that were timed.
        evidence: every level that occurs among them, from the strongest to the weakest.
        file: where it lies; None for one in a store.
    """

    fingerprint: Fingerprint
    kernels: int
    failed: int
    networks: int
    evidence: tuple[str, ...]
    file: Path | None = None

    @classmethod
    def of(
        cls,
        fingerprint: Fingerprint,
        records: Iterable[KernelRecord],
        networks: Sequence[NetworkRecord],
        file: Path | None = None,
    ) -> Summary:
        found = tuple(records)
        levels = {r.evidence for r in found}
        ok = sum(r.ok for r in found)
        seen = tuple(e for e in EVIDENCE if e in levels)
        return cls(fingerprint, ok, len(found) - ok, len(networks), seen, file)

    @classmethod
    def of_stored(cls, profile: Profile, file: Path | None = None) -> Summary:
        return cls.of(profile.fingerprint, profile.records(), profile.networks(), file)

    def to_json(self) -> dict[str, Any]:
        fp = self.fingerprint
        return {
            "fingerprint": fp.digest,
            "target": fp.target,
            "cpu": str(fp.device.get("cpu", "")),
            "threads": fp.threads,
            "clock": fp.clock,
            "kernels": self.kernels,
            "failed": self.failed,
            "networks": self.networks,
            "evidence": list(self.evidence),
            "file": None if self.file is None else str(self.file),
        }


def stored_profiles(path: Path) -> list[Summary]:
    """Profiles of a store, oldest first; none if the file does not exist, and it is not made."""
    if not path.exists():
        return []
    with ProfileStore(path) as store:
        return [Summary.of_stored(p) for p in store.profiles()]


def shipped_profiles() -> list[Summary]:
    """Profiles that edgeprune ships, by name of the file.

    Raises:
        ProfileError: one of them does not check.
    """
    files = sorted(data_folder("profiles").glob("*.jsonl"))
    return [Summary.of(*read_jsonl(file), file) for file in files]


def export_profile(path: Path, digest: str, out: Path) -> Summary:
    """Write the one profile of a store whose fingerprint's digest begins with ``digest`` as JSON lines.

    Raises:
        ProfileError: there is no such store, or no such profile, or several; or ``out`` cannot be written.
    """
    if not path.exists():
        raise ProfileError(
            f"there is no profile store {path}", hint="edgeprune profile MODEL makes one; or give --store"
        )
    with ProfileStore(path) as store:
        profile = _the_one(store, digest)
        store.export_jsonl(profile, out)
        return Summary.of_stored(profile, out)


def import_profile(path: Path, file: Path) -> tuple[Summary, Imported]:
    """Add the profile in a file to a store: all of it, or nothing. A kernel that has a latency there keeps its own.

    Raises:
        ProfileError: the file does not check; no store is made then.
    """
    found = read_jsonl(file)
    with ProfileStore(path) as store:
        done = store.merge(*found)
        return Summary.of_stored(done.profile, file), done


def _the_one(store: ProfileStore, digest: str) -> Profile:
    profiles = store.profiles()
    found = [p for p in profiles if p.fingerprint.digest.startswith(digest)]
    if len(found) == 1:
        return found[0]
    known = [p.fingerprint.digest for p in found or profiles]
    count = f"{len(found)} profiles" if found else "no profile"
    raise ProfileError(
        f"{store.path} has {count} whose fingerprint begins with {digest!r}; there are: {', '.join(known) or 'none'}",
        hint="edgeprune profiles lists them",
        known=known,
    )
