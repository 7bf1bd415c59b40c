"""Sentences of a report: what verdicts, clock states, predictions and bounds mean, computed from their figures."""

from __future__ import annotations

from edgeprune.amounts import number, percent, share, written
from edgeprune.report.schema import Layer, Plan, Report, Variant, Verdict

OFF, MATTERS = 1.5, 0.05
"""A kernel is predicted badly when it is off by more than the first factor; that matters from the second share of
the network's latency on. A plan is solved to a few per cent of the limit, and is measured in the end.
"""

_TAKES = {
    "median": "the median inference takes",
    "p90": "9 of 10 inferences take no longer than",
    "p99": "99 of 100 inferences take no longer than",
    "max": "the slowest inference took",
}
_STORED = {"flash": "of flash", "ram": "of RAM at its peak"}
_OUTCOMES = {"kept": "The limit is kept", "broken": "The limit is broken", "not decidable": "This cannot be decided"}


def headline(report: Report) -> str:
    """The outcome for all limits together, in two or three words."""
    if report.met is None:
        return "Budget: not decidable" if report.verdicts else "Budget: not decided"
    return "Budget kept" if report.met else "Budget broken"


def verdict_sentence(verdict: Verdict) -> str:
    """One verdict for somebody who sees the first report: statistic, interval, limit and basis."""
    value = written(verdict.value, verdict.unit)
    if verdict.resource == "latency" and verdict.statistic == "median" and verdict.turns:
        words = f"at the nominal clock {_TAKES['median']} {value}"
    elif verdict.resource == "latency":
        words = f"{_TAKES.get(verdict.statistic, f'the {verdict.statistic} of all latencies is')} {value}"
    else:
        words = f"the program takes {value} {_STORED[verdict.resource]}"
    parts = [f"{_OUTCOMES[verdict.outcome]}: {words}"]
    if verdict.low < verdict.high:
        low, high = written(verdict.low, verdict.unit), written(verdict.high, verdict.unit)
        parts.append(f"with {share(verdict.confidence)} confidence the figure is between {low} and {high}")
    return f"{'; '.join(parts)}, {_against_the_limit(verdict)} ({_basis(verdict)})."


def _against_the_limit(verdict: Verdict) -> str:
    limit = written(verdict.limit, verdict.unit)
    if verdict.relative_to is not None:
        dense = number(verdict.relative_to)
        limit += f" ({share(verdict.limit / verdict.relative_to)} of the dense network's {dense} ms)"
    if verdict.high <= verdict.limit:
        return f"within the limit of {limit}"
    if verdict.low > verdict.limit:
        return f"over the limit of {limit}"
    return f"and the limit of {limit} lies inside of that"


def _basis(verdict: Verdict) -> str:
    words = f"{verdict.evidence}, {verdict.basis}" if verdict.basis else verdict.evidence
    if verdict.turns:
        words += f", {verdict.turns} {'turn' if verdict.turns == 1 else 'turns'}"
    return words + (f" in {number(verdict.seconds)} s" if verdict.seconds else "")


def latency_limit(report: Report) -> float | None:
    """The limit on latency that was judged, else the one that was asked for; in ms."""
    judged = (verdict.limit for verdict in report.verdicts if verdict.resource == "latency")
    return next(judged, report.budget.latency_ms)


def state_limit(report: Report) -> float | None:
    """The limit that a clock state's latency is compared with; None where it is a share of the dense network's, which
    the same clock slows down as well.
    """
    relative = any(v.resource == "latency" and v.relative_to is not None for v in report.verdicts)
    return None if relative else latency_limit(report)


def with_distribution(report: Report) -> list[Variant]:
    """The networks with a distribution; the installed one first."""
    return sorted((v for v in report.variants if v.distribution), key=lambda v: v.name != "pruned")


