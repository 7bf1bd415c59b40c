"""The request of a run: its arguments, kept so that a resumed run continues with the same ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeprune.budget.promise import Promise
from edgeprune.compiler.manifest import MANIFEST
from edgeprune.errors import UsageError
from edgeprune.files import write_whole
from edgeprune.fitting.options import FitOptions
from edgeprune.fitting.run_folder import check_out
from edgeprune.fitting.stages import DENSE, FOLDER, Stages
from edgeprune.models.loading import LoadedModel
from edgeprune.targets import Target

FILE, DONE = "request.json", "proved"
SCHEMA = "edgeprune.request/1"
FREE = ("rounds", "fill", "patience_s", "tighter", "baseline", "time_limit_s", "gap")
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
    """The stages of the run in ``out``: a new run, or the existing one if it is resumed.

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
    was = then.get("options", {})
    unlike = sorted(set(asked["options"]) ^ set(was)) or sorted(set(asked["options"]["profile"]) ^ set(was["profile"]))
    if unlike:
        raise UsageError(
            f"the run in {out} was begun by another version of edgeprune, with other options: {', '.join(unlike)}",
            hint="go on with it by that version, or begin anew in another --out",
        )
    different = [k for k, v in asked.items() if then.get(k) != v]
    if different:
        named = "; ".join(f"{k}: then {then.get(k)}, now {asked[k]}" for k in different)
        raise UsageError(
            f"the run in {out} was begun otherwise: {named}", hint="choose another --out", different=different
        )
    return stages


def _identity(model: LoadedModel, target: Target, promise: Promise, options: FitOptions) -> dict[str, Any]:
    return {
        "weights": model.digest,
        "inputs": [list(x.shape) for x in model.example_inputs],
        "image_input": None if model.interface.image is None else str(model.interface.image),
        "target": target.name,
        "promise": promise.to_json(),
        "options": {k: v for k, v in options.to_json().items() if k not in FREE},
    }
