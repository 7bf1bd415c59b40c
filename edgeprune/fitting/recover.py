"""Winning accuracy back after channels were removed."""

from __future__ import annotations

from typing import Any

from torch import nn

from edgeprune.compiler.compile import Network
from edgeprune.fitting.choose import calibration
from edgeprune.fitting.job import Job
from edgeprune.pruning.plan import Plan
from edgeprune.training.finetune import train
from edgeprune.training.recalibrate import recalibrate


def recover(job: Job, network: Network, plan: Plan) -> dict[str, Any]:
    """Batch-norm statistics measured anew, then fine-tuning with the dense network as teacher."""
    if job.data is None:
        return {}
    options = job.options
    module: nn.Module = network.module
    recalibrate(module, (x for x, _ in calibration(job.data, options.batch_size)))
    if options.epochs == 0 or not plan.keep:
        return {}
    history = train(
        module,
        job.data,
        epochs=options.epochs,
        lr=options.lr,
        batch_size=options.batch_size,
        seed=options.seed,
        teacher=job.network.module,
        distil_weight=options.distil_weight,
        temperature=options.temperature,
        progress=job.progress,
    )
    return history.to_json()
