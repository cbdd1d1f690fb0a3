"""How a fetch behaves. Each bound has a default that a stranger's server can live with."""

from __future__ import annotations

from dataclasses import dataclass, fields

from diptych.config import strict
from diptych.types import InputError

ALL = "all"  # in `retry`: every reason
MOST_BYTES = 256 << 20  # of one picture, which is held in memory whole


@strict
@dataclass(frozen=True)
class FetchOptions:
    """How politely, how patiently and what to fetch.

    Attributes:
        connections: URLs under way at once, over all hosts.
        per_host: requests at once to one host (scheme, name and port).
        delay: seconds between the starts of two requests to one host; a longer `Crawl-delay` of its robots.txt counts.
        attempts: requests at most for a URL that fails for a passing reason.
        backoff: seconds before the second attempt, doubled for each further one, with jitter.
        longest_wait: seconds that a `Retry-After` may ask for; if it asks for more, the host is left for another run.
        connect: seconds to resolve and connect.
        silence: seconds that a server may send nothing.
        deadline: seconds that one URL may hold a connection in all, attempts and redirects taken together.
        redirects: that are followed at most.
        max_bytes: of one picture, counted as they arrive and after decompression.
        max_pixels: of one picture, refused from its header.
        user_agent: sent with each request; its first word is the name that robots.txt and X-Robots-Tag know us by.
        robots: ask for each host's robots.txt once and obey it.
        licenses: fetch only rows whose license matches one of these (any case, `*` stands for anything); all if empty.
        allow_private: also connect to private, loopback, link-local and reserved addresses.
        minutes: start no request after so many minutes; what is left waits for the next run.
        retry: reasons of earlier failures that are tried again, besides those that may pass; "all" for every one.
        window: URLs that wait in memory for their host's turn.
        shard_rows: samples of one Parquet file; it also ends at 512 MiB of pictures.
    """

    connections: int = 64
    per_host: int = 6
    delay: float = 0.0
    attempts: int = 3
    backoff: float = 1.0
    longest_wait: float = 60.0
    connect: float = 10.0
    silence: float = 15.0
    deadline: float = 60.0
    redirects: int = 5
    max_bytes: int = 32 << 20
    max_pixels: int = 100_000_000
    user_agent: str = "diptych/0.1"
    robots: bool = True
    licenses: tuple[str, ...] = ()
    allow_private: bool = False
    minutes: float | None = None
    retry: tuple[str, ...] = ()
    window: int = 20_000
    shard_rows: int = 10_000

    def __post_init__(self) -> None:
        may_be_zero = ("delay", "backoff", "longest_wait", "redirects")
        for field in fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and not (0 < value < float("inf") or (value == 0 and field.name in may_be_zero)):
                raise InputError(f"{field.name}: expected a finite number above 0, got {value}")
        if self.max_bytes > MOST_BYTES:
            raise InputError(f"max_bytes: expected at most {MOST_BYTES:,}, got {self.max_bytes:,}")
        if not self.agent or not self.user_agent.isprintable() or not self.user_agent.isascii():
            raise InputError(f"user_agent: expected a name like 'my-crawler/1.0', got {self.user_agent!r}")

    @property
    def agent(self) -> str:
        """The name in rules for robots: "my-crawler" of "my-crawler/1.0 (+http://...)"."""
        words = self.user_agent.split("/")[0].split()
        return words[0].lower() if words else ""
