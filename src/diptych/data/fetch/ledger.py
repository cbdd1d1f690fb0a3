"""What became of every row: a byte for each in memory, a line of JSON for each on disk.

The log is only added to. A row that is tried again gets another line, and its last one counts. A line that a kill cut
off is dropped when the log is opened.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

OPEN, FETCHED, MERGED = 0, 1, 2  # codes of a row; those after are failures, by reason
HOSTS_COUNTED = 200_000  # beyond it, those with the fewest rows are counted together
OTHER_HOSTS = "(other hosts)"

Line = dict[str, Any]


class Ledger:
    """The log of one fetch and the state that follows from it.

    Attributes:
        status: the code of each row, see `reason`.
        hosts: host -> reason -> rows; the reason of a fetched row is "fetched".
    """

    def __init__(self, path: Path, rows: int) -> None:
        self._path = path
        self.status = np.zeros(rows, dtype=np.uint8)
        self.hosts: dict[str, Counter[str]] = {}
        self.bytes = 0
        self._reasons = ["open", "fetched", "merged"]
        self._codes = {name: code for code, name in enumerate(self._reasons)}
        self._file = path.open("ab", buffering=0)
        self._end = 0

    def load(self, shards: set[int], unsure: int) -> dict[int, Line]:
        """Read the log. Lines of pictures in shards that are gone do not count.

        Those of shard `unsure`, which is still open, are returned by row, for the spool to confirm.
        """
        doubted: dict[int, Line] = {}
        good = 0
        with self._path.open("rb") as file:
            for raw in file:
                if not raw.endswith(b"\n"):
                    break
                good += len(raw)
                line = _parsed(raw, len(self.status))
                if line is None:
                    continue
                if line["status"] != "failed" and line["shard"] not in shards:
                    self.apply(line | {"status": "open"})
                    if line["shard"] == unsure:
                        doubted[line["row"]] = line
                else:
                    self.apply(line)
        self._file.truncate(good)
        self._end = good
        return doubted

    def write(self, lines: Iterable[Line]) -> None:
        """Add lines, all or none of them, and count them."""
        lines = list(lines)
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        append(self._file, data, self._end)
        self._end += len(data)
        for line in lines:
            self.apply(line)

    def apply(self, line: Line) -> None:
        """Let a line count."""
        row = line["row"]
        name = line["reason"] if line["status"] == "failed" else line["status"]
        host = line.get("host") or ""
        before = int(self.status[row])
        self.status[row] = self.code(name)
        if not host:
            return
        counts = self.hosts.setdefault(host, Counter())
        if before != OPEN:
            counts[self._reasons[before]] -= 1
        if name != "open":
            counts[name] += 1
        if name == "fetched":
            self.bytes += line.get("bytes") or 0
        if len(self.hosts) > HOSTS_COUNTED:
            self._fold_hosts()

    def code(self, name: str) -> int:
        """The code of a status or reason."""
        if name not in self._codes:
            if len(self._reasons) == 255:  # readers have a dozen; this guards a byte
                name = "other"
            if name not in self._codes:
                self._codes[name] = len(self._reasons)
                self._reasons.append(name)
        return self._codes[name]

    def reason(self, code: int) -> str:
        """The status or reason of a code."""
        return self._reasons[code]

    def counts(self) -> dict[str, int]:
        """Rows by status or reason, the most first; "open" are those that were not tried yet."""
        found = np.bincount(self.status, minlength=len(self._reasons))
        return dict(Counter({self._reasons[c]: int(n) for c, n in enumerate(found) if n}).most_common())

    def worst_hosts(self, most: int = 30) -> dict[str, dict[str, int]]:
        """host -> status or reason -> rows, for the hosts with the most failures."""
        failed = {host: n.total() - n["fetched"] - n["merged"] for host, n in self.hosts.items()}
        worst = sorted((host for host in failed if failed[host]), key=lambda host: (-failed[host], host))[:most]
        return {host: {name: n for name, n in self.hosts[host].most_common() if n} for host in worst}

    def failures(self) -> Iterator[Line]:
        """One line for each row that is failed now."""
        given = np.zeros(len(self.status), dtype=bool)
        with self._path.open("rb") as file:
            for raw in file:
                line = _parsed(raw, len(self.status))
                if line is None or line["status"] != "failed" or given[line["row"]]:
                    continue
                if self.status[line["row"]] == self.code(line["reason"]):
                    given[line["row"]] = True
                    yield line

    def sync(self) -> None:
        """Bring the log to the disk itself, so that a power cut does not take it."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _fold_hosts(self) -> None:
        """Count half of the hosts, those with the fewest rows, together."""
        other = self.hosts.pop(OTHER_HOSTS, Counter())
        by_rows = sorted(self.hosts, key=lambda host: self.hosts[host].total())
        for host in by_rows[: len(by_rows) // 2]:
            other.update(self.hosts.pop(host))
        self.hosts[OTHER_HOSTS] = other


def append(file: FileIO, data: bytes, end: int) -> None:
    """Write all of `data` at the end of a file of `end` bytes, or take back the part that could be written."""
    try:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
    except OSError:
        file.truncate(end)
        raise


def _parsed(raw: bytes, rows: int) -> Line | None:
    """A line of the log; None for what a power cut may have left of one."""
    try:
        line = json.loads(raw)
        good = 0 <= line["row"] < rows and (isinstance(line["reason"], str) if line["status"] == "failed" else True)
        return line if good and (line["status"] == "failed" or line["shard"] >= 0) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
