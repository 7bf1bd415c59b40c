"""profile: latency tables of a network's kernels on a device, to look at and to pass on."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.amounts import written
from edgeprune.api.arguments import Densities, Inputs, Model, Shape, open_model, open_target
from edgeprune.api.opened import Boards, Where, boards_of
from edgeprune.api.progress import reporting
from edgeprune.api.shown import Shown
from edgeprune.budget.effort import parse_seconds
from edgeprune.compiler.elsewhere import building_on
from edgeprune.devices.conditions import Conditions
from edgeprune.devices.protocol import DeviceInfo
from edgeprune.errors import UsageError
from edgeprune.fitting.densities import check_densities
from edgeprune.graph.network import Network, read_network
from edgeprune.home import store_path
from edgeprune.latency.densities import parse_densities
from edgeprune.latency.jsonl import write_jsonl
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.networks import NetworkRecord
from edgeprune.latency.records import Fingerprint, KernelRecord
from edgeprune.latency.store import ProfileStore
from edgeprune.latency.tables import LatencyTable
from edgeprune.profiling.estimated import whole_table
from edgeprune.profiling.farm import BoardShare
from edgeprune.profiling.profile import ProfileOptions, Sureness
from edgeprune.progress import Progress
from edgeprune.report.names import kernel_names
from edgeprune.report.tables import Table, cell
from edgeprune.sampling.sampled import profiled
from edgeprune.targets import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class ProfiledLayer:
    """One kernel of a profiled network: ``latency_ms`` at its full widths; None if it failed on the device."""

    name: str
    node: str
    spec: str
    widths: dict[str, int]
    latency_ms: float | None


@dataclass(frozen=True, slots=True, repr=False)
class Profile(Shown):
    """Latency tables of one network on one device.

    Attributes:
        model, target, device, info: what was measured where; ``info`` is what the device says of itself.
        records: every kernel at every width, as it is stored; ``fingerprint`` says what they are valid for.
        measured, reused, drifted: kernels measured now, taken from the store, and measured again for the device's speed
            had changed; ``failed`` are those that did not run.
        store: the file that keeps the profile.
        networks: whole ones that were timed.
        conditions: what boards showed of clock and heat, now and in earlier runs.
        placed: kernels that were timed now in their places in whole networks.
        timings: kernels that were timed now, each with each of its schedules, and ``placed`` ones.
        sureness: of a sampled profile: how sure plans of some budgets are of it.
        boards: what each board had to do with it, how quick it is, and why it was dropped if it was.
    """

    model: str
    target: Target
    device: str
    info: DeviceInfo
    network: Network
    records: tuple[KernelRecord, ...]
    fingerprint: Fingerprint
    measured: int
    reused: int
    drifted: int
    failed: tuple[KernelRecord, ...]
    store: Path
    networks: tuple[NetworkRecord, ...] = ()
    conditions: tuple[Conditions, ...] = ()
    placed: int = 0
    timings: int = 0
    sureness: tuple[Sureness, ...] = ()
    boards: tuple[BoardShare, ...] = ()

    @property
    def summary(self) -> str:
        return f"{len(self.records)} kernels of {self.model} on {self.board}, {self.evidence}"

    @property
    def board(self) -> str:
        gpu = self.info.gpu
        return gpu.name if self.target.cuda and gpu else self.info.cpu

    @property
    def evidence(self) -> str:
        """What the figures are worth: the weakest level among the records, which may come from elsewhere."""
        return LatencyModel(self.records).evidence

    def layers(self) -> tuple[ProfiledLayer, ...]:
        """The kernels of the network, in the order in which they run."""
        nodes, model = self.network.kernels.nodes, LatencyModel(self.records)
        names = kernel_names([_Named(n.name, n.module, str(n.spec)) for n in nodes])
        found = []
        for name, node in zip(names, nodes, strict=True):
            record = model.record(node.spec)
            ms = record.median_ns / 1e6 if record is not None and record.ok else None
            found.append(ProfiledLayer(name, node.name, str(node.spec), dict(node.spec.widths), ms))
        return tuple(found)

    def table(self, layer: str | ProfiledLayer) -> LatencyTable:
        """Latency over the widths of a layer: one of :meth:`layers`, its name or its node.

        Raises:
            UsageError: there is no such layer. ProfileError: the profile does not cover it.
        """
        layer = layer if isinstance(layer, str) else layer.name
        for found, node in zip(self.layers(), self.network.kernels.nodes, strict=True):
            if layer in (found.name, found.node):
                return whole_table(self.records, self.target, self.networks, node.spec)
        names = [x.name for x in self.layers()]
        near = get_close_matches(layer, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"these exist: {', '.join(names)}"
        raise UsageError(f"there is no layer {layer!r}", hint=hint, layers=names)

    def plot(self, layer: str) -> Figure:
        """Latency of a layer against its output width, a line for each of a few input widths."""
        from edgeprune.report.plots.profiles import draw_table

        return draw_table(self.table(layer), f"{layer} of {self.model} on {self.board}", self.evidence)

    def heat_map(self, layer: str) -> Figure:
        """Latency of a layer over its input and output widths.

        Raises:
            UsageError: there is no such layer, or it has one width alone.
        """
        return heat_map_of(self.table(layer), f"{layer} of {self.model} on {self.board}", self.evidence)

    def export(self, path: Where) -> Path:
        """Write the profile as JSON lines, which ``edgeprune profiles import`` takes in elsewhere."""
        file = Path(path or f"{self.model}-{self.target.name}.jsonl")
        write_jsonl(file, self.fingerprint, self.records, self.networks, self.conditions)
        return file

    def tables(self) -> tuple[Table, ...]:
        rows = [
            (x.name, x.spec, cell(x.widths), "failed" if x.latency_ms is None else written(x.latency_ms, "ms"))
            for x in self.layers()
        ]
        layers = Table(self.summary, ("layer", "kernel", "widths", "latency"), tuple(rows))
        found = [layers]
        if self.sureness:
            sure = tuple((f"{s.share:.0%}", f"{s.spread:.1%}", f"{s.worth:.2%}") for s in self.sureness)
            head = ("of the dense latency", "latency known within", "another plan may retain more by")
            found.append(Table("plans, by what was sampled", head, sure))
        if len(self.boards) > 1:
            shares = tuple(
                (b.url, "" if b.slowness is None else f"{b.slowness:.1%}", str(b.timed), b.lost) for b in self.boards
            )
            lead = next(b.url for b in self.boards if b.leads)
            found.append(Table("boards", ("board", f"latency, of {lead}", "timings", "dropped"), shares))
        seen = [board.conditions for board in self.boards if board.conditions is not None]
        return (*found, *conditions_tables(seen))

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "target": self.target.name,
            "device": self.device,
            "board": self.board,
            "evidence": self.info.evidence,
            "kernels_measured": self.measured,
            "kernels_reused": self.reused,
            "kernels_drifted": self.drifted,
            "kernels_placed": self.placed,
            "timings": self.timings,
            "networks": len(self.networks),
            "sureness": [s.to_json() for s in self.sureness],
            "boards": [b.to_json() for b in self.boards],
            "kernels_failed": [{"kernel": str(r.spec), "error": r.error} for r in self.failed],
            "store": self.store,
            "fingerprint": self.fingerprint.digest,
        }


def profile(
    model: Model,
    *,
    target: str | Target = "host",
    device: Boards = None,
    fleet: bool = False,
    example_inputs: Inputs = None,
    weights: Where = None,
    input_shape: Shape = None,
    example: Where = None,
    seed: int = 0,
    threads: int = 1,
    points: int = 8,
    step: int | None = None,
    blocks: bool = False,
    densities: Densities = None,
    tune: int = 8,
    sampled: bool | None = None,
    budget: str | float | None = None,
    store: Where = None,
    build_on: str | Executor | None = None,
    allow_mismatch: bool = False,
    progress: bool | Progress | None = None,
) -> Profile:
    """Latency tables of a network's kernels, measured on a device over the widths that pruning can choose.

    What was measured before is taken from the store, so an interrupted profile goes on where it stopped. Several
    devices of one kind share the work; figures are of the first, or with ``fleet`` of the slowest. Arguments and
    results are described in docs/API.md.

    Raises:
        UsageError, ModelLoadError, TargetError: what was asked for makes no sense.
        BusyError, DeviceError: store or device failed; what was measured is kept.
    """
    if budget is not None and sampled is False:
        raise UsageError("a budget of time is for sampled profiles", hint="leave --exhaustive or --budget away")
    seconds = None if budget is None else parse_seconds(budget)
    loaded, _ = open_model(model, example_inputs, weights, input_shape, example, seed)
    network = read_network(loaded.module, loaded.example_inputs, loaded.interface)
    kind, path = open_target(target), store_path(store)
    offered = parse_densities(densities)
    check_densities(offered, kind)
    options = ProfileOptions(
        threads=threads,
        points=points,
        step=step,
        tune=tune,
        blocks=blocks,
        densities=offered,
        sampled=True if budget is not None else sampled,
        seconds=seconds,
        fleet=fleet,
    )
    with (
        boards_of(device, kind) as boards,
        ProfileStore(path) as opened,
        reporting(progress) as bar,
        building_on(build_on),
    ):
        first, *others = boards
        info = first.describe()
        made = profiled(
            network,
            kind,
            first,
            opened,
            options,
            info=info,
            others=others,
            allow_mismatch=allow_mismatch,
            progress=bar,
        )
        return Profile(
            model=loaded.name,
            target=kind,
            device=next(b.url for b in made.boards if b.leads),
            info=info,
            network=network,
            records=made.profile.records(),
            networks=made.profile.networks(),
            conditions=made.profile.conditions(),
            fingerprint=made.profile.fingerprint,
            measured=made.measured,
            reused=made.reused,
            drifted=made.drifted,
            failed=made.failed,
            placed=made.placed,
            timings=made.timings,
            sureness=made.sureness,
            boards=made.boards,
            store=path,
        )


def conditions_tables(conditions: Sequence[Conditions]) -> tuple[Table, ...]:
    """What boards showed while they measured; no table where none showed anything."""
    rows = tuple(
        (
            c.since[:16].replace("T", " "),
            ", ".join(c.governors),
            _span(c.clock_mhz, "MHz"),
            _span(c.temperature_c, "\u00b0C"),
            {True: "yes", False: "no", None: ""}[c.throttled],
        )
        for c in conditions
    )
    head = ("measured (UTC)", "governor", "clock", "temperature", "held back")
    return (Table("clock and heat of the board", head, rows),) if rows else ()


def _span(ends: tuple[float, float] | None, unit: str) -> str:
    if ends is None:
        return ""
    low, high = (f"{x:.0f}" for x in ends)
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"


def heat_map_of(table: LatencyTable, title: str, evidence: str) -> Figure:
    """A table over input and output widths as a picture.

    Raises:
        UsageError: it has one width alone.
    """
    from edgeprune.report.plots.profiles import draw_heat_map

    if len(table.axes) != 2:
        raise UsageError(f"{title} has one width alone, which a heat map cannot show", hint="draw it as a plot")
    return draw_heat_map(table, title, evidence)


@dataclass(frozen=True, slots=True)
class _Named:
    node: str
    module: str
    spec: str
