"""`diptych data bias`: what a dataset is full of, what goes together in it, what its texts give away."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.cli import terminal
from diptych.cli.estimates import show_estimates
from diptych.cli.options import Json, Seed

if TYPE_CHECKING:
    from diptych.data.curate.bias import Association, BiasReport, Distribution
    from diptych.data.curate.predicting import Prediction
    from diptych.evaluation.report.sections import Section
    from diptych.types import Estimate

TOP, TOP_ON_PAGE = 6, 24  # concepts of a kind
PAIRS, PAIRS_ON_PAGE = 14, 40
EACH = 2  # pairs of one concept that are shown: ten tags of one stamp would fill the table
CLASSES, CLASSES_ON_PAGE = 8, 40


def bias(
    dataset: str,
    /,
    *,
    target: str = "label",
    concepts: Path | None = None,
    least: int = 10,
    html: Path | None = None,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Report bias: the commonest concepts, which go together, and how well the text alone tells the label.

    Args:
        dataset: A built-in one, a Diptych dataset, raw data, or a generated world.
        target: What to tell from the text: a field such as label or creator from the captions, or answer from the
            questions.
        concepts: A file of concepts to look for in captions, a JSON list or one a line; by default every word but a few
            is one.
        least: Leave out concepts and classes that are rarer than this.
        html: Write the report as a page.
    """
    from diptych.data import open_dataset
    from diptych.data.curate.bias import bias_report
    from diptych.data.curate.concepts import read_entries

    with terminal.Working() as working:
        opened = open_dataset(dataset, working.of("importing"))
        entries = read_entries(concepts.expanduser()) if concepts else ()
        found = bias_report(opened, target=target, entries=entries, least=least, seed=seed)
    if json != terminal.STDOUT:
        _show(found, opened.name)
    terminal.write_json(asdict(found), json)
    if html is not None:
        _page(found, opened.name, html.expanduser())


# ---------------------------------------------------------------- on the terminal


def _show(found: BiasReport, name: str) -> None:
    table = terminal.table(f"{name}: concepts", "kind", "different", "as diverse as", "Gini", "only once", "commonest")
    table.columns[-1].justify = "left"
    for kind in found.distributions:
        top = ", ".join(f"{concept} {_percent(n / kind.units)}" for concept, n in _top(kind, TOP))
        row = (f"{len(kind.counts):,}", f"{kind.effective:,.0f}", f"{kind.gini:.2f}", f"{kind.once:,}")
        table.add_row(kind.kind, *row, terminal.printable(top))
    terminal.out.print(table)
    _show_pairs("go together", found.together)
    _show_pairs("keep apart", found.apart)
    if not found.together and not found.apart:
        terminal.say("no two concepts go together beyond doubt\n")
    if found.prediction is None:
        terminal.say("no text with two classes to tell apart (see --target)")
        return
    show_estimates(f"the text alone tells the {found.prediction.target}", _estimates(found.prediction))
    told = terminal.table("", found.prediction.target, "samples", "given away by")
    told.columns[-1].justify = "left"
    for label, number, words in _told(found.prediction, CLASSES):
        told.add_row(terminal.printable(label), f"{number:,}", terminal.printable(words))
    terminal.out.print(told)
    if found.prediction.left_out:
        terminal.note(f"left out: {terminal.count(found.prediction.left_out, 'sample')} of rare classes")


def _show_pairs(title: str, pairs: list[Association]) -> None:
    if not pairs:
        return
    table = terminal.table(f"{title} ({len(pairs):,} pairs beyond doubt)", "of these", "so many are", left=2)
    for name in ("share", "95 % interval", "of all", "together", "NPMI"):
        table.add_column(name, justify="right")
    for pair in _varied(pairs, PAIRS):
        interval = f"{100 * pair.low:.0f} – {100 * pair.high:.0f}"
        numbers = (_percent(pair.share), interval, _percent(pair.base), f"{pair.together:,}", f"{pair.npmi:.2f}")
        table.add_row(terminal.printable(pair.first), terminal.printable(pair.second), *numbers)
    terminal.out.print(table)


