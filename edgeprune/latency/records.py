"""Records: one measurement of one kernel each, and the fingerprint of where they were taken."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgeprune.errors import ProfileError
from edgeprune.graph.spec import KernelSpec

EVIDENCE = ("measured", "emulated", "simulated", "compiled")
"""From the strongest to the weakest."""
STATUS = ("ok", "failed")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Everything that must agree for a latency table to be used again.

    Attributes:
        target: name of the target, and ``target_hash`` the digest of what compiled code depends on.
        device: cpu model, machine, cores, features (stable over reboots).
        compiler: package name -> version (apache-tvm, ziglang, …).
        schedules: version of the schedule rules.
        threads: threads the kernels ran on.
        clock: "monotonic", "virtual" or "instructions", as in DeviceInfo.
        weight_span: bytes of weights that go through the caches between two calls of a kernel; that of
            the network that was profiled, rounded up to a power of two.
    """

    target: str
    target_hash: str
    device: Mapping[str, Any]
    compiler: Mapping[str, str]
    schedules: str
    threads: int
    clock: str = "monotonic"
    weight_span: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "target_hash": self.target_hash,
            "device": dict(self.device),
            "compiler": dict(self.compiler),
            "schedules": self.schedules,
            "threads": self.threads,
            "clock": self.clock,
            "weight_span": self.weight_span,
        }

    @classmethod
    def from_json(cls, data: Any) -> Fingerprint:
        """Raises ProfileError naming each field that is missing, unknown or of the wrong type."""
        return cls(**checked_fields(data, _FINGERPRINT_FIELDS, "fingerprint"))

    @property
    def digest(self) -> str:
        """Names the fingerprint (16 hex digits); equal digests mean equal fingerprints."""
        return hashlib.sha256(canonical_json(self.to_json()).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class KernelRecord:
    """The measurement of one kernel with one schedule on one device.

    ``status`` is "ok" or "failed" (then ``error`` says why and the figures are 0). Latencies are those at the clock at
    which the board's reference loop takes ``reference_ns``; 0 where it has none.
    """

    spec: KernelSpec
    schedule: Mapping[str, Any]
    status: str
    median_ns: float = 0.0
    spread_ns: float = 0.0  # interquartile range
    min_ns: float = 0.0
    samples: int = 0
    object_bytes: int = 0  # machine code and constants of the kernel, without weights
    weight_bytes: int = 0  # packed weights as stored
    evidence: str = "measured"
    error: str = ""
    # "drift": measured again, for the device's speed had changed; "tuned": its schedule was chosen among several
    flags: tuple[str, ...] = field(default=())
    reference_ns: float = 0.0

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    def at_clock(self, reference_ns: float) -> KernelRecord:
        """The same latencies at the clock at which the reference loop takes ``reference_ns``; unchanged if 0, or if
        nothing is known of the clock that they were measured at.
        """
        if not reference_ns or not self.reference_ns:
            return self
        by = reference_ns / self.reference_ns
        latencies = {name: getattr(self, name) * by for name in ("median_ns", "spread_ns", "min_ns")}
        return replace(self, reference_ns=reference_ns, **latencies)

    def to_json(self) -> dict[str, Any]:
        return {
            "spec": self.spec.to_json(),
            "schedule": dict(self.schedule),
            "status": self.status,
            "median_ns": float(self.median_ns),
            "spread_ns": float(self.spread_ns),
            "min_ns": float(self.min_ns),
            "samples": int(self.samples),
            "object_bytes": int(self.object_bytes),
            "weight_bytes": int(self.weight_bytes),
            "evidence": self.evidence,
            "error": self.error,
            "flags": list(self.flags),
            "reference_ns": float(self.reference_ns),
        }

    @classmethod
    def from_json(cls, data: Any) -> KernelRecord:
        """A checked record.

        Raises:
            ProfileError: a field is missing, unknown or of the wrong type, or :func:`check_record` refuses it.
        """
        if isinstance(data, dict):
            data = {**_ADDED, **data}
        fields = checked_fields(data, _RECORD_FIELDS, "record")
        record = cls(**{**fields, "spec": checked_spec(fields["spec"]), "flags": tuple(fields["flags"])})
        check_record(record)
        return record


_FINGERPRINT_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "target": str,
    "target_hash": str,
    "device": dict,
    "compiler": dict,
    "schedules": str,
    "threads": int,
    "clock": str,
    "weight_span": int,
}
_RECORD_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "spec": dict,
    "schedule": dict,
    "status": str,
    "median_ns": (int, float),
    "spread_ns": (int, float),
    "min_ns": (int, float),
    "samples": int,
    "object_bytes": int,
    "weight_bytes": int,
    "evidence": str,
    "error": str,
    "flags": list,
    "reference_ns": (int, float),
}
_ADDED: Mapping[str, Any] = {"reference_ns": 0.0}
"""Fields that records of earlier versions lack, and what these mean."""


