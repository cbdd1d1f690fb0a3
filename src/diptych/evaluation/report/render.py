"""From the sections of a report to one HTML file that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from diptych.evaluation.report.figures import loss_svg, read_curve
from diptych.evaluation.report.labels import metric
from diptych.evaluation.report.layout import pair_layout, push_apart
from diptych.evaluation.report.pictures import Thumbnails
from diptych.evaluation.report.sections import Confusion, LossCurves, MetricTable, ModalityMap, Report, Section

TEMPLATES = Path(__file__).parent / "templates"
SERIES = 8  # colours that the style sheet has
MAP_WIDTH, MAP_HEIGHT, MAP_PICTURE, MAP_DOT = 1000, 780, 46, 12  # in the map's own units
CLASSES_SHOWN, MISTAKES_SHOWN = 24, 8


def write_report(report: Report, path: str | Path) -> Path:
    """Write the page to `path` and return it; folders on the way are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(report), encoding="utf-8")
    return path


def render(report: Report) -> str:
    """The page as HTML: no script, no request to anywhere, light and dark."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(thousands="{:,}".format, written=lambda value, metric: metric.write(value))
    tools = _Tools(Thumbnails(), _colours(report))
    environment.globals.update(thumbnail=tools.thumbnail, metric=metric, colours=tools.colours)
    bodies = []
    for section in report.sections:
        prepare = _PREPARE.get(type(section), _nothing)
        template = environment.get_template(section.template)
        bodies.append(Markup(template.render(section=section, **prepare(section, tools))))
    return environment.get_template("page.html").render(report=report, bodies=bodies, version=_version())


@dataclass(frozen=True)
class _Tools:
    thumbnail: Thumbnails
    colours: dict[str, int]


def _colours(report: Report) -> dict[str, int]:
    """One colour for each model or run, the same in all sections, in the order of appearance."""
    names: list[str] = []
    for section in report.sections:
        if isinstance(section, MetricTable):
            names += section.models
        elif isinstance(section, LossCurves):
            names += section.runs
    return {name: i % SERIES for i, name in enumerate(dict.fromkeys(names))}


def _nothing(section: Any, tools: _Tools) -> dict[str, Any]:
    return {}


def _metric_table(section: MetricTable, tools: _Tools) -> dict[str, Any]:
    rows = section.models.values()
    names = dict.fromkeys(name for row in rows for name in row)
    return {
        "metrics": {name: [row[name] for row in rows if name in row] for name in names},
        "has_chance": any(estimate.chance is not None for row in rows for estimate in row.values()),
    }


def _loss_curves(section: LossCurves, tools: _Tools) -> dict[str, Any]:
    curves = {name: read_curve(path) for name, path in section.runs.items()}
    return {"curves": curves, "svg": Markup(loss_svg(curves, [tools.colours[name] for name in curves]))}


def _confusion(section: Confusion, tools: _Tools) -> dict[str, Any]:
    counts, labels = np.asarray(section.counts), section.labels
    sizes = counts.sum(axis=1)
    wrong = counts - np.diag(np.diag(counts))
    cut = len(labels) > CLASSES_SHOWN
    shown = sorted(np.argsort(-wrong.sum(axis=1), kind="stable")[:CLASSES_SHOWN]) if cut else list(range(len(labels)))
    rows = []
    for i in shown:
        answers = [(labels[j], int(counts[i, j]), i == j) for j in shown]
        if cut:
            answers.append(("others", int(sizes[i] - counts[i, shown].sum()), False))
        cells = [
            {"answer": name, "count": count, "share": count / max(int(sizes[i]), 1), "right": right}
            for name, count, right in answers
        ]
        rows.append({"label": labels[i], "n": int(sizes[i]), "cells": cells})
    flat = np.argsort(-wrong, axis=None, kind="stable")[:MISTAKES_SHOWN]
    worst = [divmod(int(place), len(labels)) for place in flat]
    mistakes = [
        {"truth": labels[i], "answer": labels[j], "count": int(wrong[i, j]), "n": int(sizes[i])}
        for i, j in worst
        if wrong[i, j]
    ]
    columns = [labels[i] for i in shown] + ["others"] * cut
    return {"rows": rows, "columns": columns, "shown": shown, "cut": cut, "mistakes": mistakes}


def _modality_map(section: ModalityMap, tools: _Tools) -> dict[str, Any]:
    images, texts, gap = pair_layout(section.images, section.texts)
    frame = np.array([MAP_WIDTH - 2 * MAP_PICTURE, MAP_HEIGHT - 2 * MAP_PICTURE], dtype=np.float32)
    sizes = np.repeat(np.array([MAP_PICTURE + 12, MAP_DOT], dtype=np.float32), len(images))
    places = push_apart(np.concatenate([images, texts]) * frame, sizes)
    places = (places - places.min(axis=0)) * (frame / np.maximum(np.ptp(places, axis=0), 1e-9)) + MAP_PICTURE
    points = [
        {
            **dict(zip(("x", "y", "tx", "ty"), (round(float(v), 1) for v in (*here, *there)))),
            "source": tools.thumbnail(picture, 2 * MAP_PICTURE),
            "caption": caption,
        }
        for here, there, picture, caption in zip(
            places[: len(images)], places[len(images) :], section.pictures, section.captions
        )
    ]
    return {"points": points, "gap": gap, "half": MAP_PICTURE / 2, "width": MAP_WIDTH, "height": MAP_HEIGHT}


# What a section needs computed before its template can show it.
_PREPARE: dict[type[Section], Callable[[Any, _Tools], dict[str, Any]]] = {
    MetricTable: _metric_table,
    LossCurves: _loss_curves,
    Confusion: _confusion,
    ModalityMap: _modality_map,
}


def _version() -> str:
    try:
        return installed_version("diptych")
    except PackageNotFoundError:  # run from a source tree
        return "(source tree)"
