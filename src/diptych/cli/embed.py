"""`diptych embed`: pictures or texts to vectors in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from diptych.cli import terminal
from diptych.cli.options import Device, Json, ModelName, names_of, pictures
from diptych.types import InputError

if TYPE_CHECKING:
    import numpy as np


def embed(
    model: ModelName,
    /,
    *inputs: str,
    text: Annotated[list[str] | None, Parameter(name="--text")] = None,
    to: Path,
    batch_size: int = 64,
    device: Device = "auto",
    json: Json = None,
) -> None:
    """Write one L2-normalised float32 vector for each picture or text.

    Args:
        inputs: Pictures, a folder of them or a dataset; or one .txt file with a text on each line.
        text: A text; may be given several times.
        to: FILE.npy (a matrix, a row each) or FILE.parquet (columns id and vector). Pictures that cannot be read are
            left out, so take .parquet, or --json with the ids, where some may be bad.
        batch_size: Pictures or texts that the model sees at once.
    """
    from diptych import api, tasks

    to = to.expanduser()
    if to.suffix not in (".npy", ".parquet"):
        raise InputError(f"--to: expected a name that ends in .npy or .parquet, got {to}")
    texts = _texts(inputs, text)
    with terminal.Working() as working:
        options: dict[str, Any] = {"batch_size": batch_size, "device": device}
        if texts is not None:
            loaded = api.load(model, working)
            ids, rejected = texts, []
            vectors = api.embed_texts(loaded, texts, progress=working.of("texts"), **options)
        else:
            chosen = pictures(inputs, working.of("importing"))
            loaded = api.load(model, working)
            found = tasks.embed_readable_images(loaded, chosen, progress=working.of("pictures"), **options)
            names = names_of(chosen)
            ids, vectors, rejected = [names[i] for i in found.kept], found.vectors, found.rejected
    if not len(vectors):
        raise InputError(f"{' '.join(inputs)}: nothing there can be read as a picture")
    _write(to, ids, vectors)
    for row in rejected:
        terminal.note(f"left out: {row.id}: {row.reason}", "yellow")
    if json != terminal.STDOUT:
        terminal.say(f"{to}: {len(vectors):,} x {vectors.shape[1]}")
    left_out = [row._asdict() for row in rejected]
    terminal.write_json({"file": str(to), "width": vectors.shape[1], "ids": ids, "left_out": left_out}, json)


def _texts(inputs: tuple[str, ...], given: list[str] | None) -> list[str] | None:
    """The texts to embed, or None where pictures are meant."""
    files = [name for name in inputs if name.lower().endswith(".txt")]
    if not files and not given:
        stranger = next((name for name in inputs if " " in name and not Path(name).expanduser().exists()), None)
        if stranger is not None:
            raise InputError(f"{stranger}: no such file; a text is given as --text {stranger!r}")
        return None
    if len(files) < len(inputs):
        raise InputError("embed: expected either pictures or texts, got both")
    texts = list(given or [])
    for name in files:
        try:
            lines = Path(name).expanduser().read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{name}: cannot be read as UTF-8 text: {error}") from None
        texts += [line for line in lines if line.strip()]
    if not texts:
        raise InputError(f"{', '.join(files)}: expected a text on each line, found none")
    return texts


def _write(to: Path, ids: list[str], vectors: np.ndarray[Any, Any]) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    to.parent.mkdir(parents=True, exist_ok=True)
    if to.suffix == ".npy":
        np.save(to, vectors)
        return
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    names = [terminal.printable(id) for id in ids]
    pq.write_table(pa.table({"id": names, "vector": column}), to)
