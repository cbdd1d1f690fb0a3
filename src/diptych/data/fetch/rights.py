"""What a host says about being read by machines: robots.txt (RFC 9309), X-Robots-Tag and TDM-Reservation headers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from urllib.robotparser import RobotFileParser

FORBIDDING = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})  # "none" is noindex and nofollow
VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})


def header_refusal(tags: Iterable[str], reservations: Iterable[str], agent: str) -> tuple[str, str] | None:
    """(reason, detail) where the headers of an answer forbid use by `agent`, else None.

    A directive that stands behind a name ("googlebot: noindex, nofollow") counts for that name alone, up to the next
    name.

    Args:
        tags: the values of all `X-Robots-Tag` headers.
        reservations: the values of all `TDM-Reservation` headers.
        agent: our name, in lower case.
    """
    for tag in tags:
        name = None
        for part in tag.lower().split(","):
            first, colon, rest = part.partition(":")
            directive = part.strip()
            if colon and first.strip() not in VALUED:
                name, directive = first.strip(), rest.strip()
            if directive in FORBIDDING and name in (None, "*", agent):
                return "refused by X-Robots-Tag", tag[:200]
    if any(value.strip() == "1" for value in reservations):
        return "refused by TDM-Reservation", "1"
    return None


class Robots:
    """The rules of one host. `text` is its robots.txt; "" allows everything."""

    def __init__(self, text: str, agent: str) -> None:
        self._agent = agent
        self._rules = RobotFileParser()
        self._rules.parse(text.splitlines())

    def allows(self, url: str) -> bool:
        """Whether we may ask for `url`."""
        return self._rules.can_fetch(self._agent, url)

    @property
    def delay(self) -> float:
        """Seconds between two requests that the host asks for."""
        try:
            seconds = float(self._rules.crawl_delay(self._agent) or 0)
        except (TypeError, ValueError):
            return 0.0
        return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