def _varied(pairs: list[Association], most: int) -> list[Association]:
    """The first pairs, but of each concept a few only."""
    seen: Counter[str] = Counter()
    shown: list[Association] = []
    for pair in pairs:
        if seen[pair.first] < EACH and seen[pair.second] < EACH and len(shown) < most:
            seen.update((pair.first, pair.second))
            shown.append(pair)
    return shown


def _top(kind: Distribution, most: int) -> list[tuple[str, int]]:
    return list(islice(kind.counts.items(), most))


def _told(prediction: Prediction, most: int) -> list[tuple[str, int, str]]:
    """Classes, their samples, and the words that give them away: "word (texts of the class with it of all with it)"."""
    return [
        (label, number, ", ".join(f"{word} ({own:,} of {all_:,})" for word, own, all_ in prediction.telling[label]))
        for label, number in islice(prediction.classes.items(), most)
    ]


def _estimates(prediction: Prediction) -> dict[str, Estimate]:
    return {"bias/text_tells": prediction.accuracy, "bias/new_text_tells": prediction.of_new_texts}


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 or share == 0 else f"{100 * share:.1g} %"


# ---------------------------------------------------------------- on a page


def _page(found: BiasReport, name: str, to: Path) -> None:
    from diptych.evaluation.report.build import environment
    from diptych.evaluation.report.render import write_report
    from diptych.evaluation.report.sections import MetricTable, Notes, Report

    sections: list[Section] = [_bars(kind) for kind in found.distributions]
    for title, pairs in (("What goes together", found.together), ("What keeps apart", found.apart)):
        sections += [_pair_bars(title, pairs)] * bool(pairs)
    summary = f"{found.samples:,} samples; {len(found.together):,} pairs of concepts go together beyond doubt."
    if found.prediction is not None:
        told = found.prediction
        summary += f" The text alone tells the {told.target} of {_percent(told.accuracy.value)};"
        summary += f" guessing tells {_percent(told.accuracy.chance or 0.0)}."
        note = "Naive Bayes over the words of the text, cross-validated. What it can do needs no picture."
        models: dict[str, Any] = {"words alone": _estimates(told)}
        sections.append(MetricTable(title=f"The text alone tells the {told.target}", note=note, models=models))
        items = [f"{label} ({n:,}): {words}" for label, n, words in _told(told, CLASSES_ON_PAGE) if words]
        sections.append(Notes(title="Words that give it away", note="Texts of the class of all texts.", items=items))
    page = Report(f"Bias of {name}", summary, sections, terminal.command(), environment())
    terminal.note(f"wrote {write_report(page, to)}")


def _bars(kind: Distribution) -> Section:
    from diptych.evaluation.report.sections import Bar, Bars

    shown = _top(kind, TOP_ON_PAGE)
    longest = shown[0][1]
    note = (
        f"{len(kind.counts):,} different ones in {kind.units:,}, {kind.once:,} of them only once; as diverse as "
        f"{kind.effective:,.0f} equally common ones. Gini {kind.gini:.2f}."
    )
    bars = [Bar(concept, n / longest, f"{n:,} ({_percent(n / kind.units)})") for concept, n in shown]
    return Bars(title=kind.kind.capitalize(), note=note, bars=bars)


def _pair_bars(title: str, pairs: list[Association]) -> Section:
    from diptych.evaluation.report.sections import Bar, Bars

    bars = [
        Bar(
            f"{pair.first} → {pair.second}",
            pair.share,
            f"{_percent(pair.share)} ({100 * pair.low:.0f} – {100 * pair.high:.0f}), of all {_percent(pair.base)}; "
            f"{pair.together:,} together, {pair.expected:,.0f} by chance, NPMI {pair.npmi:.2f}",
        )
        for pair in _varied(pairs, PAIRS_ON_PAGE)
    ]
    note = "Of those with the first, the share that has the second. Likelihood ratio, 0.05 for all pairs together."
    return Bars(title=title, note=note, bars=bars)
