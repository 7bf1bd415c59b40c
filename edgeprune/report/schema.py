"""The report: one JSON-serialisable object from which every table, plot and page is drawn.

Every figure that was obtained on or for a device says how (:class:`Figure`, DESIGN decision 8).
Counts that are read off the network itself (MACs, parameters, widths, sparsity) are exact and
carry no evidence level. The fields are documented in docs/REPORT.md.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgeprune.errors import BadInputError

SCHEMA = "edgeprune.report/1"

Evidence = Literal["measured", "emulated", "simulated", "compiled"]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Figure(_Strict):
    """A number with its unit and how it was obtained. There is no default for ``evidence``.

    ``predicted``: computed from a profile, not observed; ``evidence`` is then the profile's.
    ``spread`` is an interquartile range in the unit of the value, over ``samples`` samples.
    ``where``: on the device, or on the computer that edgeprune ran on (accuracy in torch).
    """

    value: float
    unit: Literal["ms", "bytes", "fraction", "perplexity", "distance", "score"]
    evidence: Evidence
    predicted: bool = False
    spread: Annotated[float, Field(ge=0)] | None = None
    samples: Count | None = None
    where: Literal["device", "host"] = "device"

    @property
    def label(self) -> str:
        """How it was obtained, in words: ``measured``, ``predicted (emulated)``, ``measured on host``."""
        words = f"predicted ({self.evidence})" if self.predicted else self.evidence
        return words + (" on host" if self.where == "host" else "")


class Prediction(Figure):
    """A figure computed from a profile."""

    predicted: Literal[True] = True


class Model(_Strict):
    """The network that was given. ``source``: file or zoo name; ``sha256`` of the file, empty for the zoo."""

    name: str
    source: str
    sha256: str = ""
    inputs: tuple[tuple[int, ...], ...] = ()


class Target(_Strict):
    name: str
    title: str
    digest: str = ""


class Device(_Strict):
    """Where it ran: what the device said of itself, and how many threads the program had."""

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


class Variant(_Strict):
    """One network on the board. A figure is null where it was not taken; ``robustness`` names the disturbance."""

    name: Literal["dense", "pruned", "uniform"]
    accuracy: Figure | None = None
    robustness: dict[str, Figure] = {}
    latency_ms: Figure | None = None
    flash_bytes: Figure | None = None
    peak_ram_bytes: Figure | None = None
    macs: Count
    parameters: Count
    sparsity: Fraction


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
    """One pass of verify and re-solve; ``correction`` is the factor applied to the latency model afterwards."""

    round: Annotated[int, Field(ge=1)]
    predicted_ms: Prediction
    measured_ms: Figure
    correction: Annotated[float, Field(gt=0)]
    accepted: bool


class Plan(_Strict):
    """How widths were chosen, and what is proven about the choice (empty where nothing is).

    ``removed_blocks`` went whole; their groups keep nothing.
    """

    method: dict[str, Any]
    certificate: dict[str, Any] = {}
    saliency_retained: Fraction | None = None
    removed_blocks: tuple[str, ...] = ()


class Provenance(_Strict):
    """Enough to repeat the run. ``fingerprint`` is that of the profile; ``created`` is ISO 8601, UTC."""

    created: str
    command: tuple[str, ...]
    versions: dict[str, str]
    fingerprint: dict[str, Any] = {}
    seed: int | None = None


class Report(_Strict):
    """What a run did and what it is worth. ``accuracy_name`` names the figure in ``Variant.accuracy``."""

    schema_: Literal["edgeprune.report/1"] = Field(default="edgeprune.report/1", alias="schema")
    model: Model
    target: Target
    device: Device
    budget: Budget
    accuracy_name: str = "accuracy"
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]
    layers: tuple[Layer, ...] = ()
    groups: tuple[Group, ...] = ()
    rounds: tuple[Round, ...] = ()
    plan: Plan
    provenance: Provenance

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        named: dict[str, list[str]] = {
            "variant": [v.name for v in self.variants],
            "layer": [layer.node for layer in self.layers],
            "group": [g.name for g in self.groups],
        }
        for what, names in named.items():
            twice = sorted(name for name, times in Counter(names).items() if times > 1)
            if twice:
                raise ValueError(f"{what} named twice: {', '.join(twice)}")
        return self

    def variant(self, name: str) -> Variant | None:
        return next((v for v in self.variants if v.name == name), None)

    @property
    def met(self) -> bool | None:
        """Whether the pruned network keeps every limit; None while a figure that decides it is missing."""
        pruned = self.variant("pruned")
        if pruned is None:
            return None
        verdicts = [
            None if figure is None or figure.predicted else figure.value <= limit
            for limit, figure in (
                (self.budget.latency_ms, pruned.latency_ms),
                (self.budget.flash_bytes, pruned.flash_bytes),
                (self.budget.ram_bytes, pruned.peak_ram_bytes),
            )
            if limit is not None
        ]
        if False in verdicts:
            return False
        return None if None in verdicts else True

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
