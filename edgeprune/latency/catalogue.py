"""Which profiles there are: in a store, and among those that edgeprune ships."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.errors import ProfileError
from edgeprune.latency.jsonl import ProfileFile, read_jsonl, write_jsonl
from edgeprune.latency.networks import NetworkRecord
from edgeprune.latency.records import EVIDENCE, Fingerprint, KernelRecord, difference
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
    def of(cls, profile: ProfileFile, file: Path | None = None) -> Summary:
        fingerprint, records, networks, _ = profile
        levels = {r.evidence for r in records}
        ok = sum(r.ok for r in records)
        seen = tuple(e for e in EVIDENCE if e in levels)
        return cls(fingerprint, ok, len(records) - ok, len(networks), seen, file)

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
        return [Summary.of(_all_of(p)) for p in store.profiles()]


def shipped_profiles() -> list[Summary]:
    """Profiles that edgeprune ships, by name of the file.

    Raises:
        ProfileError: one of them does not check.
    """
    return [Summary.of(read_jsonl(file), file) for file in _shipped()]


def shipped_files() -> list[ProfileFile]:
    """What is in them.

    Raises:
        ProfileError: one of them does not check.
    """
    return [read_jsonl(file) for file in _shipped()]


def _shipped() -> list[Path]:
    return sorted(data_folder("profiles").glob("*.jsonl"))


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
        return Summary.of(_all_of(profile), out)


def read_profile(path: Path, name: str) -> ProfileFile:
    """The one profile of a store whose fingerprint's digest begins with ``name``, or of a file of that name.

    Raises:
        ProfileError: there is no such profile, or several; or the file does not check.
    """
    if Path(name).suffix or Path(name).exists():
        return read_jsonl(Path(name))
    if not path.exists():
        raise ProfileError(
            f"there is no profile store {path}", hint="edgeprune profile MODEL makes one; or give --store, or a file"
        )
    with ProfileStore(path) as store:
        profile = _the_one(store, name)
        return _all_of(profile)


def merge_profiles(files: Sequence[Path], out: Path) -> tuple[Summary, int]:
    """Write several files of one fingerprint as one; what an earlier file says of a kernel or a network stands.

    Returns:
        What is written, and how many kernels with a latency were there more than once.

    Raises:
        ProfileError: a file does not check, is of another fingerprint, or ``out`` cannot be written.
    """
    found = [(file, read_jsonl(file)) for file in files]
    (first, (fingerprint, *_)), *others = found
    for file, (other, *_) in others:
        if fields := difference(fingerprint, other):
            raise ProfileError(
                f"{file} is no profile of what {first} is one of: they differ in {', '.join(fields)}",
                hint="merge profiles of one kind of board and one version; compare others: edgeprune profiles diff",
                differences={name: list(pair) for name, pair in fields.items()},
            )
    records, networks, twice = dict[str, KernelRecord](), dict[str, NetworkRecord](), 0
    seen = tuple({c.since: c for _, read in found for c in read.conditions}.values())
    for _, (_, more, whole, _) in found:
        for record in more:
            known = records.get(record.spec.key)
            twice += record.ok and known is not None and known.ok
            if known is None or (record.ok and not known.ok):
                records[record.spec.key] = record
        networks = {**{n.key: n for n in whole}, **networks}
    merged = ProfileFile(fingerprint, tuple(records.values()), tuple(networks.values()), seen)
    write_jsonl(out, *merged)
    return Summary.of(merged, out), twice


def import_profile(path: Path, file: Path) -> tuple[Summary, Imported]:
    """Add the profile in a file to a store: all of it, or nothing. A kernel that has a latency there keeps its own.

    Raises:
        ProfileError: the file does not check; no store is made then.
    """
    found = read_jsonl(file)
    with ProfileStore(path) as store:
        done = store.merge(*found)
        return Summary.of(_all_of(done.profile), file), done


def _all_of(profile: Profile) -> ProfileFile:
    return ProfileFile(profile.fingerprint, profile.records(), profile.networks(), profile.conditions())


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
