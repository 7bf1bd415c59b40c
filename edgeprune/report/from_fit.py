"""The report of a fit: every figure with how it was obtained."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeprune.budget.explain import Explainer
from edgeprune.budget.explanation import next_to_keep
from edgeprune.budget.verdict import Verdict as FoundVerdict
from edgeprune.deploy.timing import Timing
from edgeprune.fitting.result import FitResult, VariantResult, correction
from edgeprune.graph.channels import KernelNode
from edgeprune.graph.network import Network
from edgeprune.latency.records import spread
from edgeprune.latency.tables import LatencyTable
from edgeprune.pruning.measures import sparsity
from edgeprune.report.distribution import distribution_of
from edgeprune.report.learned import TORCH, Noise, Robustness
from edgeprune.report.schema import (
    Budget,
    ClockState,
    Compressed,
    Data,
    Device,
    Explanation,
    Figure,
    FleetBoard,
    Gone,
    Group,
    KernelTable,
    Layer,
    Metric,
    Model,
    Plan,
    Prediction,
    Provenance,
    Report,
    Round,
    Target,
    Variant,
    Verdict,
    Widths,
)
from edgeprune.training.robustness import Robustness as FoundRobustness

NEAREST = 5
"""Groups whose next level the report tells of."""
PACKAGES = ("edgeprune", "torch", "apache-tvm", "apache-tvm-ffi", "ziglang", "numpy", "scipy")


def report_of(result: FitResult, command: Sequence[str] = ()) -> Report:
    """Draw up the report of a finished fit."""
    variants = [v for v in (result.dense, result.pruned, result.uniform) if v is not None]
    return Report(
        model=Model(
            name=result.model_name,
            source=result.model_source,
            inputs=tuple(p.shape for p in result.dense.network.kernels.inputs),
        ),
        target=Target(name=result.target.name, title=result.target.title, digest=result.target.digest),
        device=Device(
            url=result.device_url,
            machine=result.info.machine,
            system=result.info.system,
            cpu=result.info.cpu,
            cores=result.info.cores,
            ram_bytes=result.info.ram_bytes,
            threads=result.threads,
            features=result.info.features,
            libc=result.info.libc,
            gpu=f"{gpu.name} ({gpu.arch})" if result.target.cuda and (gpu := result.info.gpu) else "",
            clock=result.info.clock,
            evidence=result.evidence,  # type: ignore[arg-type]
        ),
        budget=Budget(**result.budget.to_json()),
        verdicts=tuple(map(_verdict, result.verdicts)),
        fleet=tuple(FleetBoard(url=m.url, verdicts=tuple(map(_verdict, m.deployment.verdicts))) for m in result.fleet),
        margin=result.margin if result.budget.latency_ms is not None else None,
        accuracy_name="accuracy" if result.task is None else result.task.metric.name,
        data=_data(result),
        variants=tuple(_variant(v, result.dense.network, result.robustness.get(v.name)) for v in variants),
        layers=tuple(_layers(result)),
        tables=tuple(_table(node, table, result.evidence) for node, table in result.tables.items()),
        groups=tuple(
            Group(name=g.name, size=g.size, kept=result.plan.width(g.name), frozen=g.frozen)
            for g in result.dense.network.channels.groups
        ),
        rounds=tuple(
            Round(
                round=r.number,
                predicted_ms=_predicted(r.proposal.latency_ms, result.evidence),
                expected_ms=r.proposal.plan.predicted.get("latency_interval_ms"),
                measured_ms=_latency(r.measured.judgement.timing, r.measured.judgement.latency_ms),
                interval_ms=_interval(r.measured.judgement.of("latency")),
                correction=correction(r),
                accepted=r.judged.kept,
            )
            for r in result.rounds
        ),
        plan=Plan(
            method=dict(result.plan.method),
            certificate=dict(result.plan.certificate),
            saliency_retained=result.plan.predicted.get("saliency_retained"),
            dropped={g: {str(w): why for w, why in found.items()} for g, found in result.dropped.items()},
            removed_blocks=tuple(b.name for b in result.dense.network.channels.removed(result.plan.empty)),
            densities=dict(result.plan.densities),
            sparsity=_gone(result),
        ),
        explanation=_explanation(result),
        provenance=Provenance(
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            command=tuple(command),
            versions={p: importlib.metadata.version(p) for p in PACKAGES},
            fingerprint=dict(result.fingerprint),
            seed=result.seed,
        ),
    )


def _gone(result: FitResult) -> Gone:
    found = sparsity(result.dense.network, result.pruned.network, result.plan)
    # Sums of floats in other orders may leave less than nothing.
    shares = {name: min(1.0, max(0.0, share)) for name, share in found.shares().items()}
    return Gone(weights=found.absolute, **shares)


def _explanation(result: FitResult) -> Explanation | None:
    if result.solved is None:
        return None
    said = Explainer(result.solved).overview()
    return Explanation(
        evidence=result.plan.predicted["evidence"],
        saliency=said.saliency,
        bound=said.bound,
        certified=said.certified,
        limits=said.limits,
        nearest=tuple(group for group, _ in next_to_keep(said.groups)[:NEAREST]),
        made_smaller=sum(name.startswith("tighter ") for name in result.history),
    )


def _data(result: FitResult) -> Data | None:
    data, task = result.data, result.task
    if data is None or task is None:
        return None
    return Data(name=data.name, task=task.name, train=data.train.size, test=data.test.size, images=data.images)


def _variant(variant: VariantResult, dense: Network, robust: FoundRobustness | None) -> Variant:
    evidence = variant.timing.evidence
    parameters, compressed = _parameters(variant.network), variant.manifest.compressed_json()
    accuracy, metric = variant.accuracy, variant.metric
    return Variant(
        name=variant.name,  # type: ignore[arg-type]
        accuracy=None if accuracy is None else Figure(value=accuracy, unit="fraction", evidence=_ran(evidence)),
        metric=None if metric is None else Metric(**metric.to_json(), evidence=_ran(evidence)),
        latency_ms=_latency(variant.timing, variant.latency_ms),
        robustness=None if robust is None else _robustness(robust, evidence),
        distribution=distribution_of(
            variant.timing.samples_ms,
            evidence,  # type: ignore[arg-type]
            [ClockState(slowdown=s.slowdown, share=s.share, median_ms=s.latency_ms) for s in variant.timing.states],
        ),
        # Sizes are read off the linked program; nothing has to run for them.
        flash_bytes=Figure(value=variant.manifest.memory.flash, unit="bytes", evidence="compiled"),
        peak_ram_bytes=Figure(value=variant.manifest.memory.peak_ram, unit="bytes", evidence="compiled"),
        compressed=None if compressed is None else Compressed(**compressed),
        macs=sum(n.spec.macs for n in variant.network.kernels.nodes),
        parameters=parameters,
        sparsity=max(0.0, 1 - parameters / _parameters(dense)),
    )


def _robustness(found: FoundRobustness, evidence: str) -> Robustness:
    return Robustness(
        metric=found.test.name,
        unit=found.test.unit,
        higher_is_better=found.test.higher_is_better,
        evidence=_ran(evidence) if found.on_device else TORCH,
        samples=found.test.samples,
        test=found.test.value,
        train=None if found.train is None else found.train.value,
        gap=found.gap,
        noise=tuple(Noise(strength=n.strength, value=n.score.value) for n in found.noise),
    )


def _ran(evidence: str) -> Any:
    """Outputs come from the real program even where its clock is virtual."""
    return "measured" if evidence == "simulated" else evidence


def _parameters(network: Network) -> int:
    return sum(p.numel() for p in network.module.parameters())


def _latency(timing: Timing, latency_ms: float) -> Figure:
    samples = timing.samples_ms
    return Figure(
        value=latency_ms,
        unit="ms",
        evidence=timing.evidence,  # type: ignore[arg-type]
        spread=spread(samples),
        samples=len(samples),
    )


def _verdict(found: FoundVerdict) -> Verdict:
    said = found.to_json()
    del said["states"]  # of the clock: with the distribution of the network that was timed
    return Verdict.model_validate(said)


def _interval(verdict: FoundVerdict | None) -> tuple[float, float] | None:
    # A bound that is not known yet is no number that JSON has.
    return None if verdict is None or not math.isfinite(verdict.high - verdict.low) else (verdict.low, verdict.high)


def _predicted(ms: float, evidence: str) -> Prediction:
    return Prediction(value=ms, unit="ms", evidence=evidence)  # type: ignore[arg-type]


def _layers(result: FitResult) -> list[Layer]:
    after: Mapping[str, KernelNode] = {n.name: n for n in result.pruned.network.kernels.nodes}
    layers = []
    for node in result.dense.network.kernels.nodes:
        small = after.get(node.name)
        layers.append(
            Layer(
                node=node.name,
                module=node.module,
                spec=str(node.spec),
                groups=tuple(dict.fromkeys(g for b in node.axes.values() for g in b.groups)),
                before=_widths(node),
                after=_widths(small) if small else Widths.model_validate({"in": None, "out": 0}),
                dense_ms=_one(result.dense, node.name),
                pruned_ms=_one(result.pruned, node.name),
                predicted_ms=(
                    _predicted(result.predicted_kernels_ms[node.name], result.evidence)
                    if node.name in result.predicted_kernels_ms
                    else None
                ),
            )
        )
    return layers


def _table(node: str, table: LatencyTable, evidence: str) -> KernelTable:
    inward, outward = table.grids
    fields = {
        "node": node,
        "in": inward.tolist(),
        "out": outward.tolist(),
        "latency_ms": table.latency_ms.tolist(),
        "timed": np.argwhere(~table.estimated).tolist(),
        "evidence": evidence,
    }
    return KernelTable.model_validate(fields)


def _widths(node: KernelNode) -> Widths:
    widths = node.spec.widths
    return Widths.model_validate({"in": widths.get("in"), "out": widths["out"]})


def _one(variant: VariantResult, node: str) -> Figure | None:
    ms = (variant.kernels_ms or {}).get(node)
    return None if ms is None else Figure(value=ms, unit="ms", evidence=variant.timing.evidence)  # type: ignore[arg-type]
