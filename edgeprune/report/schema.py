"""The report: one JSON-serialisable object from which every table, plot and page is drawn.

Every figure that was obtained on or for a device carries its evidence level, with no default
(:class:`Figure`): a simulated latency can never pass for a measured one because somebody forgot a field. Counts
that are read off the network itself (MACs, parameters, widths, sparsity) are exact and carry none. A field stands
here once something fills it, and not before. The fields are documented in docs/REPORT.md.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from edgeprune.errors import BadInputError
from edgeprune.report.compressed import Compressed as Compressed
from edgeprune.report.explanation import Explanation as Explanation
from edgeprune.report.learned import Data as Data
from edgeprune.report.learned import Metric as Metric
from edgeprune.report.learned import Robustness as Robustness
from edgeprune.report.planned import Gone as Gone
from edgeprune.report.planned import Plan as Plan
from edgeprune.report.strict import Count as Count
from edgeprune.report.strict import Evidence as Evidence
from edgeprune.report.strict import Fraction as Fraction
from edgeprune.report.strict import Strict as _Strict
from edgeprune.report.tabled import KernelTable as KernelTable

SCHEMA = "edgeprune.report/2"

Amount = Annotated[float, Field(ge=0)]
BINS = 40
"""Bins of a histogram, at most: a picture as wide as a page shows no more."""


class Figure(_Strict):
    """A number with its unit and how it was obtained. There is no default for ``evidence``.

    ``predicted``: from a profile, which ``evidence`` is of. ``spread``: interquartile range over ``samples`` samples.
    """

    value: float
    unit: Literal["ms", "bytes", "fraction"]
    evidence: Evidence
    predicted: bool = False
    spread: Annotated[float, Field(ge=0)] | None = None
    samples: Count | None = None

    @property
    def label(self) -> str:
        """How it was obtained, in words: ``measured``, ``predicted (emulated)``."""
        return f"predicted ({self.evidence})" if self.predicted else self.evidence


class Prediction(Figure):
    """A figure computed from a profile."""

    predicted: Literal[True] = True


class Model(_Strict):
    """The network that was given. ``source``: file, or name in the built-in zoo."""

    name: str
    source: str
    inputs: tuple[tuple[int, ...], ...] = ()


class Target(_Strict):
    name: str
    title: str
    digest: str = ""


class Device(_Strict):
    """The device that the network ran on, as it describes itself, and the threads of the program."""

    url: str
    machine: str
    system: str
    cpu: str
    cores: Count
    ram_bytes: Count
    threads: Count
    features: tuple[str, ...] = ()
    libc: str = ""
    gpu: str = ""
    clock: str = "monotonic"
    evidence: Evidence

    @property
    def processor(self) -> str:
        """What the kernels ran on."""
        return self.gpu or self.cpu


class Budget(_Strict):
    """Limits that were asked for; null where there is none."""

    latency_ms: float | None = None
    flash_bytes: float | None = None
    ram_bytes: float | None = None


class Verdict(_Strict):
    """The outcome of one limit: a statistic with its confidence interval, and how it was judged.

    ``basis``: what the figures were taken against, in words; ``relative_to``: latency of the dense network, in ms,
    where the limit is a share of it. What is read off a program (``compiled``) is one point, of a ``confidence`` of 1.
    """

    outcome: Literal["kept", "broken", "not decidable"]
    resource: Literal["latency", "flash", "ram"]
    statistic: Annotated[str, Field(min_length=1)]
    value: Amount
    low: Amount
    high: Amount
    limit: Amount
    unit: Literal["ms", "bytes"]
    confidence: Fraction
    basis: str
    relative_to: Annotated[float, Field(gt=0)] | None = None
    turns: Count
    seconds: Amount
    evidence: Evidence

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"the interval of {self.resource} is from {self.low:g} to {self.high:g}")
        if self.unit != ("ms" if self.resource == "latency" else "bytes"):
            raise ValueError(f"{self.resource} is not a matter of {self.unit}")
        if self.relative_to is not None and self.resource != "latency":
            raise ValueError(f"relative_to is a latency, and {self.resource} is none")
        return self


class FleetBoard(_Strict):
    """Another board that the network was installed on: the verdicts there."""

    url: str
    verdicts: tuple[Verdict, ...]


class ClockState(_Strict):
    """One speed that the processor's clock was seen at, relative to the fastest, and the latency in it.

    ``share`` is of the time that was watched; ``median_ms`` of the network in this state.
    """

    slowdown: Annotated[float, Field(ge=1)]
    share: Fraction
    median_ms: Amount


class Distribution(_Strict):
    """The distribution of the latencies of single inferences of one network, in ms.

    ``histogram``: bins in ascending order, each with its upper edge and how many latencies lie above the edge
    before and not above its own; the first is as wide as the second, and one that is alone is a point.
    ``states``: what share of the time the clock was how fast; empty where that was not watched.
    """

    samples: Annotated[int, Field(ge=1)]
    median_ms: Amount
    p90_ms: Amount
    p99_ms: Amount
    worst_ms: Amount
    evidence: Evidence
    histogram: Annotated[tuple[tuple[Amount, Count], ...], Field(min_length=1, max_length=BINS)]
    states: tuple[ClockState, ...] = ()

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if (counted := sum(n for _, n in self.histogram)) != self.samples:
            raise ValueError(f"the histogram holds {counted} of {self.samples} latencies")
        uppers = [upper for upper, _ in self.histogram]
        if sorted(set(uppers)) != uppers:
            raise ValueError("the histogram's edges do not ascend")
        if not self.median_ms <= self.p90_ms <= self.p99_ms <= self.worst_ms:
            raise ValueError("median, p90, p99 and worst do not ascend")
        if sum(state.share for state in self.states) > 1 + 1e-6:
            raise ValueError("the clock's states take more than all of the time")
        return self

    @property
    def edges(self) -> tuple[float, ...]:
        """Edges of the bins, the lower one of the first included."""
        uppers = [upper for upper, _ in self.histogram]
        lowest = uppers[0] - (uppers[1] - uppers[0]) if len(uppers) > 1 else uppers[0]
        return (max(0.0, lowest), *uppers)


class Variant(_Strict):
    """One network on the board. A figure is null where it was not taken.

    ``accuracy`` is the share of right labels, ``metric`` whatever the task's metric is, that share included.
    """

    name: Literal["dense", "pruned", "uniform"]
    accuracy: Figure | None = None
    metric: Metric | None = None
    robustness: Robustness | None = None
    latency_ms: Figure | None = None
    distribution: Distribution | None = None
    flash_bytes: Figure | None = None
    peak_ram_bytes: Figure | None = None
    compressed: Compressed | None = None
    macs: Count
    parameters: Count
    sparsity: Fraction

    @property
    def worth(self) -> Figure | Metric | None:
        """The figure that networks are compared by."""
        return self.accuracy or self.metric


class Widths(_Strict):
    """Channels a kernel reads and writes; ``in`` is null for kernels with one width."""

    in_: Count | None = Field(default=None, alias="in")
    out: Count


class Layer(_Strict):
    """One kernel of the network. ``pruned_ms`` is null for a kernel that the plan removed."""

    node: str
    module: str = ""
    spec: str
    groups: tuple[str, ...] = ()
    before: Widths
    after: Widths
    dense_ms: Figure | None = None
    pruned_ms: Figure | None = None
    predicted_ms: Prediction | None = None


class Group(_Strict):
    """One width group: channels before, channels kept, and the reason why nothing could be removed, if any."""

    name: str
    size: Count
    kept: Count
    frozen: str = ""

    @model_validator(mode="after")
    def _kept_of_size(self) -> Self:
        if self.kept > self.size:
            raise ValueError(f"group {self.name} keeps {self.kept} of {self.size} channels")
        return self


class Round(_Strict):
    """One pass of verify and re-solve; ``correction`` is the factor applied to the latency model afterwards.

    ``expected_ms``: where the latency was to lie in 95 % of all cases, by what the profile did not know of it.
    ``interval_ms``: where it lies, given how much the measurements differ.
    """

    round: Annotated[int, Field(ge=1)]
    predicted_ms: Prediction
    expected_ms: tuple[Amount, Amount] | None = None
    measured_ms: Figure
    interval_ms: tuple[Amount, Amount] | None = None
    correction: Annotated[float, Field(gt=0)]
    accepted: bool

    @model_validator(mode="after")
    def _interval_ascends(self) -> Self:
        if any(found is not None and found[0] > found[1] for found in (self.expected_ms, self.interval_ms)):
            raise ValueError(f"the interval of round {self.round} does not ascend")
        return self


class Provenance(_Strict):
    """Enough to repeat the run. ``fingerprint`` is that of the profile; ``created`` is ISO 8601, UTC."""

    created: str
    command: tuple[str, ...]
    versions: dict[str, str]
    fingerprint: dict[str, Any] = Field(default_factory=dict)
    seed: int | None = None


_MET = {"kept": True, "broken": False, "not decidable": None}


class Report(_Strict):
    """What a run did and what it is worth. ``accuracy_name`` names the figure in ``Variant.accuracy`` or ``metric``.

    ``margin``: share of the latency limit that was kept free, for the noise that this device showed.
    """

    schema_: Literal["edgeprune.report/2"] = Field(default="edgeprune.report/2", alias="schema")
    model: Model
    target: Target
    device: Device
    budget: Budget
    verdicts: tuple[Verdict, ...] = ()
    fleet: tuple[FleetBoard, ...] = ()
    accuracy_name: str = "accuracy"
    data: Data | None = None
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]
    layers: tuple[Layer, ...] = ()
    tables: tuple[KernelTable, ...] = ()
    groups: tuple[Group, ...] = ()
    rounds: tuple[Round, ...] = ()
    margin: Fraction | None = None
    plan: Plan
    explanation: Explanation | None = None
    provenance: Provenance

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        named: dict[str, list[str]] = {
            "variant": [v.name for v in self.variants],
            "layer": [layer.node for layer in self.layers],
            "group": [g.name for g in self.groups],
            "verdict": [f"{v.resource} {v.statistic}" for v in self.verdicts],
        }
        for what, names in named.items():
            if twice := sorted(name for name, times in Counter(names).items() if times > 1):
                raise ValueError(f"{what} named twice: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _tables_of_layers(self) -> Self:
        if strange := {table.node for table in self.tables} - {layer.node for layer in self.layers}:
            raise ValueError(f"tables of kernels that are no layer: {', '.join(sorted(strange))}")
        return self

    def variant(self, name: str) -> Variant | None:
        return next((v for v in self.variants if v.name == name), None)

    @property
    def unjudged(self) -> list[tuple[str, float, Figure | None]]:
        """Limits that no verdict is about: resource, limit, and the pruned network's figure, if there is one."""
        pruned, judged = self.variant("pruned"), {verdict.resource for verdict in self.verdicts}
        limits: tuple[tuple[str, float | None, Figure | None], ...] = (
            ("latency", self.budget.latency_ms, None if pruned is None else pruned.latency_ms),
            ("flash", self.budget.flash_bytes, None if pruned is None else pruned.flash_bytes),
            ("ram", self.budget.ram_bytes, None if pruned is None else pruned.peak_ram_bytes),
        )
        return [(what, limit, f) for what, limit, f in limits if limit is not None and what not in judged]

    @property
    def met(self) -> bool | None:
        """Whether the pruned network keeps every limit; None while that is open.

        Verdicts decide. A limit that none of them is about is compared with the figure, which must be observed.
        """
        if self.variant("pruned") is None and not self.verdicts:
            return None
        others = [verdict for board in self.fleet for verdict in board.verdicts]
        outcomes = [_MET[verdict.outcome] for verdict in (*self.verdicts, *others)]
        outcomes += [None if f is None or f.predicted else f.value <= limit for _, limit, f in self.unjudged]
        if False in outcomes:
            return False
        return None if None in outcomes else True

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


def read_report(path: Path) -> Report:
    """Read and check ``report.json``.

    Raises:
        BadInputError: the file is missing, is not JSON, or does not check (names its fields).
    """
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as e:
        raise BadInputError(
            f"report {path} cannot be read: {e.strerror}", hint="give the folder of a run", file=str(path)
        ) from e
    except ValidationError as e:
        fields = {".".join(map(str, f["loc"])) or "(whole file)": f["msg"] for f in e.errors()}
        raise BadInputError(
            f"{path} is not a {SCHEMA} report: " + "; ".join(f"{k}: {v}" for k, v in fields.items()),
            hint="make it again with edgeprune fit",
            file=str(path),
            fields=fields,
        ) from e
