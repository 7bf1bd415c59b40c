"""Latency: measured records, the store that keeps them, tables and the model made of them."""

from edgeprune.latency.grids import grid_for, levels_for
from edgeprune.latency.model import LatencyModel, NetworkPrediction
from edgeprune.latency.problem import build_problem, usable_levels
from edgeprune.latency.records import Fingerprint, KernelRecord, check_record, difference
from edgeprune.latency.store import Profile, ProfileStore
from edgeprune.latency.tables import LatencyTable, Prediction, table_from_records

__all__ = [
    "Fingerprint",
    "KernelRecord",
    "LatencyModel",
    "LatencyTable",
    "NetworkPrediction",
    "Prediction",
    "Profile",
    "ProfileStore",
    "build_problem",
    "check_record",
    "difference",
    "grid_for",
    "levels_for",
    "table_from_records",
    "usable_levels",
]
