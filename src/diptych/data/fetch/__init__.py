"""From a table of URLs to a dataset with pictures: politely, within bounds, and resumable after any kill.

The way of a row: `tables` reads it, `survey` counts rows and finds those of one URL, `schedule` says which URL may be
asked for now, `client` asks for it, `content` proves that a picture came, `output` keeps it, `ledger` notes what
happened.
"""

from __future__ import annotations

from diptych.data.fetch.options import FetchOptions
from diptych.data.fetch.run import FetchReport, fetch

__all__ = ["FetchOptions", "FetchReport", "fetch"]
