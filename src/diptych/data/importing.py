"""From a raw source to a dataset: each row's pictures are decoded once to prove them; the row is kept or counted.

Rows kept plus rows rejected equal the rows seen. Pictures keep their original bytes. The work is done by threads, the
order is the source's.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

from diptych.data import formats
from diptych.data.formats import Row, Rows
from diptych.data.live import LIVE, open_live
from diptych.data.store import Dataset, DatasetWriter, is_store
from diptych.images import BadImage, decode, read_bytes
from diptych.paths import cache_dir
from diptych.types import InputError, Rejected

log = logging.getLogger("diptych")

IMPORT_VERSION = 2  # raised when an import of the same source would give other rows
AHEAD_PER_THREAD = 8  # rows read and checked before they are written

_KIND = re.compile(r"([a-z][a-z0-9-]+):")  # two letters at least: "C:" is a drive

Progress = Callable[[int, int | None], None]


class ImportReport(NamedTuple):
    """What an import did.

    Attributes:
        rows: samples in the new dataset.
        rejected: reason -> number of rows in its quarantine.
        format: what the source was recognised as.
        folder: where the dataset stands.
        merged: rows that gave their captions to an earlier row of the same picture.
    """

    rows: int
    rejected: dict[str, int]
    format: str
    folder: Path
    merged: int = 0

    @property
    def seen(self) -> int:
        """Rows of the source, rows of one picture counted once."""
        return self.rows + sum(self.rejected.values())


def import_dataset(
    source: str | Path,
    to: str | Path,
    progress: Progress | None = None,
    *,
    name: str | None = None,
    root: str | Path | None = None,
    threads: int | None = None,
) -> ImportReport:
    """Read a raw source into a new dataset folder, all or nothing.

    Args:
        source: a path, whose format is recognised, or an address that names it ("coco:ROOT?split=val2017").
        to: the new dataset's folder; an older dataset of that place is replaced.
        progress: called with (rows done, rows in all or None).
        name: the dataset's name; the source's by default.
        root: the folder from which picture paths start and which they must not leave; the source's own by default.
        threads: worker threads; one a core by default.

    Raises:
        InputError: the source is of no known kind, or the target is taken by something else.
    """
    kind, rows, path = _open(source)
    log.info("recognised %s as %s", path or source, rows.found)
    base = locate(str(root)).path if root is not None else _root(rows, path)
    notes = {"read_as": kind, "merged": rows.merged}
    stem = path.stem if path is not None else kind
    with DatasetWriter(to, name=name or stem, source=str(path or source), notes=notes) as writer:
        for done, row in enumerate(_checked(rows.items, base, threads or os.cpu_count() or 1), 1):
            if isinstance(row, Rejected):
                writer.reject(row)
            else:
                writer.write(row)
            if progress is not None:
                progress(done, rows.total)
    rejected = dict(writer.rejected.most_common())
    log.info("%s: %d rows, %d rejected%s", writer.folder, writer.rows, sum(rejected.values()), _reasons(rejected))
    return ImportReport(writer.rows, rejected, kind, writer.folder, rows.merged)


def cached_import(source: Address, progress: Progress | None = None) -> Dataset:
    """The dataset made from a raw source, imported into the cache once and again when its files have changed."""
    path = source.path
    kind = source.kind or formats.recognise(path)
    listing = _listing(path, formats.FORMATS[kind].listing(path, **source.options))
    place = hashlib.blake2b(os.fsencode(path), digest_size=8)
    place.update(repr((source.kind, sorted(source.options.items()))).encode() if source.kind else b"")
    folder = cache_dir() / "datasets" / f"{path.stem}-{place.hexdigest()}"
    note = folder / "listing"
    try:
        if note.read_text() == listing:
            log.info("%s: %s, imported earlier", path, kind)
            return Dataset.open(folder)
    except (OSError, InputError):
        pass
    import_dataset(str(source), folder, progress)
    note.write_text(listing)
    return Dataset.open(folder)


class Address(NamedTuple):
    """Where raw data lies: `kind:path?option=value&...`, or a bare path, whose kind is recognised."""

    kind: str | None
    path: Path
    options: dict[str, str]

    def __str__(self) -> str:
        query = "?" + urlencode(self.options) if self.options else ""
        return f"{self.kind}:{self.path}{query}" if self.kind else str(self.path)


def split_address(address: str | Path) -> tuple[str | None, str, dict[str, str]]:
    """(kind, rest, options) of "kind:rest?option=value"; the kind of anything else is None and it is taken whole.

    Raises:
        InputError: an option is given twice or has no value.
    """
    found = _KIND.match(address) if isinstance(address, str) else None
    if found is None or Path(address).exists():  # a colon may stand in a file's name
        return None, str(address), {}
    rest, _, query = str(address)[found.end() :].partition("?")
    try:
        pairs = parse_qsl(query, strict_parsing=True) if query else []
    except ValueError:
        raise InputError(f"{address}: expected options like ?name=value&name=value, got '{query}'") from None
    if len(dict(pairs)) < len(pairs):
        raise InputError(f"{address}: an option is given twice")
    return found[1], rest, dict(pairs)


def locate(source: str | Path) -> Address:
    """The address of existing raw data. Raises `InputError` for an unknown kind or option, or where nothing lies."""
    kind, rest, options = split_address(source)
    if kind is not None and kind not in formats.FORMATS:
        raise InputError(f"{source}: no format '{kind}'; the formats are {', '.join((*formats.FORMATS, *LIVE))}")
    path = Path(rest).expanduser()
    if not rest or not path.exists():
        raise InputError(f"{source or '(empty address)'}: no such file or folder")
    if kind is not None:
        formats.check_options(kind, options)
    return Address(kind, path.resolve(), options)


def _open(source: str | Path) -> tuple[str, Rows, Path | None]:
    """The kind of a source, its rows, and where it lies if that is one place."""
    kind, rest, options = split_address(source)
    if kind is not None and kind in LIVE and kind in formats.FORMATS:  # its path may be a pattern of several files
        formats.check_options(kind, options)
        path = Path(rest).expanduser().resolve()
        return kind, formats.FORMATS[kind].read(path, **options), path if path.exists() else None
    if kind is not None and kind in LIVE:
        dataset = open_live(kind, rest, options)
        return kind, Rows(f"{kind}, {len(dataset):,} samples", iter(dataset), len(dataset)), None
    at = locate(source)
    if at.kind in (None, "parquet") and is_store(at.path):
        dataset = Dataset.open(at.path)
        return "diptych", Rows(f"a Diptych dataset of {len(dataset):,} samples", iter(dataset), len(dataset)), at.path
    name = at.kind or formats.recognise(at.path)
    return name, formats.FORMATS[name].read(at.path, **at.options), at.path


def _root(rows: Rows, path: Path | None) -> Path:
    """The folder that the rows' picture paths start from."""
    if rows.root is not None or path is None:
        return (rows.root or Path()).resolve()
    return path if path.is_dir() else path.parent


