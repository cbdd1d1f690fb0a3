"""`diptych data fetch`: from a table of URLs to a dataset with pictures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter

from diptych.cli import terminal
from diptych.cli.options import Json

if TYPE_CHECKING:
    from diptych.data.fetch import FetchReport

HOSTS_SHOWN = 10


@Parameter(name="*", group="Bounds")
@dataclass(frozen=True)
class Bounds:
    """How much and how long at most.

    Attributes:
        connections: URLs under way at once, over all hosts.
        per_host: Requests at once to one host.
        attempts: Requests at most, within a run, for a URL that fails for a reason that may pass.
        deadline: Seconds that one URL may take in all, attempts and redirects together.
        connect: Seconds that finding and reaching a host may take.
        silence: Seconds that a server may send nothing before it is given up.
        redirects: Redirects of one URL that are followed at most.
        max_bytes: Bytes of one picture at most; more is given up as soon as it has arrived.
        max_pixels: Pixels (width times height) of one picture at most.
        minutes: Start no request after so many minutes; the rest is left for the next run. No limit by default.
    """

    connections: int = 64
    per_host: int = 6
    attempts: int = 3
    deadline: float = 60.0
    connect: float = 10.0
    silence: float = 15.0
    redirects: int = 5
    max_bytes: int = 32 << 20
    max_pixels: int = 100_000_000
    minutes: float | None = None


@Parameter(name="*", group="Manners")
@dataclass(frozen=True)
class Manners:
    """How other people's servers are treated.

    Attributes:
        delay: Seconds between two requests to one host; a longer Crawl-delay of its robots.txt counts.
        backoff: Seconds before the second attempt, doubled for each further one.
        longest_wait: Seconds that a Retry-After may ask for; a host that asks for more is left for another run.
        user_agent: Your name for the servers, best with an address; robots.txt knows you by its first word.
        ignore_robots: Do not ask for robots.txt. What the headers of an answer forbid is honoured all the same.
        allow_private: Also connect to private and loopback addresses.
    """

    delay: float = 0.0
    backoff: float = 1.0
    longest_wait: float = 60.0
    user_agent: str = "diptych/0.1"
    ignore_robots: bool = False
    allow_private: bool = False


def fetch(
    table: str,
    /,
    *,
    to: Path,
    retry: tuple[str, ...] = (),
    retry_all: bool = False,
    license: tuple[str, ...] = (),
    bounds: Bounds = Bounds(),  # noqa: B008  (frozen)
    manners: Manners = Manners(),  # noqa: B008
    json: Json = None,
) -> None:
    """Fetch the pictures of a table of URLs. The same command goes on after a kill and asks again for what failed.

    Args:
        table: A CSV, TSV, JSON-lines or Parquet file with a column of URLs, or a dataset whose rows have a URL and no
            picture yet.
        to: The dataset's folder: a new one, or that of an earlier run with the same table.
        retry: Also ask again for rows that failed for this reason, e.g. "not found"; may be given several times.
        retry_all: Ask again for every row that failed, whatever the reason.
        license: Fetch only rows with this license, e.g. "cc-by*"; may be given several times.
    """
    from diptych.data.fetch import FetchOptions
    from diptych.data.fetch import fetch as run
    from diptych.data.fetch.options import ALL
    from diptych.data.fetch.report import facts

    kind = asdict(manners)
    robots = not kind.pop("ignore_robots")
    given = {**asdict(bounds), **kind, "robots": robots, "licenses": license}
    options = FetchOptions(**given, retry=(ALL,) if retry_all else retry)
    with terminal.Working() as working:
        report = run(table, to.expanduser(), options, working.of("rows"))
    if json != terminal.STDOUT:
        show(report)
    terminal.write_json(facts(report), json)


def show(report: FetchReport) -> None:
    """Print what a run left: rows by outcome, and the hosts with the most failures."""
    from diptych.data.fetch.report import asked_again

    table = terminal.table(str(report.folder), "", "rows", "share", "asked for again")
    outcomes = {"fetched": report.fetched, "merged": report.merged, "not tried yet": report.not_tried}
    for name, number in [*outcomes.items(), *report.failed.items()]:
        if number:
            again = asked_again(name) if name in report.failed else "by the next run" * (name == "not tried yet")
            table.add_row(name, f"{number:,}", f"{number / report.rows:.1%}", again)
    terminal.out.print(table)
    if report.hosts:
        hosts = terminal.table("", "hosts with the most failures", "rows", "of which")
        for host, reasons in list(report.hosts.items())[:HOSTS_SHOWN]:
            hosts.add_row(terminal.printable(host), f"{sum(reasons.values()):,}", terminal.reasons(reasons))
        terminal.out.print(hosts)
    terminal.say(
        f"{terminal.count(report.requests, 'request')} in {report.seconds:.1f} s; the whole report: "
        f"{report.folder / 'fetch' / 'report.html'}"
    )
