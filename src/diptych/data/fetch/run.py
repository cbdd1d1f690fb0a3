"""A fetch from table to dataset: what was settled earlier stays, what is open or may have passed is asked for."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import NamedTuple

from diptych.data.fetch.crawl import Crawl
from diptych.data.fetch.options import FetchOptions
from diptych.data.fetch.output import Output, retried_reasons
from diptych.data.fetch.reasons import PASSING
from diptych.data.fetch.report import write_report
from diptych.data.fetch.survey import Survey
from diptych.data.fetch.tables import open_table
from diptych.data.importing import Progress

log = logging.getLogger("diptych")


class FetchReport(NamedTuple):
    """What a run left.

    Attributes:
        folder: the dataset.
        rows: of the table. `fetched`, `merged`, `failed` and `not_tried` add up to it.
        fetched: rows whose picture is in the dataset.
        merged: rows that gave their captions to an earlier row of the same URL.
        failed: reason -> rows.
        not_tried: rows that this run had no time for.
        requests: made in this run, robots.txt and redirects included.
        seconds: of this run.
        hosts: host -> reason -> rows, for the hosts with the most failures.
    """

    folder: Path
    rows: int
    fetched: int
    merged: int
    failed: dict[str, int]
    not_tried: int
    requests: int
    seconds: float
    hosts: dict[str, dict[str, int]]


def fetch(
    table: str | Path,
    to: str | Path,
    options: FetchOptions | None = None,
    progress: Progress | None = None,
) -> FetchReport:
    """Fetch the pictures of a table of URLs into a dataset folder.

    A run that was killed, or that left failures, is continued by the same call: what is there is not asked for again,
    and of the failures those that may have passed (see `reasons.PASSING`) and those that `options.retry` names are.

    Args:
        table: a dataset or table whose rows have a URL, by path or address.
        to: the dataset's folder, new, empty, or of an earlier run with the same table.
        options: bounds and manners; see `FetchOptions`.
        progress: called with (rows read, None) while the table is read, then with (rows settled, rows in all).

    Raises:
        InputError: no such table, a folder of something else, aiohttp missing, or a disk that is full.
    """
    options = options or FetchOptions()
    retried = retried_reasons(options.retry, PASSING)
    opener = open_table(table)
    started = time.monotonic()
    with Output(to, str(table), options.shard_rows) as output:
        survey = Survey(opener, options.licenses, output.state, progress)
        log.info("%s: %d rows", table, survey.rows)
        output.open(survey)
        crawl = Crawl(survey, output, options, retried, progress)
        try:
            asyncio.run(crawl.run())
        finally:
            crawl.close()
        output.finish()
        counts = output.ledger.counts()
        report = FetchReport(
            folder=output.folder,
            rows=survey.rows,
            fetched=counts.pop("fetched", 0),
            merged=counts.pop("merged", 0),
            not_tried=counts.pop("open", 0),
            failed=counts,
            requests=crawl.requests,
            seconds=time.monotonic() - started,
            hosts=output.ledger.worst_hosts(),
        )
        write_report(report, str(table), output.ledger, output.state)
    return report