def _checked(rows: Iterable[Row], root: Path, threads: int) -> Iterator[Row]:
    """The rows in order, with their pictures' bytes, each proved by decoding it; a bounded number is under way."""
    waiting: deque[Future[Row]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="import") as pool:
        try:
            for row in rows:
                waiting.append(pool.submit(_check, row, root))
                if len(waiting) >= threads * AHEAD_PER_THREAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _check(row: Row, root: Path) -> Row:
    if isinstance(row, Rejected):
        return row
    try:
        for image in row.images:
            if image.data is None:
                image.data = read_bytes(_locate(image.path or "", root))
            decode(image.data, target=1)  # reads every byte; large JPEGs are proved at a fraction of their size
    except BadImage as error:
        return Rejected(row.id, error.reason, error.detail)
    return row


def _locate(path: str, root: Path) -> Path:
    """Where a path of the source leads. It must stay within `root` as written; links in it are the owner's affair."""
    if "://" in path:
        raise BadImage("image not on disk", f"{path}: download it first")
    full = Path(os.path.normpath(root / path))
    if not full.is_relative_to(root):
        raise BadImage("path outside the folder", f"{path} leaves {root}; `root=` names another folder to start from")
    return full


def _listing(path: Path, files: Iterable[Path]) -> str:
    """A hash of names, sizes and times of all files of a source."""
    digest = hashlib.blake2b(f"{IMPORT_VERSION}".encode(), digest_size=16)
    for file in files:
        try:
            status = file.stat()
            digest.update(os.fsencode(file) + f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        except (OSError, ValueError):
            digest.update(repr(file).encode() + b"\0missing\n")
    return digest.hexdigest()


def _reasons(rejected: dict[str, int]) -> str:
    return "".join(f"; {n} {reason}" for reason, n in rejected.items())
