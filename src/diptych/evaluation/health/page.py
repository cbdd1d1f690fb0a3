"""The health page: one self-contained HTML file, and how its numbers are written everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from diptych.evaluation.health.finding import Curve, Finding, percent, points
from diptych.evaluation.health.run import Health
from diptych.evaluation.report import render
from diptych.evaluation.report.build import environment as facts
from diptych.evaluation.report.pictures import Thumbnails
from diptych.evaluation.report.sections import Notes, Report, Section
from diptych.types import Estimate

ASKS = {
    "word order": "Two texts of the same words, one true of the picture: does it know which?",
    "nonsense": "What does it make of things that are not in the picture?",
    "unseen combinations": "Does it know what it has seen only in parts?",
    "spurious correlation": "Does it look at the thing, or at what usually goes with it?",
    "ambiguity": "How much do captions tell of their own picture?",
    "robustness": "The picture's own caption among four, while the picture gets worse.",
    "calibration": "Is it right as often as it is sure?",
    "cost": "On this machine.",
}
TEMPLATES = Path(__file__).parent / "templates"
ROWS_SHOWN, PICTURES_SHOWN = 6, 4  # of failures
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, MARGIN = 260, 150, 34, 24, 8, 20  # of a curve


def write_page(health: Health, path: str | Path, command: str = "") -> Path:
    """Write the page to `path` and return it; folders on the way are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(health, command), encoding="utf-8")
    return path


