"""`diptych health`: one page about a model that a person can act on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from diptych.cli import terminal
from diptych.cli.options import Device, Json, ModelName, Seed

if TYPE_CHECKING:
    from diptych.evaluation.health.run import Health

INDENT = 13
COLOURS = {"good": "green", "bad": "red", "unclear": "bright_black", "measured": "", "not judged": "bright_black"}


def health(
    model: ModelName,
    /,
    *,
    data: str | None = None,
    n: int = 200,
    held_out: str | None = None,
    test: list[str] | None = None,
    html: Path | None = None,
    open_: Annotated[bool, Parameter(name="--open")] = False,
    batch_size: int = 32,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = None,
) -> None:
    """Examine whether a model understands: word order, nonsense, new combinations, bias, damage, calibration, cost.

    Each row has a value, its interval, what guessing and a control reach, and a sentence on what it means. Red and
    green come from the interval alone.

    Args:
        data: What to ask about; by default a generated world whose truth is exact. Real data needs hard negatives (ARO,
            Winoground), questions that say whether they can be answered (VizWiz), objects or captions.
        n: Samples to ask about; four times as many halve the intervals.
        held_out: Combinations that the model was trained without, "yellow cone,blue cube"; by default what its model
            card says of scenes:?held_out=...
        test: Only these: word-order, nonsense, unseen, spurious, ambiguity, robustness, calibration, cost.
        html: Write the page here.
        open_: Show the page in the browser; it is health.html unless --html says otherwise.
        batch_size: Pictures that the model sees at once.
    """
    from diptych import api
    from diptych.evaluation.health.page import write_page

    with terminal.Working() as working:
        found = api.health(
            model,
            data,
            n=n,
            held_out=held_out,
            tests=test,
            seed=seed,
            batch_size=batch_size,
            device=device,
            progress=working,
        )
    if json != terminal.STDOUT:
        show(found)
    terminal.write_json(found.to_json(), json)
    page = html or (Path("health.html") if open_ else None)
    if page is not None:
        terminal.note(f"wrote {write_page(found, page.expanduser(), terminal.command())}")
        if open_:
            terminal.browse(page)


def show(found: Health) -> None:
    """Print the summary, and of each row the verdict, the numbers and the sentence."""
    from rich.padding import Padding

    from diptych.evaluation.health.page import beside, interval, left_out, summary, written

    terminal.say(summary(found))
    test = ""
    for finding in found.findings:
        if finding.test != test:
            test = finding.test
            terminal.say(f"\n{test.capitalize()}")
        verdict = finding.verdict.upper() if finding.verdict == "bad" else finding.verdict
        terminal.out.print(f"  {verdict:<11}{finding.name}", style=COLOURS[finding.verdict] or None)
        if finding.estimate is not None:
            between = interval(finding, finding.estimate)
            value = f"{written(finding, finding.estimate.value)}{f' ({between})' if between else ''}"
            terminal.out.print(Padding(", ".join([value, *beside(finding)]), (0, 0, 0, INDENT)))
        terminal.out.print(Padding(f"{finding.sentence} {left_out(finding)}".rstrip(), (0, 0, 0, INDENT)))
    terminal.say(f"\nBy bad luck alone at most {found.by_luck():.1f} rows would be red.")
