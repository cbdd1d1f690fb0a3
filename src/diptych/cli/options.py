"""Options and inputs that several verbs share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from diptych.cli.terminal import STDOUT
from diptych.types import InputError

if TYPE_CHECKING:
    from diptych.data import Dataset


def _json_file(type_: Any, to: str | None) -> None:
    path = Path(to).expanduser() if to not in (None, STDOUT) else None
    if path is not None and path.is_file() and path.read_bytes()[:64].lstrip()[:1] not in (b"", b"{", b"["):
        raise ValueError("This file exists and is not JSON, so it is left as it is.")


Json = Annotated[
    str | None,
    Parameter(
        help="Write the result as JSON to this file; - or nothing for standard output, and then only JSON goes there.",
        validator=_json_file,
    ),
]
Device = Annotated[str, Parameter(help="cpu, cuda, cuda:N or mps; auto takes the best that the machine has.")]
Seed = Annotated[int, Parameter(help="Decides everything that is drawn at random.")]
ModelName = Annotated[
    str, Parameter(help='"pocket", the folder of a model or a run, hf:ORG/NAME, or http://HOST/v1?model=NAME.')
]


def pictures(names: Sequence[str], progress: Callable[[int, int | None], None] | None = None) -> Dataset | list[Path]:
    """What a person means by some pictures.

    One name may be a dataset: a built-in one, a Diptych dataset, a table or Parquet. Otherwise each is a picture, or a
    folder whose pictures are taken with all below it; paths come back absolute.

    Raises:
        InputError: no such file, or a folder without pictures.
    """
    from diptych.data import is_address, open_dataset
    from diptych.search.folder import list_pictures

    if not names:
        raise InputError("expected at least one picture, folder or dataset")
    if len(names) == 1 and is_address(names[0]):
        return open_dataset(names[0], progress)
    found: list[Path] = []
    for name in names:
        path = Path(name).expanduser().absolute()
        if path.is_dir():
            inside = [picture.path for picture in list_pictures(path).values()]
            if not inside:
                raise InputError(f"{name}: expected a folder with pictures, found none in it")
            found += inside
        elif not path.exists():
            raise InputError(f"{name}: no such file, folder or built-in dataset ({', '.join(BUILTIN)})")
        elif len(names) == 1 and _is_table(path):
            return open_dataset(path, progress)
        else:
            found.append(path)
    return found


def names_of(images: Dataset | list[Path]) -> list[str]:
    """What to call each picture."""
    return [str(image) for image in images] if isinstance(images, list) else images.ids


def _is_table(path: Path) -> bool:
    from diptych.data import formats

    try:
        formats.recognise(path)
    except InputError:
        return False
    return True