def clock_states(variant: Variant, limit_ms: float | None) -> list[str]:
    """A line for each clock state of a distribution: how often, how fast, and how far over the limit."""
    lines = []
    for state in sorted(variant.distribution.states if variant.distribution else (), key=lambda s: s.slowdown):
        name = "fast state" if state.slowdown == 1 else f"slow state (x{number(state.slowdown)})"
        line = f"{name}, {share(state.share)} of the time: {number(state.median_ms)} ms"
        if limit_ms is not None and limit_ms > 0:
            over = state.median_ms / limit_ms - 1
            line += f", {share(over)} over the limit" if over > 0 else f", {share(-over)} below the limit"
        lines.append(line)
    return lines


def spread_sentence(variant: Variant, limit_ms: float | None) -> str:
    """The quantiles of a distribution in words, and how many of its latencies are over the limit for certain."""
    d = variant.distribution
    if d is None:
        return ""
    words = (
        f"{variant.name.capitalize()}: half of {d.samples} inferences within {number(d.median_ms)} ms, 9 of 10 within "
        f"{number(d.p90_ms)} ms, 99 of 100 within {number(d.p99_ms)} ms, the slowest {number(d.worst_ms)} ms "
        f"({d.evidence})"
    )
    if limit_ms is None:
        return words + "."
    if d.worst_ms <= limit_ms:
        return f"{words}. None of them is over the limit."
    # the bin that holds the limit is on neither side for certain
    certain = sum(n for lower, (_, n) in zip(d.edges[:-1], d.histogram, strict=True) if lower >= limit_ms)
    possible = sum(n for upper, n in d.histogram if upper > limit_ms)
    if certain == d.samples:
        return f"{words}. All of them are over the limit."
    bounds = (
        share(certain / d.samples)
        if certain == possible
        else f"{share(certain / d.samples)} to {share(possible / d.samples)}"
    )
    return f"{words}. {bounds} of them are over the limit."


def prediction_sentence(report: Report) -> str:
    """Whether the badly predicted kernels matter: their share of the latency, and of the error."""
    pairs = [(p, o) for layer in report.layers for p, o in _predicted_and_observed(layer)]
    total = sum(observed for _, observed in pairs)
    if not total:
        return ""
    off = [(p, o) for p, o in pairs if max(p, o) > OFF * min(p, o)]
    if not off:
        return f"No kernel is predicted off by more than {OFF:g}x."
    time, error = sum(o for _, o in off) / total, sum(abs(p - o) for p, o in off) / total
    matter = max(time, error) >= MATTERS
    verb = "is" if len(off) == 1 else "are"
    return (
        f"{len(off)} of {len(pairs)} kernels {verb} predicted off by more than {OFF:g}x. They make up {share(time)} "
        f"of the network's latency, and their errors add up to {share(error)} of it: "
        f"they {'do' if matter else 'do not'} matter."
    )


def _predicted_and_observed(layer: Layer) -> list[tuple[float, float]]:
    if layer.predicted_ms is None or layer.pruned_ms is None:
        return []
    return [(layer.predicted_ms.value, layer.pruned_ms.value)]


STOPPED = {
    "optimal": ". The search came to its end",
    "gap": ". The search stopped there: the rest is too little to matter",
    "heuristic": ". The bound is one of prices alone: a longer search (--solver exact) may close it",
    "time limit": ". The search was cut short by its time limit (--time-limit)",
    "node limit": ". The search was cut short by its limit of work (--time-limit)",
    "interrupted": ". The search was interrupted",
}
"""By why the solver stopped."""


def bound_sentence(plan: Plan) -> str:
    """What the certificate's bound on retained saliency says, and what it does not."""
    bound, kept = plan.certificate.get("saliency_upper_bound"), plan.saliency_retained
    if not isinstance(bound, int | float) or isinstance(bound, bool):
        return ""
    words = (
        f"Whatever widths are chosen among those that were offered, no network that keeps the limits by the profile's "
        f"figures retains more than {percent(bound)} of the saliency"
    )
    if kept is not None:
        left = max(0.0, bound - kept)
        words += f"; this one retains {percent(kept)}, so a better choice could gain {percent(left)} at most"
    words += STOPPED.get(str(plan.certificate.get("stop")), "")
    return f"{words}. Saliency estimates what channels are worth before fine-tuning; nothing is proven about accuracy."
