"""The profile store: every finished measurement, kept through kill -9 and shared by concurrent runs.

One SQLite file in WAL mode. A measurement is one transaction and synced (synchronous=FULL), so once
:meth:`Profile.add` has returned, neither a killed process nor a lost power supply takes it back. Waiting
on each other is SQLite's busy timeout.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from edgeprune.devices.conditions import Conditions
from edgeprune.errors import BusyError, ProfileError, ProfileMismatchError
from edgeprune.latency.jsonl import checked_conditions, write_jsonl
from edgeprune.latency.networks import NetworkRecord, check_network
from edgeprune.latency.records import Fingerprint, KernelRecord, canonical_json, check_record, difference, parse_json

SCHEMA_VERSION = 3
BUSY_TIMEOUT_S = 30.0

_SCHEMA = """
CREATE TABLE schema_version (version INTEGER NOT NULL);
CREATE TABLE profiles (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, target TEXT NOT NULL, fingerprint TEXT NOT NULL);
CREATE TABLE records (
    profile INTEGER NOT NULL REFERENCES profiles (id), spec_key TEXT NOT NULL, family TEXT NOT NULL,
    status TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (profile, spec_key));
"""
_UPGRADES = {
    1: """
CREATE TABLE networks (
    profile INTEGER NOT NULL REFERENCES profiles (id), key TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (profile, key));
""",
    2: """
CREATE TABLE conditions (
    profile INTEGER NOT NULL REFERENCES profiles (id), since TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (profile, since));
