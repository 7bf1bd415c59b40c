"""``edgeprune solve``: one problem from a file, solved, with its bound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.budget.effort import Effort
from edgeprune.cli.output import JsonOption, QuietOption, Result, emit

app = typer.Typer(rich_markup_mode=None)


@app.command()
def solve(
    problem: Annotated[Path, typer.Argument(help="PROBLEM.json, as edgeprune.budget.save_problem writes it.")],
    solver: Annotated[
        str, typer.Option("--solver", help="exact, lagrangian, knapsack, greedy, uniform or brute_force.")
    ] = "exact",
    latency: Annotated[
        str | None, typer.Option("--latency", help="12ms, or 50% of the widest plan's; the file's own by default.")
    ] = None,
    flash: Annotated[str | None, typer.Option("--flash", help="Limit of the program's size: 2MB or 50%.")] = None,
    ram: Annotated[str | None, typer.Option("--ram", help="Limit of the peak RAM: 256KiB or 50%.")] = None,
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", help="Seconds until the best plan so far is taken.", min=0.0)
    ] = None,
    gap: Annotated[
        float, typer.Option("--gap", help="Relative gap between plan and bound at which exact stops.", min=0.0)
    ] = 0.0,
    out: Annotated[Path | None, typer.Option("--out", help="A file for the result, as JSON.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Choose widths for a problem in a file; say how much better a plan could be.

    The certificate of the bound is checked before anything is printed. Ctrl-C takes the best plan so far.
    """
    from edgeprune.api.progress import reporting
    from edgeprune.budget.files import load_problem
    from edgeprune.budget.promise import parse_bytes, parse_latency
    from edgeprune.budget.solving import SCHEMA, resolved
    from edgeprune.budget.solving import solve as run
    from edgeprune.files import require_writable
    from edgeprune.report.tables import facts_table

    if out is not None:
        require_writable(out)
    found, budget = load_problem(problem)
    limits = {
        "latency_ms": None if latency is None else parse_latency(latency),
        "flash_bytes": None if flash is None else parse_bytes(flash),
        "ram_bytes": None if ram is None else parse_bytes(ram),
    }
    with reporting(not quiet) as bar:
        limited = resolved(found, budget, **limits)
        done = run(found, limited, solver, effort=Effort(time_limit, gap), progress=bar)
    body = done.to_json()
    if out is not None:
        done.save(out)
    shown = {key: value for key, value in body.items() if key not in ("witness", "widths")}
    widths = facts_table(body["widths"], "widths")
    emit(Result(SCHEMA, body, (facts_table(shown), widths)), as_json)
