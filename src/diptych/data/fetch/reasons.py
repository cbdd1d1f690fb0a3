"""Why a row has no picture: a few short kinds, told apart by whether asking again may help."""

from __future__ import annotations


class Failed(Exception):
    """One attempt that gave no picture.

    Attributes:
        reason: a short kind that is counted.
        detail: what exactly.
        status: the HTTP status, if there was one.
        wait: seconds that the server asked to wait.
    """

    def __init__(self, reason: str, detail: str = "", status: int | None = None, wait: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.status = status
        self.wait = wait


PASSING = frozenset(
    {
        "host not found",
        "connection refused",
        "connection failed",
        "connection reset",
        "connection time-out",
        "no answer in time",
        "deadline passed",
        "host given up",
        "too many requests",
        "server error",
        "answer not valid",
        "robots.txt unavailable",
        "image truncated",
    }
)
"""May pass: tried again within a run, and by the next run."""

LASTING = frozenset(
    {
        "not found",
        "gone",
        "forbidden",
        "request refused",
        "status unexpected",
        "certificate not valid",
        "url not valid",
        "redirect loop",
        "redirect not valid",
        "too many redirects",
        "private address",
        "refused by robots.txt",
        "refused by X-Robots-Tag",
        "refused by TDM-Reservation",
        "file too large",
        "encoding not supported",
        "image empty",
        "image too large",
        "image corrupt",
        "image not recognised",
        "image not supported",
    }
)
"""Asked for again only on request."""

HOST_TROUBLE = frozenset(
    {
        "host not found",
        "connection refused",
        "connection failed",
        "connection reset",
        "connection time-out",
        "certificate not valid",
        "no answer in time",
        "deadline passed",
    }
)
"""Many of these in a row, and the host is given up."""

REQUESTED = PASSING | LASTING
"""All reasons that a request can end with; any other reason stands in the table itself and costs no request."""


def of_status(status: int) -> str:
    """The reason for an HTTP status that brings no picture."""
    known = {404: "not found", 410: "gone", 429: "too many requests", 408: "server error", 425: "server error"}
    known |= {401: "forbidden", 403: "forbidden", 451: "forbidden"}
    if status in known:
        return known[status]
    if status >= 500:
        return "server error"
    return "request refused" if status >= 400 else "status unexpected"
