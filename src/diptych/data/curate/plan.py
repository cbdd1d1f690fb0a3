"""A curation plan: an ordered list of steps with their settings, read from a small TOML or JSON file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import Field

from diptych.config import as_dict, parse, read_file, strict
from diptych.data.curate.balancing import Balance
from diptych.data.curate.captions import Captions, Tags
from diptych.data.curate.duplicates import Duplicates
from diptych.data.curate.leak_step import Leaks
from diptych.data.curate.limits import Cap, Uncaptioned
from diptych.data.curate.pictures import Aspect, PictureSize, Readable
from diptych.data.curate.texts import Alphabet, Language, TextLength
from diptych.data.curate.with_models import SemanticDuplicates, Similarity
from diptych.types import InputError

AnyStep = Annotated[
    Tags
    | Captions
    | Uncaptioned
    | TextLength
    | Alphabet
    | Language
    | Readable
    | PictureSize
    | Aspect
    | Similarity
    | Duplicates
    | SemanticDuplicates
    | Leaks
    | Balance
    | Cap,
    Field(discriminator="do"),
]

NAMES: tuple[str, ...] = tuple(cls.do for cls in get_args(get_args(AnyStep)[0]))
"""What `do` can say in a plan's file."""

DEFAULT = (Tags(), Captions(), Uncaptioned(), Duplicates(), Cap(per="caption", most=20), Cap(per="creator", most=1000))
"""For a scrape of pictures with titles, tags and file names: better captions, no repeats, nobody in excess."""


@strict
@dataclass(frozen=True)
class Plan:
    """The steps of a curation in the order in which they run; a kind of step may stand several times.

    Attributes:
        steps: each `{"do": NAME, ...}` in a file.
        seed: decides everything that is drawn: which rows a cap keeps, which examples are shown.
    """

    steps: tuple[AnyStep, ...] = DEFAULT
    seed: int = 0

    def fingerprint(self) -> str:
        """A hash of all settings: equal plans on equal data give equal datasets."""
        text = json.dumps(as_dict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def read_plan(path: str | Path, defaults: Mapping[str, Any] | None = None) -> Plan:
    """A plan from a TOML or JSON file; `defaults` fill what the file does not say.

    Raises:
        InputError: naming the file and the field.
    """
    data = {**(defaults or {}), **read_file(path)}
    for place, step in enumerate(data["steps"] if isinstance(data.get("steps"), list) else ()):
        if not isinstance(step, dict) or step.get("do") not in NAMES:
            got = step.get("do") if isinstance(step, dict) else step
            raise InputError(f"{path}: steps.{place}: do: expected {', '.join(NAMES)}; got {got!r}")
    return parse(Plan, data, str(path))
