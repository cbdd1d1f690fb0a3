"""`diptych demo` as a verb; what it does is in `demo.py`, which is heavy to import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from diptych.cli import terminal
from diptych.cli.options import Device, Seed


def demo(
    *,
    out: Path = Path("demo-report"),
    open_: Annotated[bool, Parameter(name="--open")] = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Go the whole way on real pictures: clean pairs, build models three ways, judge them, search. Takes minutes.

    Args:
        out: Where the report and the models go.
        open_: Show the report in the browser.
    """
    from diptych.cli.demo import demo as run

    page = run(out.expanduser(), seed=seed, device=device)
    terminal.say(str(page))
    if open_:
        terminal.browse(page)
