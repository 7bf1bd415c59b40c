"""``edgeprune compile``: a network, or the folder of a run, into a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.options import (
    MismatchOption,
    ShapeOption,
    StoreOption,
    TargetOption,
    ThreadsOption,
    WeightsOption,
    parse_shape,
    store_path,
)
from edgeprune.cli.output import JsonOption, QuietOption, emit, record
from edgeprune.cli.progress import progress

app = typer.Typer(rich_markup_mode=None)


@app.command(name="compile")
def compile_(
    model: Annotated[str, typer.Argument(help="A model as in edgeprune profile, or the folder of a run.")],
    out: Annotated[Path, typer.Option("--out", help="The bundle folder to write.")],
    target: TargetOption = "host",
    factory: Annotated[
        str | None, typer.Option("--factory", help="The code a run was made from, if it was: FILE.py:factory.")
    ] = None,
    weights: WeightsOption = None,
    input_shape: ShapeOption = None,
    threads: ThreadsOption = 1,
    store: StoreOption = None,
    device: Annotated[str | None, typer.Option("--device", help="Whose profile to take schedules from.")] = None,
    allow_mismatch: MismatchOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compile a network, or the folder of a run, into a bundle.

    Schedules come from the profile of the device, where there is one.
    """
    from collections import Counter

    from edgeprune.compiler.compile import compile_network, read_network
    from edgeprune.fitting.run_folder import RUN_FILE, load_run
    from edgeprune.fitting.schedules import schedule_book
    from edgeprune.models.loading import load_model
    from edgeprune.targets import load_target

    kind = load_target(target)
    if (Path(model) / RUN_FILE).is_file():
        loaded, network = load_run(Path(model), factory)
    else:
        loaded = load_model(model, weights=weights, input_shape=parse_shape(input_shape))
        network = read_network(loaded.module, loaded.example_inputs)
    book = schedule_book(
        network,
        kind,
        store_path(store),
        device or kind.default_device,
        threads,
        required=device is not None,
        allow_mismatch=allow_mismatch,
    )
    with progress(quiet) as bar:
        manifest = compile_network(
            network,
            kind,
            out,
            book=book,
            name=loaded.name,
            threads=threads,
            provenance={"model": loaded.source, "command": "compile"},
            progress=bar,
        )
    fields = {
        "bundle": out,
        "release": manifest.release_id,
        "target": kind.name,
        "kernels": len(manifest.kernels),
        "schedules_from": dict(Counter(k.schedule_source for k in manifest.kernels)),
        "memory": manifest.memory.model_dump(),
        "evidence": "compiled",
    }
    emit(record("edgeprune.compile/1", fields), as_json)
