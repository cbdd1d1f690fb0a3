"""What a person sees: results on standard output; progress, notes and errors on standard error."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.table import Table

out = Console(markup=False, emoji=False, highlight=False)
err = Console(stderr=True, markup=False, emoji=False, highlight=False)

STDOUT = "-"
_JSON_TO_STDOUT = f"--json={STDOUT}"  # in this form cyclopts does not take the hyphen for an option
SPEAK_EVERY = 10.0  # seconds between two lines of progress where there is no terminal

_invocation: dict[str, Any] = {"words": [], "debug": False}


# ---------------------------------------------------------------- the call


def begin(tokens: Sequence[str]) -> list[str]:
    """Note how `diptych` was called and show its log; returns the words to parse: without --debug, --json with a value.

    A bare `--json`, at the end or before another option, means `--json -`.
    """
    stop = list(tokens).index("--") if "--" in tokens else len(tokens)
    own, rest = [word for word in tokens[:stop] if word != "--debug"], list(tokens[stop:])
    _invocation.update(words=list(tokens), debug=len(own) < stop)
    words: list[str] = []
    for word, following in zip(own, [*own[1:], "--"]):
        if word == STDOUT and words[-1:] == [_JSON_TO_STDOUT]:
            continue
        words.append(_JSON_TO_STDOUT if word == "--json" and following.startswith("-") else word)
    log = logging.getLogger("diptych")
    if not any(isinstance(handler, _Notes) for handler in log.handlers):
        log.addHandler(_Notes())
    log.setLevel(logging.INFO if speaks() else logging.WARNING)
    return words + rest


def speaks() -> bool:
    """Whether this process tells what it does; of those that torchrun starts only the first does."""
    return os.environ.get("RANK", "0") == "0"


def command() -> str:
    """The command line of this call, as a person would type it."""
    return shlex.join(["diptych", *_invocation["words"]])


class _Notes(logging.Handler):
    """The log as notes for a person."""

    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage(), "yellow" if record.levelno >= logging.WARNING else "dim")


# ---------------------------------------------------------------- what is said


def say(text: str = "") -> None:
    """A line of a result."""
    out.print(printable(text), soft_wrap=True)


def note(text: str, style: str = "dim") -> None:
    """A line beside the result."""
    err.print(printable(text), style=style, soft_wrap=True)


def printable(text: str) -> str:
    """`text` with bytes of file names that are no Unicode spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()


def complain(sentence: str) -> None:
    """Say what went wrong; with --debug also where."""
    if _invocation["debug"]:
        traceback.print_exc()
    note(f"diptych: {sentence}", "red")


def leave_pipe() -> None:
    """Point standard output nowhere, so that Python does not stumble over the closed pipe at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def table(title: str, *columns: str, left: int = 1) -> Table:
    """An empty table; the first `left` columns are text, the others numbers."""
    from rich import box
    from rich.table import Table

    looks: dict[str, Any] = {"title_justify": "left", "title_style": "bold", "box": box.SIMPLE_HEAD, "pad_edge": False}
    made = Table(title=title or None, show_header=any(columns), **looks)
    for i, name in enumerate(columns):
        made.add_column(name, justify="left" if i < left else "right", overflow="fold")
    return made


def count(number: int, one: str, many: str = "") -> str:
    """1 picture, 2,000 pictures."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def reasons(rejected: dict[str, int]) -> str:
    """2 image empty, 1 image truncated."""
    return ", ".join(f"{number:,} {reason}" for reason, number in rejected.items())


def browse(page: Path) -> None:
    """Show a file in the browser."""
    import webbrowser

    webbrowser.open(page.expanduser().absolute().as_uri())


# ---------------------------------------------------------------- JSON


def write_json(data: Any, to: str | None) -> None:
    """Write `data` to the file `to`, to standard output for "-", or not at all for None."""
    text = printable(json.dumps(data, indent=2, ensure_ascii=False)) + "\n"
    if to == STDOUT:
        sys.stdout.write(text)
    elif to is not None:
        path = Path(to).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


# ---------------------------------------------------------------- progress


class Working:
    """How far long work is: a bar for each kind on a terminal, elsewhere a line every few seconds.

    Call it with what is being done, how much is done and how much there is (None if that is not known). The bars go
    when all of it is done.
    """

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._spoke = time.monotonic()

    def __enter__(self) -> Working:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def __call__(self, what: str, done: int, total: int | None) -> None:
        if err.is_terminal:
            self._draw(what, done, total)
        elif time.monotonic() - self._spoke >= SPEAK_EVERY:
            self._spoke = time.monotonic()
            note(f"{what}: {done:,}" + (f" of {total:,}" if total is not None else ""))

    def of(self, what: str) -> Callable[[int, int | None], None]:
        """The same for one kind of work."""
        return lambda done, total: self(what, done, total)

    def _draw(self, what: str, done: int, total: int | None) -> None:
        finished = total is not None and done >= total
        if what not in self._tasks:
            if finished:
                return
            self._tasks[what] = self._show().add_task(what, total=total)
        self._show().update(self._tasks[what], completed=done, total=total)
        if finished:
            self._show().remove_task(self._tasks.pop(what))
        if not self._tasks:
            self._stop()

    def _show(self) -> Progress:
        if self._bars is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn())
            self._bars = Progress(*columns, console=err, transient=True)
            self._bars.start()
        return self._bars

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._bars, self._tasks = None, {}
