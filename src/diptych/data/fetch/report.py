"""What is dead, and why: the report of a fetch as JSON and as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from diptych.data.fetch.ledger import Ledger
from diptych.data.fetch.reasons import PASSING, REQUESTED

if TYPE_CHECKING:
    from diptych.data.fetch.run import FetchReport

AGAIN, ON_REQUEST, NEVER = "by the next run", "with --retry", "never: it stands in the table"


def asked_again(reason: str) -> str:
    """Whether rows that failed for `reason` are asked for again."""
    if reason in PASSING:
        return AGAIN
    return ON_REQUEST if reason in REQUESTED else NEVER


def facts(report: FetchReport) -> dict[str, Any]:
    """The report as plain data."""
    failed = {reason: {"rows": n, "asked_again": asked_again(reason)} for reason, n in report.failed.items()}
    return {**report._asdict(), "folder": str(report.folder), "seconds": round(report.seconds, 2), "failed": failed}


def write_report(report: FetchReport, table: str, ledger: Ledger, folder: Path) -> None:
    """Write report.json and report.html into `folder`."""
    data = {"table": table, **facts(report), "bytes": ledger.bytes, "hosts_in_all": len(ledger.hosts)}
    (folder / "report.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    looks = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    looks.filters["thousands"] = "{:,}".format
    page = looks.get_template("report.html.j2").render(report=data, name=report.folder.name)
    (folder / "report.html").write_text(page, encoding="utf-8")
