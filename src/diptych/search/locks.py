"""Many readers or one writer, in turns; and one writing process at a time for a folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system: only threads are kept apart there
    fcntl = None  # type: ignore[assignment]


class ReadWriteLock:
    """Readers share, writers are alone. Readers who waited for a writer go before the next one, so neither starves."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writing = False
        self._readers_waiting = 0
        self._writers_waiting = 0
        self._admitted = 0  # waiting readers who go before the next writer

    @contextmanager
    def read(self) -> Iterator[None]:
        with self._changed:
            if self._writing or self._writers_waiting:
                self._readers_waiting += 1
                try:
                    self._changed.wait_for(lambda: not self._writing and (self._admitted or not self._writers_waiting))
                finally:
                    self._readers_waiting -= 1
                    self._admitted = max(0, self._admitted - 1)
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def write(self) -> Iterator[None]:
        with self._changed:
            self._writers_waiting += 1
            try:
                self._changed.wait_for(lambda: not (self._writing or self._readers or self._admitted))
                self._writing = True
            finally:
                self._writers_waiting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._admitted = self._readers_waiting
                self._changed.notify_all()


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Wait until no other process holds `folder`, then hold it. A process that ends, even killed, lets go."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "wb") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
