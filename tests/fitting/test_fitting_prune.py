"""Planning from a stored profile that is not whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import edgeprune
from edgeprune.devices.fake import FakeDevice
from edgeprune.errors import ProfileError, UsageError
from edgeprune.fitting.saved import load_saliency
from edgeprune.graph.network import read_network
from edgeprune.importance.curves import Saliency
from edgeprune.latency.records import KernelRecord
from edgeprune.latency.store import ProfileStore
from edgeprune.profiling.fingerprint import fingerprint_of
from edgeprune.profiling.profile import ProfileOptions, profile
from edgeprune.training.tasks.task import Task, mean_metric

pytestmark = pytest.mark.xdist_group("prune")

OPTIONS = ProfileOptions(points=3, step=8)


@pytest.fixture(scope="module")
def records(store, target, record, tmp_path_factory) -> tuple[KernelRecord, ...]:
    loaded = record.load()
    network = read_network(loaded.module, loaded.example_inputs)
    device = FakeDevice(tmp_path_factory.mktemp("board"))
    return profile(network.kernels, network.channels, target, device, store, OPTIONS).profile.records()


@pytest.fixture
def planned(records, target, record, tmp_path):
    def plan(change: Callable[[KernelRecord], KernelRecord | None], **more):
        loaded = record.load()
        kernels = read_network(loaded.module, loaded.example_inputs).kernels
        device = FakeDevice(tmp_path / "board")
        with ProfileStore(tmp_path / f"{change.__name__}.sqlite3") as store:
            opened = store.open_profile(fingerprint_of(target, device.describe(), 1, kernels))
            for found in filter(None, map(change, records)):
                opened.add(found)
            path = store.path
        asked = {"target": target, "device": device, "latency": "60%", "points": 3, "step": 8, **more}
        return edgeprune.prune(loaded, store=path, out=tmp_path / "run", **asked).plan

    return plan


def test_a_plan_carries_the_weakest_evidence_of_its_profile(planned, records):
    """Not that of the device at hand: a profile may come from elsewhere."""
    assert planned(lambda r: replace(r, evidence="measured")).predicted["evidence"] == "measured"

    def mixed(found: KernelRecord) -> KernelRecord:
        return replace(found, evidence="emulated" if found is records[3] else "measured")

    assert planned(mixed).predicted["evidence"] == "emulated"


def test_a_plan_avoids_a_kernel_that_failed(planned, records):
    """A kernel that does not build, crashes or gives NaN (docs/FAULTS.md, 26)."""
    whole = planned(lambda r: r)
    assert whole.width("stem.0") == 8, "the width that is now made to fail"
    failures = []

    def broken(found: KernelRecord) -> KernelRecord:
        if found.spec.widths != {"in": 3, "out": 8}:
            return found
        failures.append(found)
        return KernelRecord(found.spec, found.schedule, "failed", evidence="simulated", error="exit 139")

    assert planned(broken).width("stem.0") == 16
    assert len(failures) == 1


def test_a_full_width_that_failed_is_explained(planned, tmp_path):
    def broken(found: KernelRecord) -> KernelRecord:
        if found.spec.op != "dense" or found.spec.widths["in"] != 32:
            return found
        return KernelRecord(found.spec, found.schedule, "failed", evidence="simulated", error="exit 139")

    with pytest.raises(ProfileError, match=r"failed while it was profiled: exit 139"):
        planned(broken)
    assert not (tmp_path / "run").exists()


def test_a_kernel_that_was_never_profiled_is_named(planned, tmp_path):
    with pytest.raises(ProfileError, match=r"no record of .*global_avg_pool"):
        planned(lambda r: None if r.spec.op == "global_avg_pool" else r)
    assert not (tmp_path / "run").exists()


def as_measured(found: KernelRecord) -> KernelRecord:
    return found


def test_a_plan_by_measured_loss_says_so_and_keeps_what_was_measured(planned, data, tmp_path):
    plan = planned(as_measured, data=data, objective="loss")
    assert (plan.method["objective"], plan.method["criterion"]) == ("loss", "l2")
    saliency = load_saliency(tmp_path / "run", "loss")
    total = sum(curve[-1] for curve in saliency.curves.values())
    kept = sum(curve[plan.width(name)] for name, curve in saliency.curves.items())
    assert plan.predicted["saliency_retained"] == pytest.approx(kept / total)
    summed = Saliency.summed(saliency.scores).curves
    assert any(not np.allclose(summed[name], curve) for name, curve in saliency.curves.items())


def test_without_a_loss_it_is_the_distance_from_the_dense_outputs(planned, data, tmp_path):
    metric = mean_metric("error", lambda outputs, targets: (outputs - targets).square().mean())
    plan = planned(as_measured, data=data, objective="loss", task=Task("other", metric, targets="dense"))
    assert plan.method["objective"] == "loss"
    curves = load_saliency(tmp_path / "run", "loss").curves
    assert all((np.diff(curve) > 0).all() for curve in curves.values())
    assert all(curve[-1] > 1e-2 for curve in curves.values())


@pytest.mark.parametrize(
    ("objective", "says"), [("loss", "objective loss needs data"), ("lost", "no objective 'lost'")]
)
def test_an_objective_that_cannot_be_had(planned, objective, says, tmp_path):
    with pytest.raises(UsageError, match=says):
        planned(as_measured, objective=objective)
    assert not (tmp_path / "run").exists()