def page(health: Health, command: str = "") -> str:
    """The page as HTML, in the dress of all reports."""
    look = Environment(
        loader=FileSystemLoader([TEMPLATES, render.TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    look.globals.update(thumbnail=Thumbnails())
    curves = [{"title": c.title, "svg": curve_svg(c)} for f in health.findings for c in f.curves]
    failed = _one_of_each_test(health.findings)[:ROWS_SHOWN]
    shown = [{"test": f.test, "name": f.name, "failures": f.failures[:PICTURES_SHOWN]} for f in failed]
    parts: list[tuple[Section, str]] = [
        (
            Section(
                title="What was found", note="Each row asks one question. The sentence says what the answer means."
            ),
            look.get_template("rows.html").render(rows=[_row(f) for f in health.findings], asks=ASKS),
        )
    ]
    if curves:
        parts.append((Section(title="Curves"), look.get_template("curves.html").render(curves=curves)))
    if shown:
        note = "What went wrong by most, first in the red rows of each test. Look whether it is the model or the label."
        parts.append(
            (Section(title="Worst failures", note=note), look.get_template("failures.html").render(rows=shown))
        )
    notes = Notes(title="How to read this page", items=reading(health))
    parts.append((notes, look.get_template("notes.html").render(section=notes)))
    report = Report(f"Health of {health.model}", summary(health), [s for s, _ in parts], command, facts())
    bodies = [Markup(body) for _, body in parts]  # noqa: S704  (made by templates that escape)
    return look.get_template("page.html").render(report=report, bodies=bodies, version=_version())


def _one_of_each_test(findings: Sequence[Finding]) -> list[Finding]:
    """Those with pictures of failures, red ones first, and of each test one before any test's second."""
    shown = sorted((f for f in findings if f.failures), key=lambda f: f.verdict != "bad")
    earlier = {id(f): sum(other.test == f.test for other in shown[:i]) for i, f in enumerate(shown)}
    return sorted(shown, key=lambda f: earlier[id(f)])


def summary(health: Health) -> str:
    """One or two sentences: how many rows are what, and the worst of them."""
    count = health.counts()
    judged = sum(count[verdict] for verdict in ("good", "bad", "unclear"))
    said = (
        f"{judged} rows judged on {health.samples:,} samples of {health.data}: {count['good']} good,"
        f" {count['bad']} bad, {count['unclear']} unclear; {count['not judged']} could not be judged."
    )
    bad = [finding for finding in health.findings if finding.verdict == "bad"]
    if bad:
        tests = list(dict.fromkeys(finding.test for finding in bad))
        said += f" Look first at {', '.join(tests[:-1]) + ' and ' if len(tests) > 1 else ''}{tests[-1]}."
    return f"{said} Questions: {health.usage}." if health.usage else said


def reading(health: Health) -> list[str]:
    """What a reader should know before acting."""
    return [
        "Green and red come from 95 % intervals alone, never from the value: what the interval does not show is grey.",
        f"Every red row has a chance of at most 2.5 % for each interval to be red by bad luck; with all true values on"
        f" their lines, {health.by_luck():.1f} of these rows would be red. One red row alone is a hint, several of one"
        " test are a finding.",
        "The line of a share of right answers lies halfway between guessing and perfect. A gap between two groups is"
        " bad from 5 points on, a loss of robustness from half of the lead over guessing on, a calibration error from"
        " 10 points on.",
        "The guesser that never looks learns from the same captions and their wrong texts, cross-validated. Where it"
        " gets above the line, the wrong texts can be told by their wording: a high score is no sign of sight, and the"
        " row does not become green.",
        "A row that is not judged says what it needs. It counts neither for nor against the model.",
    ]


def written(finding: Finding, value: float) -> str:
    """A value with its unit."""
    if finding.unit == "share":
        return f"{100 * value:.0f} %"
    if finding.unit == "points":
        return f"{'-' if round(100 * value) < 0 else ''}{points(value)}"
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
    return f"{number} {finding.unit}"


def interval(finding: Finding, estimate: Estimate) -> str:
    """Both ends, without the unit; "" where nothing was drawn by lot."""
    if estimate.low == estimate.high and estimate.n <= 1:
        return ""
    low, high = (
        written(finding, end).removesuffix(finding.unit).removesuffix("%").removesuffix("point").strip()
        for end in estimate[1:3]
    )
    return f"{low} – {high}"


def beside(finding: Finding) -> list[str]:
    """What the value is to be compared with: guessing and the control, each with its name."""
    estimate, control = finding.estimate, finding.control
    texts = [] if estimate is None or estimate.chance is None else [f"guessing {written(finding, estimate.chance)}"]
    if control is not None:
        shown = percent(control.value) if finding.unit == "points" else written(finding, control.value)
        texts.append(f"{finding.control_name} {shown}")
    return texts


def left_out(finding: Finding) -> str:
    """What could not be judged, and why; "" where all could."""
    if not finding.left_out:
        return ""
    return f"Left out: {', '.join(f'{count:,} {reason}' for reason, count in finding.left_out.items())}."


def _row(finding: Finding) -> dict[str, Any]:
    row: dict[str, Any] = {"finding": finding, "style": {"not judged": "none"}.get(finding.verdict, finding.verdict)}
    row["left_out"] = left_out(finding)
    estimate, control = finding.estimate, finding.control
    if estimate is None:
        return row
    row |= {"value": written(finding, estimate.value), "interval": interval(finding, estimate)}
    row |= {"beside": " · ".join(beside(finding)), "track": None}
    if finding.unit in ("share", "AUROC", "ECE"):
        line = finding.details.get("line")
        row["track"] = {
            "low": _place(estimate.low),
            "width": round(_place(estimate.high) - _place(estimate.low), 2),
            "value": _place(estimate.value),
            "chance": None if estimate.chance is None else _place(estimate.chance),
            "line": None if line is None else _place(line),
            "control": None if control is None else _place(control.value),
        }
    return row


def _place(share: float) -> float:
    return round(100 * min(max(share, 0.0), 1.0), 2)


def curve_svg(curve: Curve) -> Markup:
    """Estimates with their intervals over a dial, on a scale from 0 to 1, in the page's colours."""
    ends = [*curve.x, *(x for x, _ in curve.line)]
    least, span = min(ends), (max(ends) - min(ends)) or 1.0

    def across(x: float) -> float:
        return round(LEFT + MARGIN + (WIDTH - LEFT - 2 * MARGIN) * (x - least) / span, 1)

    def up(y: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(max(y, 0.0), 1.0)), 1)

    parts = []
    for level in (0.0, 0.5, 1.0):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH}" y1="{up(level)}" y2="{up(level)}" stroke="var(--rule)"/>')
        parts.append(f'<text x="{LEFT - 4}" y="{up(level) + 3}" text-anchor="end">{100 * level:.0f} %</text>')
    if curve.line:
        dashed = " ".join(f"{across(x)},{up(y)}" for x, y in curve.line)
        parts.append(f'<polyline points="{dashed}" fill="none" stroke="var(--muted)" stroke-dasharray="4 3"/>')
        x, y = curve.line[-1]
        parts.append(f'<text x="{across(x)}" y="{up(y) + 12}" text-anchor="end">{escape(curve.line_name)}</text>')
    path = " ".join(f"{across(x)},{up(e.value)}" for x, e in zip(curve.x, curve.y))
    parts.append(f'<polyline points="{path}" fill="none" stroke="var(--series-0)" stroke-width="2"/>')
    ticks = curve.ticks or [f"{x:.2g}" for x in curve.x]
    shown = -1e9
    for x, estimate, tick in zip(curve.x, curve.y, ticks):
        at = across(x)
        parts.append(
            f'<line x1="{at}" x2="{at}" y1="{up(estimate.low)}" y2="{up(estimate.high)}" stroke="var(--series-0)"'
            ' stroke-width="5" opacity=".35"/>'
        )
        parts.append(f'<circle cx="{at}" cy="{up(estimate.value)}" r="3" fill="var(--series-0)"/>')
        if at - shown >= 30:  # else the labels of two points would run into each other
            parts.append(f'<text x="{at}" y="{HEIGHT - 8}" text-anchor="middle">{escape(tick)}</text>')
            shown = at
    told = "; ".join(f"{tick}: {100 * e.value:.0f} %" for tick, e in zip(ticks, curve.y))
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(curve.title)}: {escape(told)}">'
        f"{''.join(parts)}</svg>"
    )


def _version() -> str:
    try:
        return version("diptych")
    except PackageNotFoundError:  # run from a source tree
        return "(source tree)"
