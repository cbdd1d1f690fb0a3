"""The folder of a fetch: a Diptych dataset that grows shard by shard, and beside it the state, in `fetch/`.

    data-00000.parquet ...   sealed shards, each put in place by one rename
    dataset.json             written anew after each shard, so that the folder opens at any time
    quarantine.jsonl         the rows that failed, with their reasons; written at the end of a run
    fetch/log.jsonl          what became of each row
    fetch/spool-00007        the open shard, see `spool.py`
    fetch/table.json         which table this is
    fetch/lock               held by the process at work

A picture goes to the spool first and to the log second, and a spool is removed only after its shard stands. So after a
kill at any point, spool and shards say what is there, and the log can be completed from them.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from diptych.data.fetch.ledger import Ledger, Line
from diptych.data.fetch.options import ALL
from diptych.data.fetch.reasons import REQUESTED
from diptych.data.fetch.spool import Spool
from diptych.data.fetch.survey import Survey
from diptych.data.store import DatasetWriter
from diptych.data.writer import CARD, QUARANTINE, VERSION
from diptych.types import InputError, Sample

STATE = "fetch"
TABLE = "table.json"
SPOOL_BYTES = 256 << 20  # with one more picture still one Parquet file of `DatasetWriter`


class Output:
    """Keeps what a fetch brings; use it as a context manager. One thread at a time."""

    def __init__(self, folder: str | Path, table: str, shard_rows: int) -> None:
        self.folder = Path(os.path.realpath(Path(folder).expanduser()))
        self.state = self.folder / STATE
        self._table = table
        self._shard_rows = shard_rows
        self._spool: Spool | None = None
        self._shard_sizes: dict[str, int] = {}

    def __enter__(self) -> Self:
        if self.folder.exists() and not self.state.is_dir() and not _empty_folder(self.folder):
            raise InputError(f"{self.folder}: exists and was not made by a fetch; give an empty or a new folder")
        with disk(self.folder):
            self.state.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.state / "lock", timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise InputError(f"{self.folder}: another fetch is at work there") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._spool is not None:
            self._spool.close()
            self.ledger.close()
        self._lock.release()

    def open(self, survey: Survey) -> None:
        """Take up the state that is there. Raises `InputError` if it belongs to another table."""
        with disk(self.folder):
            self._claim(survey)
            shutil.rmtree(self.state / "sealing", ignore_errors=True)
            shards = {number for number, _ in self._shards()}
            spools = sorted(int(path.name[6:]) for path in self.state.glob("spool-*"))
            for number in shards.intersection(spools):  # sealed, and killed before the spool was removed
                (self.state / f"spool-{number:05d}").unlink()
            number = max(set(spools) - shards, default=max(shards, default=-1) + 1)
            self.ledger = Ledger(self.state / "log.jsonl", survey.rows)
            doubted = self.ledger.load(shards, unsure=number)
            self._spool = Spool(self.state, number)
            self._confirm(doubted)
            self._write_card()

    def keep(self, lines: list[Line], sample: Sample) -> None:
        """Keep a picture with its sample; `lines` are of its row and of those merged into it."""
        assert self._spool is not None
        for line in lines:
            line["shard"] = self._spool.number
        with disk(self.folder):
            self._spool.add(lines, sample)
            self.ledger.write(lines)
            if len(self._spool.records) >= self._shard_rows or self._spool.size >= SPOOL_BYTES:
                self._seal()

    def note(self, lines: list[Line]) -> None:
        """Note rows that failed."""
        with disk(self.folder):
            self.ledger.write(lines)

    def finish(self) -> None:
        """Seal what is open and write what failed."""
        assert self._spool is not None
        with disk(self.folder):
            if self._spool.records:
                self._seal()
            part = self.folder / f".{QUARANTINE}.part"
            with part.open("w", encoding="utf-8") as file:
                for line in self.ledger.failures():
                    rejected = {"id": line["id"], "reason": line["reason"], "detail": line.get("detail") or ""}
                    file.write(json.dumps(rejected) + "\n")
            part.replace(self.folder / QUARANTINE)
            self._write_card()
            self.ledger.sync()

    # ------------------------------------------------------------ parts

    def _claim(self, survey: Survey) -> None:
        """Write down which table this folder is of, or see that it is the same."""
        path = self.state / TABLE
        own = {"table": self._table, "rows": survey.rows, "digest": survey.digest}
        try:
            known = json.loads(path.read_bytes())
        except FileNotFoundError:
            _write(path, own)
            return
        except ValueError:
            raise InputError(f"{path}: cannot be read; remove {self.state} to begin anew") from None
        if known.get("digest") != survey.digest:
            raise InputError(
                f"{self.folder}: was begun from another table, or this one or its --license has changed since; "
                f"it had {known.get('rows')} rows, now {survey.rows}; give a new folder"
            )

    def _confirm(self, doubted: dict[int, Line]) -> None:
        """Let the spool say which pictures of the open shard are there; complete the log by it."""
        assert self._spool is not None
        for record in self._spool.recover():
            known = [line for line in record.lines if line["row"] in doubted]
            for line in known:
                self.ledger.apply(line)
            self.ledger.write(line for line in record.lines if line["row"] not in doubted)

    def _shards(self) -> list[tuple[int, Path]]:
        paths = self.folder.glob("data-*.parquet")
        return sorted((int(path.stem[5:]), path) for path in paths if path.stem[5:].isdigit())

    def _seal(self) -> None:
        """Turn the spool into a shard. Its samples stand in the order of their rows."""
        assert self._spool is not None
        spool, sealing = self._spool, self.state / "sealing"
        self.ledger.sync()
        with DatasetWriter(sealing, rows_per_shard=len(spool.records) + 1) as writer:
            for sample in spool.samples():
                writer.write(sample)
        parts = sorted(sealing.glob("data-*.parquet"))
        assert len(parts) == 1, parts
        parts[0].rename(self.folder / f"data-{spool.number:05d}.parquet")
        self._write_card()
        spool.close()
        spool.path.unlink()
        shutil.rmtree(sealing, ignore_errors=True)
        self._spool = Spool(self.state, spool.number + 1)

    def _write_card(self) -> None:
        for _, path in self._shards():
            if path.name not in self._shard_sizes:
                self._shard_sizes[path.name] = pq.read_metadata(path).num_rows
        shards = [{"file": file, "rows": rows} for file, rows in self._shard_sizes.items()]
        counts = self.ledger.counts()
        card = {
            "format": "diptych-dataset",
            "version": VERSION,
            "name": self.folder.name,
            "source": self._table,
            "rows": sum(self._shard_sizes.values()),
            "rejected": {name: n for name, n in counts.items() if name not in ("open", "fetched", "merged")},
            "merged": counts.get("merged", 0),
            "not_tried": counts.get("open", 0),
            "shards": shards,
        }
        _write(self.folder / CARD, card)


def retried_reasons(retry: tuple[str, ...], passing: frozenset[str]) -> set[str]:
    """The reasons that a run tries again. Raises `InputError` for one that no request ends with."""
    if ALL in retry:
        return set(REQUESTED)
    for name in retry:
        if name not in REQUESTED:
            raise InputError(f"retry: no reason '{name}'; the reasons are {', '.join(sorted(REQUESTED))}, or all")
    return {*passing, *retry}


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Errors of the disk as one sentence. What was kept before stays and is found again."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        what = "the disk is full" if full else "cannot be written"
        why = error.strerror or error
        raise InputError(
            f"{folder}: {what} ({why}); what was fetched is kept, and the same command goes on from there"
        ) from None


def _write(path: Path, data: dict[str, Any]) -> None:
    """Replace a small file in one step."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            json.dump(data, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def _empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
