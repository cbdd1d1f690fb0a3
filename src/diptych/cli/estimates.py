"""Estimates as a table: a value, its interval, n and chance in each row."""

from __future__ import annotations

from collections.abc import Mapping

from diptych.cli import terminal
from diptych.types import Estimate


def show_estimates(title: str, estimates: Mapping[str, Estimate]) -> None:
    """Print the table; numbers whose interval reaches chance are marked."""
    from diptych.evaluation.report.labels import metric

    table = terminal.table(title, "", "value", "95 % interval", "n", "chance")
    unsure = False
    for name, estimate in estimates.items():
        kind = metric(name)
        chance = "" if estimate.chance is None else kind.write(estimate.chance)
        doubtful = kind.beats_chance(estimate) is False
        unsure |= doubtful
        style = "yellow" if doubtful else None
        value = kind.write(estimate.value) + (" *" if doubtful else "")
        table.add_row(kind.label, value, kind.interval(estimate), f"{estimate.n:,}", chance, style=style)
    terminal.out.print(table)
    if unsure:
        terminal.say("* not shown to be better than chance: the interval reaches it")
