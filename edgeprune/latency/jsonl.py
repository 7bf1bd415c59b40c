"""A profile as sorted JSON lines, for sharing: a header with the fingerprint, then one record a line, of kernels first,
then of whole networks, then of the conditions that boards showed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from edgeprune.devices.conditions import Conditions
from edgeprune.errors import ProfileError
from edgeprune.files import write_whole
from edgeprune.latency.networks import NetworkRecord, check_network
from edgeprune.latency.records import Fingerprint, KernelRecord, canonical_json, check_record, parse_json

SCHEMA = "edgeprune.profile-file/4"
READABLE = (*(f"edgeprune.profile-file/{n}" for n in (1, 2, 3)), SCHEMA)
"""Records of the first know nothing of the clock that they were measured at; the second has no whole networks, the
third no conditions.
"""


def write_jsonl(
    path: Path,
    fingerprint: Fingerprint,
    records: Iterable[KernelRecord],
    networks: Iterable[NetworkRecord] = (),
    conditions: Iterable[Conditions] = (),
) -> None:
    """Write a profile. The file appears whole or not at all, and equal profiles give equal files.

    Raises:
        ProfileError: a record does not check, or the file cannot be written; nothing is.
    """
    checked = list(records)
    for record in checked:
        check_record(record)
    checked.sort(key=lambda r: (r.spec.op, r.spec.family, tuple(r.spec.widths.values()), r.spec.key))
    header = {"schema": SCHEMA, "fingerprint": fingerprint.to_json()}
    whole = sorted(networks, key=lambda n: n.key)
    for network in whole:
        check_network(network)
    said = [header, *(r.to_json() for r in checked), *(n.to_json() for n in whole)]
    said += [c.to_json() for c in sorted(conditions, key=lambda c: c.since)]
    lines = [canonical_json(line) for line in said]
    try:
        write_whole(path, "".join(line + "\n" for line in lines))
    except OSError as e:
        raise ProfileError(
            f"{path} cannot be written: {e}", hint="give a file in a folder that you may write to"
        ) from e


class ProfileFile(NamedTuple):
    """What a file holds."""

    fingerprint: Fingerprint
    records: tuple[KernelRecord, ...]
    networks: tuple[NetworkRecord, ...] = ()
    conditions: tuple[Conditions, ...] = ()


def read_jsonl(path: Path) -> ProfileFile:
    """Read a profile, all of it or none.

    Raises:
        ProfileError: the file cannot be read, or lines of it are refused; details list every bad line.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as e:
        raise ProfileError(f"{path} cannot be read: {e}", hint="give a profile that edgeprune exported") from e
    if not lines.pop() == "":
        raise ProfileError(f"{path} breaks off in its last line", hint="copy or export it again", line=len(lines) + 1)
    if not lines:
        raise ProfileError(f"{path} is empty", hint="copy or export it again", line=1)
    fingerprint = _read_header(path, lines[0])
    records: dict[str, KernelRecord] = {}
    networks: dict[str, NetworkRecord] = {}
    conditions: list[Conditions] = []
    faults: list[str] = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            said = parse_json(line)
            if isinstance(said, dict) and "network" in said:
                network = NetworkRecord.from_json(said)
                if network.key in networks:
                    raise ProfileError(f"a network of {len(network.kernels)} kernels is there twice")
                networks[network.key] = network
                continue
            if isinstance(said, dict) and "since" in said:
                conditions.append(checked_conditions(said))
                continue
            record = KernelRecord.from_json(said)
            if record.spec.key in records:
                raise ProfileError(f"{record.spec} is there twice")
        except ProfileError as e:
            faults.append(f"line {number}: {e.message}")
        else:
            records[record.spec.key] = record
    if faults:
        more = f" … and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ProfileError(
            f"{path} is refused: {'; '.join(faults[:5])}{more}",
            hint="measure these kernels again and export the profile anew",
            faults=faults,
        )
    return ProfileFile(fingerprint, tuple(records.values()), tuple(networks.values()), tuple(conditions))


def checked_conditions(data: Any) -> Conditions:
    """The conditions that JSON says; raises ProfileError where it says none."""
    try:
        return Conditions.from_json(data)
    except ValueError as e:
        raise ProfileError(f"the conditions of a board cannot be read: {e}") from e


def _read_header(path: Path, line: str) -> Fingerprint:
    try:
        header = parse_json(line)
        if not isinstance(header, dict) or header.get("schema") not in READABLE:
            raise ProfileError(f"it is not a header of {SCHEMA}")
        return Fingerprint.from_json(header.get("fingerprint"))
    except ProfileError as e:
        raise ProfileError(
            f"{path}, line 1: {e.message}", hint="give a profile that this version of edgeprune exported", line=1
        ) from e
