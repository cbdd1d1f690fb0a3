"""Which URL may be asked for now: at most so many at once per host, with its delay, and after its back-off.

No clock and no network here: times are passed in, so that the rules can be tested by themselves.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from itertools import count

from diptych.data.fetch.addresses import origin_of
from diptych.data.fetch.reasons import HOST_TROUBLE
from diptych.data.fetch.rights import Robots
from diptych.types import Sample

HOSTS_KEPT = 100_000  # robots.txt of more hosts than these may be asked for twice
GIVE_UP_AFTER = 20  # failures in a row that speak of the host and not of the file
GIVEN_UP_SECONDS = 3600.0


@dataclass(slots=True)
class Job:
    """One URL: the row that names it first, the later rows of the same URL, and how far it got.

    Attributes:
        at: where to ask next; after a redirect not `url`.
        hops: the URLs asked so far on this attempt.
        spent: seconds that it has held a connection.
    """

    row: int
    url: str
    sample: Sample
    others: list[tuple[int, Sample]]
    at: str
    hops: list[str] = field(default_factory=list)
    attempts: int = 0
    spent: float = 0.0


@dataclass(slots=True)
class Host:
    """What is known of one origin in this run."""

    origin: str
    waiting: deque[Job] = field(default_factory=deque)
    active: int = 0
    ready_at: float = 0.0
    robots: Robots | None = None
    troubles: int = 0  # in a row
    probes: int = 0  # failed requests for its robots.txt
    shut: tuple[float, str, str] | None = None  # until when, reason, detail
    listed: bool = False  # whether it stands in the heap of hosts that can start a job


class Schedule:
    """The jobs that wait, by host."""

    def __init__(self, per_host: int, delay: float, probe: bool) -> None:
        """`probe`: a host whose robots.txt is not known yet gets one job at a time."""
        self._per_host = per_host
        self._delay = delay
        self._probe = probe
        self._hosts: OrderedDict[str, Host] = OrderedDict()
        self._ready: list[tuple[float, int, Host]] = []
        self._later: list[tuple[float, int, Job]] = []
        self._ticket = count()
        self._size = 0

    def __len__(self) -> int:
        """Jobs that wait."""
        return self._size

    def add(self, job: Job) -> None:
        """Let `job` wait for its turn at the host of `job.at`."""
        host = self._host(origin_of(job.at))
        host.waiting.append(job)
        self._size += 1
        self._list(host)

    def add_later(self, job: Job, when: float) -> None:
        """The same, not before `when`."""
        heapq.heappush(self._later, (when, next(self._ticket), job))
        self._size += 1

    def start(self, now: float) -> tuple[Host, Job] | None:
        """A job that may start now; its host counts it as active until `finish`."""
        while self._later and self._later[0][0] <= now:
            self._size -= 1
            self.add(heapq.heappop(self._later)[2])
        while self._ready and self._ready[0][0] <= now:
            host = heapq.heappop(self._ready)[2]
            host.listed = False
            if host.ready_at > now:  # it was asked to wait meanwhile
                self._list(host)
                continue
            job = host.waiting.popleft()
            self._size -= 1
            host.active += 1
            pause = max(self._delay, host.robots.delay if host.robots is not None else 0.0)
            if host.shut is None:
                host.ready_at = max(host.ready_at, now + pause) if pause else host.ready_at
            self._list(host)
            return host, job
        return None

    def finish(self, host: Host) -> None:
        """A job of `host` has left its connection."""
        host.active -= 1
        self._list(host)

    def next_time(self) -> float:
        """When `start` is worth calling again; infinity if only a `finish` can change anything."""
        return min([heap[0][0] for heap in (self._ready, self._later) if heap], default=float("inf"))

    def _host(self, origin: str) -> Host:
        host = self._hosts.get(origin)
        if host is None:
            host = self._hosts[origin] = Host(origin)
            if len(self._hosts) > HOSTS_KEPT:
                self._forget()
        return host

    def _forget(self) -> None:
        """Drop the oldest tenth of the hosts as far as nothing waits for them."""
        for origin in [origin for origin, _ in zip(self._hosts, range(HOSTS_KEPT // 10))]:
            host = self._hosts[origin]
            if host.waiting or host.active:
                self._hosts.move_to_end(origin)
            else:
                del self._hosts[origin]

    def _list(self, host: Host) -> None:
        limit = 1 if self._probe and host.robots is None and host.shut is None else self._per_host
        if host.waiting and not host.listed and host.active < limit:
            host.listed = True
            heapq.heappush(self._ready, (host.ready_at, next(self._ticket), host))


def shut_reason(host: Host, now: float) -> tuple[str, str] | None:
    """Why nothing is asked of this host now, if so."""
    if host.shut is not None and now >= host.shut[0]:
        host.shut, host.troubles = None, 0
    return host.shut[1:] if host.shut is not None else None


def note_end(host: Host, reason: str | None, now: float) -> None:
    """Count failures in a row that speak of the host; after many it is given up for an hour."""
    host.troubles = host.troubles + 1 if reason in HOST_TROUBLE else 0
    if host.troubles >= GIVE_UP_AFTER:
        detail = f"{host.origin}: {host.troubles} failures in a row, the last: {reason}"
        host.shut = (now + GIVEN_UP_SECONDS, "host given up", detail)
