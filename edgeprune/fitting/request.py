"""The request of a run: what was asked for, so that whoever goes on with it goes on with the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from edgeprune.budget.promise import Promise
from edgeprune.compiler.compile import Network
from edgeprune.compiler.manifest import MANIFEST
from edgeprune.errors import BadInputError, UsageError
from edgeprune.files import write_whole
from edgeprune.fitting.options import FitOptions
from edgeprune.fitting.run_folder import check_out
from edgeprune.fitting.stages import DENSE, FOLDER, Stages
from edgeprune.models.loading import LoadedModel
from edgeprune.targets import Target
from edgeprune.training.data import DataSet

FILE, DONE = "request.json", "proved"
SCHEMA = "edgeprune.request/1"
FREE = ("rounds", "fill", "patience_s", "tighter", "baseline")
"""Options that may change when a run goes on: what is finished does not depend on them."""


def open_run(
    out: Path,
    model: LoadedModel,
    target: Target,
    promise: Promise,
    options: FitOptions,
    *,
    resume: bool,
    began: Callable[[], None] = lambda: None,
) -> Stages:
    """The stages of the run in ``out``: of a new one, or of the one that is there.

    Args:
        began: called when ``out`` is known to take a new run, before that is written down.

    Raises:
        UsageError: ``resume`` and no run is there, or another one; an unfinished run is there and ``resume`` was not
            asked for; ``out`` is something else.
    """
    check_out(out)
    stages, path = Stages(out), out / FOLDER / FILE
    for folder, proof, what in (("bundle", MANIFEST, "bundle"), (DENSE, MANIFEST, "bundle"), (FOLDER, FILE, "run")):
        if (out / folder).exists() and not (out / folder / proof).is_file():
            raise UsageError(
                f"{out / folder} exists and is not a {what}", hint="choose another --out, or remove it yourself"
            )
    asked = json.loads(json.dumps(_identity(model, target, promise, options)))
    if not resume:
        if path.is_file() and not stages.finished(DONE):
            raise UsageError(
                f"{out} holds a run that is not finished",
                hint=f"edgeprune fit --resume {out} goes on with it; remove the folder to begin anew",
            )
        stages.forget()
        began()
        write_whole(path, json.dumps({"schema": SCHEMA, **asked}, indent=1, sort_keys=True) + "\n")
        return stages
    try:
        then = json.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise UsageError(f"{out} holds no run that could be gone on with: {e}", hint="give the --out of a fit") from e
    different = [k for k, v in asked.items() if then.get(k) != v]
    if different:
        named = "; ".join(f"{k}: then {then.get(k)}, now {asked[k]}" for k in different)
        raise UsageError(
            f"the run in {out} was begun otherwise: {named}", hint="choose another --out", different=different
        )
    return stages


def check_data(network: Network, data: DataSet) -> None:
    """Raises BadInputError for images that the network does not take, or more classes than it has outputs."""
    shapes = [tuple(x.shape) for x in network.example_inputs]
    if shapes != [data.input_shape]:
        taken = " and ".join(map(str, shapes))
        raise BadInputError(
            f"the model takes {taken}, data set {data.name!r} has {data.input_shape}",
            hint="give --input-shape, or data of that shape",
            model=shapes,
            data=data.input_shape,
        )
    outputs = network.kernels.outputs[0].shape[1]
    if data.classes > outputs:
        raise BadInputError(
            f"data set {data.name!r} has {data.classes} classes, the network {outputs} outputs",
            hint="load the network with num_classes",
            classes=data.classes,
            outputs=outputs,
        )


def _identity(model: LoadedModel, target: Target, promise: Promise, options: FitOptions) -> dict[str, Any]:
    return {
        "weights": weights_digest(model.module),
        "inputs": [list(x.shape) for x in model.example_inputs],
        "target": target.name,
        "promise": promise.to_json(),
        "options": {k: v for k, v in options.to_json().items() if k not in FREE},
    }


def weights_digest(module: nn.Module) -> str:
    """sha256 over names, shapes and values of a module's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
