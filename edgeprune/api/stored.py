"""A profile that is there already, in a store or in a file: what it holds, and in what it differs from another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.amounts import written
from edgeprune.api.opened import Where
from edgeprune.api.profiles import conditions_tables, heat_map_of
from edgeprune.api.shown import Shown
from edgeprune.errors import TargetError, UsageError
from edgeprune.graph.spec import KernelSpec
from edgeprune.home import store_path
from edgeprune.latency.catalogue import Summary, read_profile
from edgeprune.latency.comparing import Difference, Family, Ratio, difference_of, families_of
from edgeprune.latency.jsonl import ProfileFile
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.tables import LatencyTable
from edgeprune.profiling.estimated import whole_table
from edgeprune.report.tables import Table, cell, facts_table
from edgeprune.targets import load_target

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, repr=False)
class StoredProfile(Shown):
    """A profile as it lies in a store or in a file; made by :func:`load_profile`."""

    profile: ProfileFile
    source: str

    @property
    def about(self) -> Summary:
        return Summary.of(self.profile)

    @property
    def summary(self) -> str:
        said = self.about
        cpu = said.fingerprint.device.get("cpu", "")
        return f"{said.kernels} kernels, {said.networks} networks on {cpu}, {', '.join(said.evidence)}"

    def families(self) -> tuple[Family, ...]:
        """What it holds of each kernel, those that take longest first."""
        return tuple(families_of(self.profile))

    def table(self, family: str) -> LatencyTable:
        """Latency over all the widths of a kernel that occur in the profile; those that nobody measured are estimated.

        Args:
            family: the beginning of its key, as :meth:`families` has it.

        Raises:
            UsageError: no kernel's key begins so, or several do. ProfileError: it failed at all widths.
        """
        specs = {s.family: s for s in self._specs() if s.family.startswith(family)}
        if len(specs) != 1:
            known = sorted({f.family for f in self.families()})
            raise UsageError(
                f"{len(specs) or 'no'} kernels have a key that begins with {family!r}",
                hint="edgeprune profiles show lists them",
                families=known,
            )
        (spec,) = specs.values()
        fingerprint, records, networks, _ = self.profile
        try:
            target = load_target(fingerprint.target)
        except TargetError:
            target = None
        if target is None or target.digest != fingerprint.target_hash:
            return LatencyModel(records).table(spec, estimate=True)  # nobody here knows what its kernels do
        return whole_table(records, target, networks, spec)

    def plot(self, family: str) -> Figure:
        """Latency of a kernel against its output width, a line for each of a few input widths."""
        from edgeprune.report.plots.profiles import draw_table

        return draw_table(self.table(family), self._title(family), cell(self.about.evidence))

    def heat_map(self, family: str) -> Figure:
        """Latency of a kernel over its input and output widths; raises UsageError for one with a single width."""
        return heat_map_of(self.table(family), self._title(family), cell(self.about.evidence))

    def difference(self, other: StoredProfile) -> ProfileDifference:
        """In what the other differs from this one."""
        return ProfileDifference(self.source, other.source, difference_of(self.profile, other.profile))

    def tables(self) -> tuple[Table, ...]:
        rows = tuple(
            (
                f.family,
                f.kernel,
                str(f.kernels),
                str(f.placed),
                str(f.failed),
                ", ".join(f"{axis} {low}…{high}" for axis, (low, high) in f.widths.items()),
                cell(None) if f.latency_ms is None else " … ".join(written(ms, "ms") for ms in f.latency_ms),
            )
            for f in self.families()
        )
        head = ("family", "widest kernel", "alone", "in networks", "failed", "widths", "latency")
        seen = conditions_tables(self.profile.conditions)
        return facts_table(self.about.to_json(), self.summary), *seen, Table("kernels", head, rows)

    def to_json(self) -> dict[str, Any]:
        return {
            **self.about.to_json(),
            "source": self.source,
            "families": [f.to_json() for f in self.families()],
            "conditions": [c.to_json() for c in self.profile.conditions],
        }

    def _specs(self) -> list[KernelSpec]:
        alone = [r.spec for r in self.profile.records]
        return [*alone, *(spec for network in self.profile.networks for spec in network.kernels)]

    def _title(self, family: str) -> str:
        named = next(f for f in self.families() if f.family.startswith(family) or family.startswith(f.family))
        return f"{named.kernel} on {self.profile.fingerprint.device.get('cpu', '')}"


@dataclass(frozen=True, slots=True, repr=False)
class ProfileDifference(Shown):
    """In what two profiles differ; ratios are of the second over the first."""

    first: str
    second: str
    found: Difference

    @property
    def summary(self) -> str:
        kernels = self.found.kernels
        said = "no kernel in common" if kernels is None else f"{kernels.count} kernels, {kernels.median:.3f} times"
        return f"{self.second} beside {self.first}: {said}"

    def tables(self) -> tuple[Table, ...]:
        found = self.found
        fields = tuple((name, cell(here), cell(there)) for name, (here, there) in found.fields.items())
        counts = facts_table(
            {
                "only in the first": found.only_first,
                "only in the second": found.only_second,
                "with another schedule": found.schedules,
            },
            self.summary,
        )
        whole = [ratio for ratio in (found.kernels, found.networks) if ratio is not None]
        ratios = tuple(map(_row, (*whole, *found.families)))
        tables = (
            counts,
            Table("fingerprints", ("field", "first", "second"), fields),
            Table("latency, second over first", ("kernel", "widths", "median", "from", "to"), ratios),
        )
        return tuple(t for t in tables if t.rows)

    def to_json(self) -> dict[str, Any]:
        return {"first": self.first, "second": self.second, **self.found.to_json()}


def _row(ratio: Ratio) -> tuple[str, ...]:
    return ratio.what, str(ratio.count), *(f"{x:.3f}" for x in (ratio.median, ratio.low, ratio.high))


def load_profile(name: str | Path, *, store: Where = None) -> StoredProfile:
    """A profile from a store or from a file; nothing is measured.

    Args:
        name: a file, or the beginning of a fingerprint as ``edgeprune profiles`` lists it.

    Raises:
        ProfileError: there is no such profile, or several; or the file does not check.
    """
    return StoredProfile(read_profile(store_path(store), str(name)), str(name))
