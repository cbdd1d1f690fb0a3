"""`diptych ask`: answers to questions about a picture, or "I cannot tell"."""

from __future__ import annotations

import json as jsons
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from diptych.cli import terminal
from diptych.cli.caption import sure
from diptych.cli.options import Device, Json, ModelName
from diptych.types import InputError, Reply

CANNOT_TELL = "I cannot tell"
ROW = "confidence tells nonsense"  # of the health report, which says from which confidence on to answer

Below = Annotated[
    str | None,
    Parameter(
        help='Say "I cannot tell" where the model is less sure than this number in [0, 1], or than the best threshold '
        "in the JSON that `diptych health MODEL --json FILE` wrote."
    ),
]


def ask(
    model: ModelName,
    picture: str,
    /,
    *questions: str,
    choices: str | None = None,
    below: Below = None,
    device: Device = "auto",
    json: Json = None,
) -> None:
    """Answer questions about a picture.

    Args:
        picture: A file.
        questions: Each in quotes.
        choices: What to answer with, separated by commas; without it the model answers in its own words.
    """
    from diptych import api, tasks
    from diptych.tasks.running import usage_of

    if not questions:
        raise InputError('ask: expected a question in quotes behind the picture, e.g. "What colour is the car?"')
    threshold = threshold_of(below)
    with terminal.Working() as working:
        loaded = api.load(model, working)
        options = None if choices is None else [choice.strip() for choice in choices.split(",") if choice.strip()]
        images = [Path(picture).expanduser()] * len(questions)
        found: tasks.Answered = api.answer(loaded, images, questions, options, device=device)
    rows: list[dict[str, Any]] = []
    for place, reply in zip(found.kept, found.replies):
        told = withheld(reply, threshold, model)
        answer = {"answer": CANNOT_TELL if told else reply.text, "confidence": reply.confidence}
        rows.append({"question": questions[place], **answer, "withheld": reply.text if told else None})
        if json != terminal.STDOUT:
            terminal.say(spoken(reply, told) if len(questions) == 1 else f"{questions[place]}  {spoken(reply, told)}")
    for row in found.rejected:
        terminal.note(f"left out: {row.id}: {row.reason}{row.detail and f' ({row.detail})'}", "yellow")
    if usage_of(loaded):
        terminal.note(usage_of(loaded))
    terminal.write_json(rows, json)
    if not rows:
        raise InputError(f"{picture}: no question could be answered: {found.rejected[0].reason}")


def spoken(reply: Reply, told: bool) -> str:
    """An answer as it is shown: "red (82 %)", or that there is none."""
    how = f" ({sure(reply)})" if reply.confidence is not None else ""
    return f"{CANNOT_TELL}{how}" if told else f"{reply.text}{how}"


def withheld(reply: Reply, threshold: float | None, model: str) -> bool:
    """Whether the model is too unsure. Raises `InputError` where it does not say how sure it is."""
    if threshold is None:
        return False
    if reply.confidence is None:
        raise InputError(f"--below: {model} does not tell how sure it is")
    return reply.confidence < threshold


def threshold_of(below: str | None) -> float | None:
    """A number, or the best threshold that a health report found.

    Raises:
        InputError: it is neither, or the report has no threshold.
    """
    if below is None:
        return None
    try:
        number = float(below)
    except ValueError:
        return _reported(Path(below).expanduser())
    if not 0 <= number <= 1:
        raise InputError(f"--below: expected a number from 0 to 1, got {below}")
    return number


def _reported(path: Path) -> float:
    try:
        rows = jsons.loads(path.read_text(encoding="utf-8"))["rows"]
        row = next(row for row in rows if row["name"] == ROW)
        threshold = row["details"].get("threshold")
        verdict, sentence = row["verdict"], row["sentence"]
    except OSError:
        raise InputError(f"--below: expected a number from 0 to 1 or a file, got '{path}'") from None
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        wanted = f"the JSON of `diptych health`, with the row '{ROW}'"
        raise InputError(f"{path}: expected {wanted}") from None
    if not isinstance(threshold, int | float):
        raise InputError(f"{path}: its row '{ROW}' has no threshold: {sentence}")
    if verdict == "bad":
        terminal.note(f"{path}: {sentence}", "yellow")
    else:
        terminal.note(f"answers from {threshold:.2f} on, as {path} found best")
    return float(threshold)
