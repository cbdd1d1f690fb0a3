"""What a table holds, before anything is asked: how many rows, which share a URL or an id, which cannot be fetched.

Rows are known by their number from here on. One pass keeps 16 bytes a row; what stays are the hashes that occur twice.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diptych.data.fetch.addresses import clean_url
from diptych.data.fetch.tables import Opener, url_of
from diptych.data.formats.rows import Row
from diptych.data.importing import Progress
from diptych.types import Rejected, Sample

LONGEST_ID = 200
SAID_ROWS = 10_000  # between two calls of progress
MERGED = ("id", "captions", "tags", "texts", "label", "source", "license", "url", "creator", "split")

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


class Wanted(NamedTuple):
    """A row to fetch; `others` are the later rows of the same URL."""

    row: int
    url: str
    sample: Sample
    others: list[tuple[int, Sample]]


class Refused(NamedTuple):
    """A row that no request is made for."""

    row: int
    why: Rejected


class Survey:
    """A table that was read once.

    Attributes:
        rows: how many it has.
        digest: changes with any row's URL, id or place, and with `licenses`.
    """

    def __init__(self, table: Opener, licenses: Sequence[str], folder: Path, progress: Progress | None = None) -> None:
        """Read `table`; the rows that repeat a URL lie in an unnamed file in `folder` meanwhile."""
        self._table = table
        self._licenses = [pattern.casefold() for pattern in licenses]
        urls, ids = array("Q"), array("Q")
        digest = hashlib.blake2b(repr(sorted(self._licenses)).encode(), digest_size=16)
        self.rows = 0
        for row in table():
            url, why = self._judge(row)
            marks = _hash(row.id), _hash(url or (why.reason if why else ""))
            digest.update(repr(marks).encode())
            ids.append(marks[0])
            if url is not None:
                urls.append(marks[1])
            self.rows += 1
            if progress is not None and self.rows % SAID_ROWS == 0:
                progress(self.rows, None)
        self.digest = digest.hexdigest()
        self._shared_ids = _repeated(ids)
        self._shared_urls = _repeated(urls)
        self._repeats = self._collect(folder) if len(self._shared_urls) else None

    def walk(self) -> Iterator[Wanted | Refused]:
        """Every row that leads or stands alone, in order; the others come along with the first row of their URL."""
        for number, row in enumerate(self._table()):
            url, why = self._judge(row)
            row = row._replace(id=self._id(row, number)) if isinstance(row, Rejected) else row
            if why is not None or url is None or isinstance(row, Rejected):
                yield Refused(number, (why or Rejected(row.id, "url missing"))._replace(id=self._id(row, number)))
                continue
            row.id = self._id(row, number)
            mark = _hash(url)
            if self._repeats is None or not _holds(self._shared_urls, mark):
                yield Wanted(number, url, row, [])
            elif self._repeats.leads(mark, number):
                yield Wanted(number, url, row, self._repeats.of(mark))

    def _judge(self, row: Row) -> tuple[str | None, Rejected | None]:
        """(the URL, None), or (None, why nothing is asked for this row)."""
        if isinstance(row, Rejected):
            return None, row
        try:
            url = url_of(row)
        except ValueError as error:
            return None, Rejected(row.id, "picture not by URL", str(error))
        if not url:
            return None, Rejected(row.id, "url missing")
        try:
            url = clean_url(url)
        except ValueError as error:
            return None, Rejected(row.id, "url not valid", f"{url[:200]}: {error}")
        given = (row.license or "").casefold()
        if self._licenses and not any(fnmatch.fnmatchcase(given, pattern) for pattern in self._licenses):
            return None, Rejected(row.id, "license not asked for", row.license or "none given")
        return url, None

    def _id(self, row: Row, number: int) -> str:
        """The row's id without control characters, of bounded length, and unique in the table."""
        plain = re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]+", "_", row.id)[:LONGEST_ID]
        if not plain or plain != row.id or _holds(self._shared_ids, _hash(row.id)):
            return f"{plain}#{number}"
        return plain

    def _collect(self, folder: Path) -> _Repeats:
        repeats = _Repeats(folder)
        for number, row in enumerate(self._table()):
            url, _ = self._judge(row)
            if url is not None and isinstance(row, Sample) and _holds(self._shared_urls, mark := _hash(url)):
                row.id = self._id(row, number)
                repeats.add(mark, number, row)
        repeats.close()
        return repeats


class _Repeats:
    """Rows of URLs that occur more than once, on disk, found by the URL's hash."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (it goes with this object)
        self._marks, self._rows, self._places = array("Q"), array("Q"), array("Q")
        self._end = 0

    def add(self, mark: int, row: int, sample: Sample) -> None:
        line = json.dumps([row, {name: getattr(sample, name) for name in MERGED}]).encode() + b"\n"
        self._marks.append(mark)
        self._rows.append(row)
        self._places.append(self._end)
        self._file.write(line)
        self._end += len(line)

    def close(self) -> None:
        """Make ready for look-ups."""
        self._file.flush()
        order = np.argsort(np.frombuffer(self._marks, dtype=np.uint64), kind="stable")
        self._sorted = np.frombuffer(self._marks, dtype=np.uint64)[order]
        self._order = order

    def leads(self, mark: int, row: int) -> bool:
        """Whether `row` is the first of its URL."""
        first = int(np.searchsorted(self._sorted, np.uint64(mark)))
        return self._rows[int(self._order[first])] == row

    def of(self, mark: int) -> list[tuple[int, Sample]]:
        """The rows of a URL after its first."""
        start, end = (int(np.searchsorted(self._sorted, np.uint64(mark), side)) for side in ("left", "right"))
        found = []
        for place in sorted(self._places[int(i)] for i in self._order[start + 1 : end]):
            self._file.seek(place)
            row, values = json.loads(self._file.readline())
            found.append((int(row), Sample(**values)))
        return found


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _repeated(hashes: array[int]) -> Hashes:
    """Those that occur more than once, sorted."""
    values = np.frombuffer(hashes, dtype=np.uint64).copy() if len(hashes) else np.empty(0, dtype=np.uint64)
    del hashes[:]
    values.sort()
    return np.unique(values[1:][values[1:] == values[:-1]])


def _holds(values: Hashes, value: int) -> bool:
    if not len(values):
        return False
    place = int(np.searchsorted(values, np.uint64(value)))
    return place < len(values) and int(values[place]) == value