def checked_spec(data: Any) -> KernelSpec:
    """The spec that JSON says; raises ProfileError where it says none, or more."""
    try:
        spec = KernelSpec.from_json(data)
        if spec.to_json() != data or not spec.widths or not spec.family:
            raise ValueError("it does not survive a round trip")
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as e:
        raise ProfileError(f"the record's kernel spec cannot be read: {e!r}") from e
    return spec


def check_record(record: KernelRecord) -> None:
    """Raises ProfileError, naming the kernel and every fault, for a record that cannot be a measurement."""
    if faults := list(_record_faults(record)):
        raise ProfileError(
            f"the record of {record.spec} cannot be used: {'; '.join(faults)}",
            hint="measure this kernel again",
            kernel=str(record.spec),
            spec_key=record.spec.key,
            faults=faults,
        )


def _record_faults(record: KernelRecord) -> Iterator[str]:
    if record.status not in STATUS:
        yield f"status {record.status!r} is none of {', '.join(STATUS)}"
    if record.evidence not in EVIDENCE:
        yield f"evidence {record.evidence!r} is none of {', '.join(EVIDENCE)}"
    for name in ("median_ns", "spread_ns", "min_ns", "samples", "object_bytes", "weight_bytes", "reference_ns"):
        value = getattr(record, name)
        if not 0 <= value < 2**63:
            yield f"{name} is {value}"
    if record.ok and record.median_ns == 0:
        yield "median_ns is 0"
    if record.ok and record.samples == 0:
        yield "it has no samples"
    if record.ok and not isinstance(record.schedule.get("rule"), str):
        yield "its schedule names no rule"
    if record.status == "failed" and not record.error:
        yield "it failed without saying why"
    if record.status == "failed" and record.median_ns != 0:
        yield "it failed and yet has a latency"
    try:
        canonical_json(record.schedule)
    except (TypeError, ValueError) as e:
        yield f"its schedule is no JSON: {e}"


def difference(a: Fingerprint, b: Fingerprint) -> dict[str, tuple[Any, Any]]:
    """Fields in which two fingerprints differ, ``"device.cpu"`` style; None where one lacks the field."""
    flat_a, flat_b = _flat(a), _flat(b)
    return {
        name: (flat_a.get(name), flat_b.get(name))
        for name in sorted(flat_a.keys() | flat_b.keys())
        if flat_a.get(name) != flat_b.get(name)
    }


def canonical_json(data: Any) -> str:
    """One text for one value: sorted, compact, and without NaN or infinity (ValueError)."""
    return json.dumps(_plain(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def parse_json(text: str) -> Any:
    """Strict JSON. Raises ProfileError for anything else, NaN and Infinity included."""

    def refuse(token: str) -> Any:
        raise ValueError(f"{token} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as e:
        raise ProfileError(f"not readable as JSON: {e}") from e


def _plain(data: Any) -> Any:
    return {k: _plain(v) for k, v in data.items()} if isinstance(data, Mapping) else data


def _flat(fingerprint: Fingerprint) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    # Through JSON, so that a tuple and the list it is stored as are equal.
    for name, value in json.loads(canonical_json(fingerprint.to_json())).items():
        if isinstance(value, dict):
            flat.update({f"{name}.{key}": inner for key, inner in value.items()})
        else:
            flat[name] = value
    return flat


def checked_fields(data: Any, types: Mapping[str, type | tuple[type, ...]], what: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ProfileError(f"a {what} is a JSON object, not {type(data).__name__}")
    faults = [f"{name} is missing" for name in types if name not in data]
    faults += [f"{name} is unknown" for name in data if name not in types]
    faults += [
        f"{name} is a {type(data[name]).__name__}"
        for name, kind in types.items()
        if name in data and (not isinstance(data[name], kind) or isinstance(data[name], bool))
    ]
    if faults:
        raise ProfileError(f"the {what} cannot be read: {'; '.join(faults)}", faults=faults)
    return data


def spread(samples: Sequence[float]) -> float:
    """Interquartile range."""
    if len(samples) < 2:
        return 0.0
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return high - low
