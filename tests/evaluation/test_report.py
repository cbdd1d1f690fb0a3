"""The report: one file that needs nothing else, says what it was given, and survives bad input."""

from __future__ import annotations

import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from colours import NAMES, Blind, OffByOne, Oracle, dataset, picture, sample
from PIL import Image

from diptych.data.curate.steps import Change, StepReport
from diptych.evaluation.report.build import curation_section, evaluation_report
from diptych.evaluation.report.labels import metric
from diptych.evaluation.report.render import render, write_report
from diptych.evaluation.report.sections import (
    Confusion,
    Curation,
    CurationExample,
    CurationStep,
    LossCurves,
    MetricTable,
    Notes,
    Report,
    Section,
    TextToImage,
)
from diptych.evaluation.retrieve import evaluate_retrieval
from diptych.evaluation.zero_shot import evaluate_zero_shot
from diptych.types import Estimate, InputError

VOID = {"meta", "img", "br", "circle", "path", "line", "rect", "image", "use"}


class Page(HTMLParser):
    """Collects what the tests ask for, and that every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def show(*sections: Section) -> Page:
    return Page(render(Report("A title", "A sentence.", sections)))


def report_of(name, result, data, **options) -> Report:
    return evaluation_report({data.name: {name: result}}, {data.name: data}, **options)


def metrics_file(path: Path, start: float = 3.4, end: float = 1.0) -> Path:
    lines = [
        {"kind": "train", "step": s, "loss/itc": start + (end - start) * s / 50, "chance/loss/itc": math.log(32)}
        for s in range(0, 51, 5)
    ]
    path.write_text("\n".join(json.dumps(line) for line in [{"kind": "start", "step": 0}, *lines]))
    return path


def test_a_whole_page_is_well_formed_accessible_and_asks_nobody(tmp_path: Path) -> None:
    samples = [sample(name, name, [f"a {name} thing"], label=name) for name in NAMES]
    data = dataset(tmp_path / "d", [*samples, sample("x", "red", ["x"], data=b"bad")])
    report = report_of("off", evaluate_retrieval(OffByOne(), data), data, command="diptych eval off <data>")
    curves = LossCurves(title="Loss", runs={"off": metrics_file(tmp_path / "m.jsonl")})
    curation = curation_section([StepReport("Step", "It did.", 11, 10, 1, [Change("red", "a red thing", "", 0)])], data)
    sections = [*report.sections, curves, curation, *zero_shot_sections_of(data)]
    path = write_report(
        Report(report.title, report.summary, sections, report.command, report.environment), tmp_path / "r.html"
    )
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    addresses = [v for _, attrs in page.tags for k, v in attrs.items() if k in ("src", "href") and v]
    assert addresses and all(a.startswith(("data:image/jpeg;base64,", "#")) for a in addresses)
    assert not re.search(r"@import|url\((?!#)|<script|<link", html)
    assert all(img.get("alt") for img in page.all("img"))
    assert all(svg.get("aria-hidden") or svg.get("aria-label") for svg in page.all("svg"))
    assert {a["href"] for a in page.all("a")} == {f"#s{i + 1}" for i in range(len(sections))}
    assert {f"s{i + 1}" for i in range(len(sections))} <= {attrs.get("id") for _, attrs in page.tags}
    assert "diptych eval off <data>" in page.text
    assert "1 × image not recognised" in page.text


def zero_shot_sections_of(data) -> list[Section]:
    return list(report_of("oracle", evaluate_zero_shot(Oracle(), data), data).sections)


def test_numbers_carry_interval_n_and_chance() -> None:
    estimates = {
        "retrieval/t2i_r@10": Estimate(0.523, 0.481, 0.56, 538, 10 / 538),
        "retrieval/t2i_median_rank": Estimate(9.5, 8, 12, 538, 269.5),
        "custom/thing": Estimate(3.25, 3, 4, 7, None),
    }
    text = show(MetricTable(title="Numbers", models={"pocket": estimates}, about={"pocket": "training-free"})).text
    for words in ("Text to picture, R@10", "52.3 %", "48.1 – 56.0", "n 538 · chance 1.9 %", "training-free"):
        assert words in text
    assert "9.5" in text and "8 – 12" in text and "269.5" in text
    assert "custom/thing" in text and "3.25" in text


def test_a_number_at_chance_is_marked() -> None:
    good, bad = Estimate(0.3, 0.2, 0.4, 50, 0.1), Estimate(0.12, 0.05, 0.2, 50, 0.1)
    rank_good, rank_bad = Estimate(5, 4, 6, 50, 25.5), Estimate(24, 20, 29, 50, 25.5)
    marked = [
        small.get("class") == "none"
        for small in show(
            MetricTable(
                title="t",
                models={
                    "a": {"retrieval/t2i_r@1": good, "retrieval/t2i_median_rank": rank_good},
                    "b": {"retrieval/t2i_r@1": bad, "retrieval/t2i_median_rank": rank_bad},
                },
            )
        ).all("small")
    ]
    assert marked == [False, True, False, True]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("zero_shot/top1", 0.5, "50.0 %"),
        ("zero_shot/top1", 0.0, "0.0 %"),
        ("zero_shot/top1", 0.0002, "0.02 %"),
        ("retrieval/i2t_median_rank", 12.0, "12"),
        ("retrieval/i2t_median_rank", 1234.5, "1,234.5"),
        ("loss", 0.12345, "0.123"),
    ],
)
def test_values_are_written_for_people(name: str, value: float, words: str) -> None:
    assert metric(name).write(value) == words


def test_positions_stay_on_the_scale() -> None:
    share, rank = metric("zero_shot/top1"), metric("retrieval/i2t_median_rank")
    estimates = [Estimate(0.33, 0.30, 0.36, 9, 0.1)]
    assert share.axis(estimates) == 0.4
    assert [share.position(v, 0.4) for v in (0, 0.1, 0.4, 0.9)] == [0, 25, 100, 100]
    assert [rank.position(v, 100) for v in (1, 10, 100)] == [0, 50, 100]


def test_text_from_outside_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    step = CurationStep(evil, evil, 2, 1, 1, [CurationExample(picture("red"), evil, "")])
    html = render(Report(evil, evil, [Curation(title=evil, steps=[step]), Notes(title="n", items=[evil])]))
    assert "<script" not in html and html.count("&lt;script&gt;") >= 6


def test_unreadable_pictures_are_said_to_be_so() -> None:
    step = CurationStep(
        "s", "It did.", 2, 2, 2, [CurationExample(b"no picture", "a", "b"), CurationExample(None, "c", "d")]
    )
    page = show(Curation(title="c", steps=[step]))
    assert page.text.count("not readable") == 2 and page.all("img") == []


def test_large_pictures_become_small() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)).save(buffer, "PNG")
    step = CurationStep("s", "It did.", 2, 2, 2, [CurationExample(buffer.getvalue(), "a", "b")])
    assert len(render(Report("t", "s", [Curation(title="c", steps=[step])]))) < 100_000 < len(buffer.getvalue())


def test_loss_curves_show_the_chance_level_and_take_the_colours_of_the_page(tmp_path: Path) -> None:
    table = MetricTable(title="t", models={"other": {}, "run": {}})
    page_html = render(
        Report("t", "s", [table, LossCurves(title="l", runs={"run": metrics_file(tmp_path / "m.jsonl")})])
    )
    svg = page_html[page_html.index('<figure class="chart"') :]
    assert "chance: ln 32 = 3.47" in svg
    assert "var(--series-1)" in svg and "var(--series-0)" not in svg and "#0404" not in svg
    assert "1.00 after 50 steps, chance 3.47" in Page(page_html).text


@pytest.mark.parametrize("content", ["", "not json", '{"kind": "train", "step": 3}', '{"kind": "start", "loss": 3}'])
def test_a_bad_metrics_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=r"metrics\.jsonl: expected"):
        show(LossCurves(title="l", runs={"run": path}))


def test_confusion_by_hand() -> None:
    counts = np.array([[8, 2, 0], [0, 5, 0], [1, 3, 4]])
    page = show(Confusion(title="c", labels=["cat", "dog", "cow"], counts=counts))
    assert "cow answered as dog : 3 of 8" in page.text and "cat answered as dog : 2 of 10" in page.text
    titles = [cell["title"] for cell in page.all("td") if "title" in cell]
    assert len(titles) == 9 and titles[1] == "cat answered as dog: 2 of 10"


def test_many_classes_are_cut_to_those_with_most_mistakes() -> None:
    classes = 60
    counts = np.eye(classes, dtype=int) * 10
    counts[7, 9] += 4
    page = show(Confusion(title="c", labels=[f"class {i}" for i in range(classes)], counts=counts))
    rows = [cell["title"] for cell in page.all("td") if str(cell.get("title")).startswith("class 7 ")]
    assert sum(int(re.search(r": (\d+) of 14", row)[1]) for row in rows) == 14
    assert "Shown are the 24 of 60 classes" in page.text


def test_examples_show_the_right_answer_even_when_it_came_late(tmp_path: Path) -> None:
    data = dataset(tmp_path / "d", [sample(name, name, [f"a {name} thing"]) for name in NAMES])
    report = report_of("blind", evaluate_retrieval(Blind(), data, seed=1), data, seed=1)
    searches = [section for section in report.sections if isinstance(section, TextToImage)]
    queries = [query for section in searches for query in section.queries]
    assert len(queries) == 10
    for query in queries:
        right = [answer for answer in (*query.answers, query.missed) if answer is not None and answer.right]
        assert len(right) == 1 and right[0].picture == data[NAMES.index(query.text.split()[1])].images[0].data
        assert query.rank == 5.5 and query.candidates == 10
        assert (query.missed is None) == (right[0].place <= 5)


def test_a_repeated_caption_is_listed_once_at_its_first_place(tmp_path: Path) -> None:
    samples = [sample(name, name, ["a red thing"] if i < 4 else [f"a {name} thing"]) for i, name in enumerate(NAMES)]
    data = dataset(tmp_path / "d", samples)
    report = report_of("oracle", evaluate_retrieval(Oracle(), data), data)
    by_picture = next(s for s in report.sections if s.title == "Worst failures, by picture")
    for query in by_picture.queries:
        texts = [answer.text for answer in query.answers]
        assert len(set(texts)) == len(texts)
        places = [answer.place for answer in query.answers]
        assert places == sorted(places)


def test_curation_counts_and_pictures(tmp_path: Path) -> None:
    data = dataset(tmp_path / "d", [sample(name, name, [f"a {name} thing"]) for name in NAMES])
    changes = [Change(name, f"a {name} thing", "", row) for row, name in enumerate(NAMES[:8])]
    section = curation_section([StepReport("Duplicates", "Same pixels.", 10, 1, 9, changes)], data)
    step = section.steps[0]
    assert (step.rows_before, step.rows_after, step.changed, len(step.examples)) == (10, 1, 9, 6)
    assert all(example.picture == picture(example.before.split()[1]) for example in step.examples)
    assert "9 rows dropped" in show(section).text