""",
}
"""What makes a store of each version one of the next; :data:`_SCHEMA` is that of the first."""

_UPSERT = """
INSERT INTO records (profile, spec_key, family, status, body) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (profile, spec_key) DO UPDATE SET status = excluded.status, body = excluded.body
WHERE """
# A failure today must not cost a figure measured yesterday.
_MEASURED = _UPSERT + "NOT (excluded.status = 'failed' AND records.status = 'ok')"
# Nor must a figure of somebody else's board.
_IMPORTED = _UPSERT + "excluded.status = 'ok' AND records.status = 'failed'"


@dataclass(frozen=True, slots=True)
class Imported:
    """What :meth:`ProfileStore.merge` did: how many records were ``added``, of how many the store ``kept`` its own."""

    profile: Profile
    added: int
    kept: int


class Profile:
    """The records of one fingerprint. Made by :class:`ProfileStore`.

    Attributes:
        fingerprint: what the records were measured with.
        mismatch: fields in which that differs from what was asked for (asked, stored); empty
            unless the mismatch was allowed. Such a profile is read-only.
    """

    def __init__(
        self,
        store: ProfileStore,
        row: int,
        fingerprint: Fingerprint,
        mismatch: dict[str, tuple[Any, Any]] | None = None,
    ) -> None:
        self._store = store
        self._row = row
        self.fingerprint = fingerprint
        self.mismatch = mismatch or {}

    def add(self, record: KernelRecord) -> bool:
        """Store a record for good before returning. One of the same spec is replaced, save that a
        failure does not replace a measurement (then the result is False).

        Raises:
            ProfileError: the record does not check, or the profile was opened despite a mismatch.
            BusyError: another run holds the store for too long.
        """
        self._require_own()
        check_record(record)
        with self._store.transaction() as connection:
            return _store(connection, self._row, [record], _MEASURED) == 1

    def _require_own(self) -> None:
        if self.mismatch:
            raise ProfileError(
                f"a profile of another {', '.join(self.mismatch)} takes no measurements of this one",
                hint="open the profile of this very fingerprint to measure",
            )

    def get(self, spec_key: str) -> KernelRecord | None:
        """The record of a spec (``KernelSpec.key``), or None."""
        rows = self._store.query("SELECT body FROM records WHERE profile = ? AND spec_key = ?", self._row, spec_key)
        return KernelRecord.from_json(parse_json(rows[0][0])) if rows else None

    def records(self, family: str | None = None) -> tuple[KernelRecord, ...]:
        """All records, or those of one family, in a stable order."""
        rows = self._store.query(
            "SELECT body FROM records WHERE profile = ? AND (? IS NULL OR family = ?) ORDER BY family, spec_key",
            self._row,
            family,
            family,
        )
        return tuple(KernelRecord.from_json(parse_json(body)) for (body,) in rows)

    def add_network(self, network: NetworkRecord) -> None:
        """Store the measurement of a whole network for good before returning; an earlier one of it is replaced.

        Raises:
            ProfileError, BusyError: as :meth:`add` does.
        """
        self._require_own()
        check_network(network)
        with self._store.transaction() as connection:
            _store_networks(connection, self._row, [network], "REPLACE")

    def networks(self) -> tuple[NetworkRecord, ...]:
        """All measurements of whole networks, in a stable order."""
        rows = self._store.query("SELECT body FROM networks WHERE profile = ? ORDER BY key", self._row)
        return tuple(NetworkRecord.from_json(parse_json(body)) for (body,) in rows)

    def add_conditions(self, seen: Conditions) -> None:
        """Store what a board showed while it measured, in place of what it had shown since the same moment.

        Raises:
            ProfileError, BusyError: as :meth:`add` does.
        """
        self._require_own()
        with self._store.transaction() as connection:
            _store_conditions(connection, self._row, [seen])

    def conditions(self) -> tuple[Conditions, ...]:
        """What boards showed while they measured, in the order of time."""
        rows = self._store.query("SELECT body FROM conditions WHERE profile = ? ORDER BY since", self._row)
        return tuple(checked_conditions(parse_json(body)) for (body,) in rows)

    def __len__(self) -> int:
        return int(self._store.query("SELECT count(*) FROM records WHERE profile = ?", self._row)[0][0])


class ProfileStore:
    """A file of profiles; a context manager. Use it in the thread that opened it.

    Raises:
        ProfileError: the file is no profile store, cannot be opened, or is of a newer version.
        BusyError: another run holds it for longer than the busy timeout.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._named_errors():
            self._connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None)
        try:
            self._check_version()
            with self._named_errors():
                self._use_wal(busy_timeout_s)
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.execute("PRAGMA foreign_keys = ON")
            with self.transaction() as connection:
                version = self._check_version()
                if version is None:
                    _execute(connection, _SCHEMA)
                    connection.execute("INSERT INTO schema_version VALUES (1)")
                for earlier in range(version or 1, SCHEMA_VERSION):
                    _execute(connection, _UPGRADES[earlier])
                connection.execute("UPDATE schema_version SET version = ?", (SCHEMA_VERSION,))
        except BaseException:
            self._connection.close()
            raise

    def profiles(self) -> tuple[Profile, ...]:
        """Every profile, oldest first."""
        rows = self.query("SELECT id, fingerprint FROM profiles ORDER BY id")
        return tuple(Profile(self, row, Fingerprint.from_json(parse_json(text))) for row, text in rows)

    def open_profile(self, fingerprint: Fingerprint, *, allow_mismatch: bool = False) -> Profile:
        """The profile of this fingerprint, created empty if there is none.

        With ``allow_mismatch`` the closest profile of the same target, read-only, is preferred to an empty one.
        """
        if allow_mismatch and any(p.fingerprint.target == fingerprint.target for p in self.profiles()):
            return self.find(fingerprint, allow_mismatch=True)
        with self.transaction() as connection:
            return Profile(self, _profile_row(connection, fingerprint), fingerprint)

    def find(self, fingerprint: Fingerprint, *, allow_mismatch: bool = False) -> Profile:
        """The stored profile of this fingerprint; with ``allow_mismatch``, else the closest of the same target.

        Raises:
            ProfileMismatchError: only other profiles of the target exist; details name every field in
                which the closest differs.
            ProfileError: there is no profile of the target.
        """
        same_target = [p for p in self.profiles() if p.fingerprint.target == fingerprint.target]
        if not same_target:
            known = sorted({p.fingerprint.target for p in self.profiles()})
            raise ProfileError(
                f"{self.path} holds no profile of target {fingerprint.target!r}",
                hint=f"run: edgeprune profile MODEL --target {fingerprint.target}",
                targets=known,
            )
        differing = [(difference(fingerprint, p.fingerprint), p) for p in same_target]
        fields, closest = min(differing, key=lambda pair: (len(pair[0]), -pair[1]._row))
        if fields and not allow_mismatch:
            lines = "; ".join(f"{name} is {here!r} here, {there!r} there" for name, (here, there) in fields.items())
            said, hint = (
                f"was measured elsewhere: {lines}",
                "name the device that it is of (--device URL), or profile this one",
            )
            if fields.keys() == {"weight_span"}:
                said = f"is of networks with other amounts of weights: {lines}"
                hint = f"profile this network: edgeprune profile MODEL --target {fingerprint.target}"
            raise ProfileMismatchError(
                f"the profile of {fingerprint.target!r} in {self.path} {said}",
                hint=f"{hint}; --allow-mismatch takes it as it is",
                differences={name: list(pair) for name, pair in fields.items()},
            )
        return Profile(self, closest._row, closest.fingerprint, fields)

    def export_jsonl(self, profile: Profile, path: Path) -> None:
        """Write a profile as sorted JSON lines, atomically; see :mod:`edgeprune.latency.jsonl`."""
        write_jsonl(path, profile.fingerprint, profile.records(), profile.networks(), profile.conditions())

    def merge(
        self,
        fingerprint: Fingerprint,
        records: Sequence[KernelRecord],
        networks: Sequence[NetworkRecord] = (),
        conditions: Sequence[Conditions] = (),
    ) -> Imported:
        """Add a profile that was measured elsewhere, all of it or nothing: a latency that is here already stays.

        Args:
            records: checked ones, as :func:`~edgeprune.latency.jsonl.read_jsonl` gives them.
        """
        with self.transaction() as connection:
            row = _profile_row(connection, fingerprint)
            added = _store(connection, row, records, _IMPORTED)
            _store_networks(connection, row, networks, "IGNORE")
            _store_conditions(connection, row, conditions)
        return Imported(Profile(self, row, fingerprint), added, len(records) - added)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; committed and synced when the block ends."""
        with self._named_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk makes SQLite roll back on its own.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def query(self, sql: str, *values: Any) -> list[Any]:
        with self._named_errors():
            return self._connection.execute(sql, values).fetchall()

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> ProfileStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _use_wal(self, patience_s: float) -> None:
        # Two runs that open a new store at once: the switch to WAL fails at once, without the busy timeout.
        deadline = time.monotonic() + patience_s
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as e:
                if not _is_busy(e) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _check_version(self) -> int | None:
        """The schema version, None for a new file. Reads only: a file that is refused stays as it is."""
        tables = {name for (name,) in self.query("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return None
        version = self.query("SELECT version FROM schema_version")[0][0] if "schema_version" in tables else None
        if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
            raise ProfileError(
                f"{self.path} has schema version {version}; this edgeprune reads versions up to {SCHEMA_VERSION}",
                hint="upgrade edgeprune, or use another profile store",
                version=version,
            )
        return version

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as e:
            if _is_busy(e):
                raise BusyError(
                    f"another run holds the profile store {self.path}",
                    hint="wait until it has finished, or use another store",
                ) from e
            raise ProfileError(
                f"the profile store {self.path} cannot be used: {e}",
                hint="give the path of a profile store on a disk with room that you may write to",
            ) from e


def _execute(connection: sqlite3.Connection, script: str) -> None:
    """Statements one by one: a script as a whole would end the transaction that it is in."""
    for statement in script.split(";\n"):
        connection.execute(statement)


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _profile_row(connection: sqlite3.Connection, fingerprint: Fingerprint) -> int:
    text = canonical_json(fingerprint.to_json())
    connection.execute(
        "INSERT INTO profiles (digest, target, fingerprint) VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING",
        (fingerprint.digest, fingerprint.target, text),
    )
    (row,) = connection.execute("SELECT id FROM profiles WHERE digest = ?", (fingerprint.digest,)).fetchone()
    return int(row)


def _store(connection: sqlite3.Connection, row: int, records: Iterable[KernelRecord], statement: str) -> int:
    stored = 0
    for r in records:
        values = (row, r.spec.key, r.spec.family, r.status, canonical_json(r.to_json()))
        stored += connection.execute(statement, values).rowcount
    return stored


def _store_networks(
    connection: sqlite3.Connection, row: int, networks: Iterable[NetworkRecord], otherwise: str
) -> None:
    """Args:
    otherwise: what becomes of a network that is there already, ``REPLACE`` or ``IGNORE``.
    """
    for n in networks:
        values = (row, n.key, canonical_json(n.to_json()))
        connection.execute(f"INSERT OR {otherwise} INTO networks (profile, key, body) VALUES (?, ?, ?)", values)


def _store_conditions(connection: sqlite3.Connection, row: int, conditions: Iterable[Conditions]) -> None:
    for seen in conditions:
        values = (row, seen.since, canonical_json(seen.to_json()))
        connection.execute("INSERT OR REPLACE INTO conditions (profile, since, body) VALUES (?, ?, ?)", values)
