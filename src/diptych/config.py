"""Configs are frozen nested dataclasses; this reads them strictly from dicts, files and the command line.

pydantic does the checking: an unknown key, a wrong type or a value outside a `Literal` is one sentence that names the
field. A field that can hold one of several dataclasses is told apart by their literal `kind` field.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from diptych.types import InputError

T = TypeVar("T")


def strict(cls: type[T]) -> type[T]:
    """Class decorator for config dataclasses: an unknown key is an error."""
    cls.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
    return cls


def parse(cls: type[T], data: Mapping[str, Any], source: str = "config") -> T:
    """Build `cls` from plain data. Raises `InputError` naming `source`, the dotted field and what was expected."""
    try:
        return TypeAdapter(cls).validate_python(dict(data))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "(top)"
        if first["type"] == "unexpected_keyword_argument":
            raise InputError(f"{source}: unknown key '{where}'") from None
        if first["type"] == "value_error":  # a check of the dataclass itself, which names its field
            raise InputError(f"{source}: {first['ctx']['error']}") from None
        raise InputError(f"{source}: {where}: {first['msg']}, got {first['input']!r}") from None


def as_dict(config: Any) -> dict[str, Any]:
    """The config as plain nested data, ready for JSON."""
    return dataclasses.asdict(config)


def override(config: T, assignments: Mapping[str, str], source: str = "command line") -> T:
    """A copy of `config` with dotted fields set, e.g. `{"vision.width": "192"}`. Values are text; fields give types.

    JSON is understood where text is not enough: `{"groups": '[["visual", null]]'}`.
    """
    data = as_dict(config)
    for dotted, text in assignments.items():
        *parents, leaf = dotted.split(".")
        node = data
        for name in parents:
            if not isinstance(node.get(name), dict):
                raise InputError(f"{source}: unknown key '{dotted}'")
            node = node[name]
        if leaf not in node:
            raise InputError(
                f"{source}: unknown key '{dotted}'; '{'.'.join(parents) or 'top level'}' has {', '.join(node)}"
            )
        node[leaf] = _plain(text)
    return parse(type(config), data, source)


def read_file(path: str | Path) -> dict[str, Any]:
    """A config file, JSON or TOML, as plain data."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as {'TOML' if path.suffix == '.toml' else 'JSON'}: {error}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected an object with named fields, got {type(data).__name__}")
    return data


def _plain(text: str) -> Any:
    """`text` as JSON where it is a list, an object, a number, a boolean or null; otherwise as it stands."""
    if text and (text[0] in "[{-0123456789" or text in ("true", "false", "null")):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text
