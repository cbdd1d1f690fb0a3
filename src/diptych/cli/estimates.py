"""Estimates as a table: a value with its interval, n and chance; several models side by side; their differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diptych.cli import terminal
from diptych.types import Estimate

SURE = 0.05  # p-value below which a difference is called one


def show_estimates(title: str, estimates: Mapping[str, Estimate]) -> None:
    """Print the table; numbers whose interval reaches chance are marked."""
    from diptych.evaluation.report.labels import metric

    table = terminal.table(title, "", "value", "95 % interval", "n", "chance")
    unsure = False
    for name, estimate in estimates.items():
        kind = metric(name)
        value, style = _value(name, estimate)
        unsure |= style is not None
        chance = "" if estimate.chance is None else kind.write(estimate.chance)
        table.add_row(kind.label, value, kind.interval(estimate), f"{estimate.n:,}", chance, style=style)
    terminal.out.print(table)
    _explain(unsure)


def show_side_by_side(results: Mapping[str, Mapping[str, Mapping[str, Estimate]]]) -> None:
    """Print one table, a column for each model and the data sets below each other.

    Of one model on one data set it is the table of `show_estimates`. n and chance are told once where all models have
    the same, else in the order of the models.

    Args:
        results: data set -> model -> estimates.
    """
    from rich.text import Text

    from diptych.evaluation.report.labels import metric

    models = list(dict.fromkeys(model for of_models in results.values() for model in of_models))
    data = next(iter(results)) if len(results) == 1 else ""
    if data and len(models) == 1:
        show_estimates(f"{models[0]} on {data}", results[data][models[0]])
        return
    table = terminal.table(data, "", *models, "n", "chance")
    unsure = False
    for where, of_models in results.items():
        if not data:
            table.add_section()
            table.add_row(Text(where, "bold"))
        for name in dict.fromkeys(name for estimates in of_models.values() for name in estimates):
            kind, cells = metric(name), list[Text]()
            known = [estimates[name] for estimates in of_models.values() if name in estimates]
            for model in models:
                estimate = of_models.get(model, {}).get(name)
                if estimate is None:
                    cells.append(Text())
                    continue
                value, style = _value(name, estimate)
                unsure |= style is not None
                cells.append(Text(f"{value}  ({kind.interval(estimate)})", style or ""))
            sizes = dict.fromkeys(f"{one.n:,}" for one in known)
            chances = dict.fromkeys(kind.write(one.chance) for one in known if one.chance is not None)
            table.add_row(kind.label, *cells, "; ".join(sizes), "; ".join(chances))
    terminal.out.print(table)
    _explain(unsure)


def show_differences(differences: Mapping[str, Mapping[str, Any]], first: str, data: str) -> list[str]:
    """A sentence for each other model and metric: better than the first model, worse, or not told apart from it.

    Parts of a metric ("answer/accuracy[count]") are left to the JSON: among many some differ by chance.
    """
    from diptych.evaluation.report.labels import metric

    said = []
    for model, metrics in differences.items():
        for name, found in metrics.items():
            if "[" in name:
                continue
            kind, gap = metric(name), found.estimate
            scale, unit, digits = (100, " points", 1) if kind.kind in ("share", "error") else (1, "", 3)
            better = (gap.value < 0) == kind.lower_is_better
            verdict = "is better than" if better else "is worse than"
            if found.p > SURE:
                verdict = "cannot be told apart from"
            value, low, high = (f"{number * scale:+.{digits}f}" for number in gap[:3])
            where = f" on {data}" if data else ""
            said.append(
                f"{kind.label}{where}: {model} {verdict} {first} "
                f"({value}{unit}, 95 % interval {low} to {high}, p = {found.p:.2g})"
            )
    return said


def _value(name: str, estimate: Estimate) -> tuple[str, str | None]:
    """A value in words, and how it looks: marked if it is not shown to be better than chance."""
    from diptych.evaluation.report.labels import metric

    kind = metric(name)
    doubtful = kind.beats_chance(estimate) is False
    return kind.write(estimate.value) + (" *" if doubtful else ""), "yellow" if doubtful else None


def _explain(unsure: bool) -> None:
    if unsure:
        terminal.say("* not shown to be better than chance: the interval reaches it")
