"""`diptych chat`: ask about a picture, line by line, in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from diptych.capabilities import AnswersQuestions
from diptych.cli import terminal
from diptych.cli.ask import Below, spoken, threshold_of, withheld
from diptych.cli.options import Device, ModelName
from diptych.types import InputError

HELP = "Each line is a question about the picture. /image PATH takes another one, /quit ends."


def chat(model: ModelName, picture: str | None = None, /, *, below: Below = None, device: Device = "auto") -> None:
    """Ask a model about a picture, line by line.

    Each line is a question; the model remembers nothing of those before it. /image PATH takes another picture, /help
    says so, /quit or the end of the input ends. Lines may come from a pipe.

    Args:
        picture: A file.
    """
    from diptych import api
    from diptych.tasks.answer import WHO
    from diptych.tasks.running import lacks, usage_of

    threshold = threshold_of(below)
    with terminal.Working() as working:
        loaded = api.load(model, working)
    if not isinstance(loaded, AnswersQuestions):
        raise lacks(loaded, "chat", WHO)
    image = None if picture is None else _image(picture)
    if sys.stdin.isatty():
        terminal.note(HELP)
    for line in _lines():
        command, _, rest = line.partition(" ")
        try:
            if command == "/quit":
                break
            if command == "/image":
                image = _image(rest.strip())
                terminal.note(f"looking at {image}")
            elif command.startswith("/"):
                terminal.note(HELP)
            elif image is None:
                terminal.note("no picture yet: /image PATH", "yellow")
            else:
                _answer(loaded, image, line, threshold, model, device)
        except InputError as error:
            terminal.note(str(error), "red")
    if usage_of(loaded):
        terminal.note(usage_of(loaded))


def _answer(loaded: Any, image: Path, question: str, threshold: float | None, model: str, device: str) -> None:
    from diptych import api

    found = api.answer(loaded, [image], [question], device=device)
    for reply in found.replies:
        terminal.say(spoken(reply, withheld(reply, threshold, model)))
    for row in found.rejected:
        terminal.note(f"no answer: {row.reason}{row.detail and f' ({row.detail})'}", "yellow")


def _image(name: str) -> Path:
    """A picture that is there and can be read. Raises `InputError`."""
    from diptych.images import BadImage, decode

    path = Path(name).expanduser()
    if not name or not path.is_file():
        raise InputError(f"/image: expected a file, got '{name}'")
    try:
        decode(path)
    except BadImage as error:
        raise InputError(f"{path}: cannot be read as a picture: {error}") from None
    return path


def _lines() -> Iterator[str]:
    """What a person types, or what comes through a pipe; empty lines are left out."""
    if sys.stdin.isatty():
        with suppress(ImportError):  # Windows has none
            import readline  # noqa: F401  (lines can be edited and called back)
    while True:
        try:
            line = input("> ") if sys.stdin.isatty() else next(sys.stdin)
        except (EOFError, StopIteration):
            return
        if line.strip():
            yield line.strip()
