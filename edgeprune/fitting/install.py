"""Installation of a fitted network: flashed and judged; where it breaks its promise, shrunk further and tried again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgeprune.compiler.manifest import read_manifest
from edgeprune.deploy.board import Board
from edgeprune.deploy.flash import Deployment, flash
from edgeprune.devices.protocol import Device
from edgeprune.errors import RolledBackError, VerificationError
from edgeprune.fitting.planner import shrunk
from edgeprune.fitting.recover import recovered
from edgeprune.fitting.reference import Reference
from edgeprune.fitting.workshop import Workshop
from edgeprune.graph.network import Network
from edgeprune.pruning.plan import Plan

LEAST_STEP, MOST_STEP = 0.01, 0.5
BRIEF = 1
"""Epochs for a network that was trained already and lost a little more."""


@dataclass(frozen=True, slots=True)
class Installed:
    """The installed network: its plan, the deployment by flash, and the history of each further training."""

    plan: Plan
    network: Network
    deployment: Deployment
    histories: Mapping[str, Any]


def install(
    workshop: Workshop,
    device: Device,
    reference: Reference,
    plan: Plan,
    network: Network,
    smaller: Callable[[Network, Reference, str], Plan | None],
) -> Installed:
    """Flash the network; while the installed program is over its budget, shrink it further, train briefly, try again.

    Args:
        network: recovered, of ``plan``.
        smaller: the plan of a trained network that keeps a tightened reference, measured; None if there is none.

    Raises:
        VerificationError, UndecidedError, RolledBackError: neither the network nor a smaller one keeps its promise; all
            stages stay.
    """
    stages, attempt = workshop.stages, 0
    error: VerificationError | RolledBackError | None = None
    histories: dict[str, Any] = {}
    facts: dict[str, Any]
    while True:
        refused = f"refused-{attempt}"
        if not stages.finished(refused):
            try:
                deployment = _flashed(workshop, device, reference, plan, network, attempt)
                return Installed(plan, network, deployment, histories)
            except (VerificationError, RolledBackError) as e:
                # The second is what flash raises where an earlier release goes on running.
                if not _over_budget(e) or attempt == workshop.options.tighter:
                    raise _saved(e, workshop) from e
                error = e
                facts = {"over": _overshoot(e), "message": e.message}
                workshop.builder.progress.note(f"{e.message}; a smaller network is made of it")
                stages.finish(refused, facts)
        else:
            facts = stages.once(refused, dict, dict[str, Any])
        attempt += 1
        tight = reference.promise.tightened(facts["over"] + max(LEAST_STEP, reference.margin))
        further = smaller(network, reference.asked(tight, reference.patience_s), f"tighter-{attempt}")
        if further is None:
            error = error or VerificationError(facts["message"])
            raise _saved(error, workshop, "; no smaller network of it was measured inside the budget")
        small, origin = shrunk(network, further), network
        plan, epochs = plan.then(further), min(BRIEF, workshop.options.epochs)
        network, history = recovered(workshop, f"recovered-{attempt}", small, plan, epochs, origin=origin, lost=further)
        histories[f"tighter {attempt}"] = history


def _flashed(
    workshop: Workshop, device: Device, reference: Reference, plan: Plan, network: Network, attempt: int
) -> Deployment:
    stages, out = workshop.stages, workshop.stages.run / "bundle"
    standard = reference.standard
    stages.once(
        f"bundle-{attempt}",
        lambda: workshop.builder.build(network, out, budget=standard.to_json(), plan=plan).release_id,
        str,
    )
    if stages.finished("installed") and Board(device).current() != read_manifest(out).release_id:
        stages.reopen("installed")  # another board, or somebody else's release on it
    return stages.once(
        "installed",
        lambda: flash(
            out, device, resume=True, standard=standard, info=workshop.trials.info, progress=workshop.builder.progress
        ),
        Deployment,
    )


def _over_budget(error: VerificationError | RolledBackError) -> bool:
    return any(v["outcome"] != "kept" for v in error.details.get("verdicts", ()))


def _overshoot(error: VerificationError | RolledBackError) -> float:
    """Overshoot over the limit at the far end of the interval, as a share of the limit."""
    over = [float(v["high"] or v["value"]) / float(v["limit"]) - 1 for v in error.details["verdicts"]]
    return max(0.0, min(max(over), MOST_STEP))


def _saved(
    error: VerificationError | RolledBackError, workshop: Workshop, more: str = ""
) -> VerificationError | RolledBackError:
    run = workshop.stages.run
    saved = f"everything is kept in {run}: edgeprune fit --resume {run} goes on from here"
    return type(error)(error.message + more, hint=f"{error.hint}; {saved}" if error.hint else saved, **error.details)
