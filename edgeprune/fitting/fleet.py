"""A fleet: boards of one kind on each of which one network has to keep its promise.

Boards of one kind differ, by cooling, by supply, by what else runs there. The network is fitted to the slowest, and
then installed and judged on the others, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeprune.budget.promise import Promise
from edgeprune.deploy.flash import Deployment, flash
from edgeprune.deploy.standard import Standard
from edgeprune.deploy.trials import on_trial
from edgeprune.devices.protocol import Device
from edgeprune.errors import RolledBackError, UsageError, VerificationError
from edgeprune.fitting.stages import Stages
from edgeprune.graph.network import Network
from edgeprune.jsonable import Jsonable
from edgeprune.profiling.farm import open_farm
from edgeprune.profiling.fingerprint import fingerprint_of, require_match
from edgeprune.profiling.shared import compare
from edgeprune.progress import Progress
from edgeprune.targets import Target


@dataclass(frozen=True, slots=True)
class Member(Jsonable):
    """A board of a fleet beside the one that the network was fitted to, and what was installed there."""

    url: str
    deployment: Deployment


def slowest(
    network: Network, target: Target, boards: Sequence[Device], stages: Stages, *, threads: int, progress: Progress
) -> Device:
    """The board on which a network takes longest; kept as a stage, as long as that board is among those at hand.

    Raises:
        UsageError: they are not of one kind. TargetError: they cannot run code for this target.
        DeviceError, VerificationError: one of them fails.
    """

    def found() -> str:
        said = [(board, board.describe()) for board in boards]
        require_match(target, said[0][1])
        farm = open_farm(said, lambda info: fingerprint_of(target, info, threads, network.kernels), progress=progress)
        progress.stage("comparing boards")
        compare(farm, network.kernels, target, threads=threads, slowest=True)
        for board in farm.boards:
            if board.lost is not None:
                raise board.lost  # what is promised for all of them cannot be shown on this one
        return farm.lead.device.url

    by_url = {board.url: board for board in boards}
    url = stages.once("slowest", found, str)
    if url not in by_url:
        stages.reopen("slowest")
        url = stages.once("slowest", found, str)
    return by_url[url]


def install_on_others(
    others: Sequence[Device], bundle: Path, dense: Path, promise: Promise, patience_s: float, progress: Progress
) -> tuple[Member, ...]:
    """Install a bundle that keeps its promise on the slowest board on the others, and judge it on each.

    Raises:
        VerificationError, RolledBackError, UndecidedError: on one of them it does not keep the promise; ``details`` say
            on which it is installed.
        BusyError, DeviceError: one of them failed.
    """
    members = list[Member]()
    for board in others:
        progress.stage(f"installing on {board.url}")
        standard = Standard(promise, patience_s=patience_s)
        try:
            with on_trial(board) as trials:
                if promise.relative:
                    standard = standard.beside(trials.keep(dense))
                made = flash(bundle, board, resume=True, standard=standard, info=trials.info, progress=progress)
        except (VerificationError, RolledBackError) as e:
            on = [m.url for m in members]
            raise type(e)(
                f"{board.url}: {e.message}",
                hint="it keeps its promise on the slowest board: see what disturbs this one, and run fit --resume",
                **e.details,
                board=board.url,
                installed_on=on,
            ) from e
        members.append(Member(board.url, made))
    return tuple(members)


def check_fleet(*, fleet: bool, others: Sequence[Device]) -> None:
    """Raises UsageError for a fleet of one board."""
    if fleet and not others:
        raise UsageError("a fleet has more than one board", hint="name each: --device URL --device URL --fleet")
