"""From results to sections: which queries are shown, with which pictures."""

from __future__ import annotations

import io
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from diptych.data.annotate import annotate
from diptych.data.curate.steps import StepReport
from diptych.data.store import Dataset, image_source
from diptych.evaluation.judged import Case, Judged
from diptych.evaluation.report.labels import metric
from diptych.evaluation.report.sections import (
    Answer,
    Confusion,
    Curation,
    CurationExample,
    CurationStep,
    Example,
    Examples,
    ImageToText,
    MetricTable,
    ModalityMap,
    Notes,
    Query,
    Report,
    Section,
    TextToImage,
)
from diptych.evaluation.retrieve import Direction, RetrievalResult
from diptych.evaluation.zero_shot import ZeroShotResult
from diptych.images import BadImage, decode, read_bytes
from diptych.machine import cores
from diptych.types import Object, Sample

SHOWN = 5  # answers of each query
MAIN = {  # the number that a task's summary tells
    "caption": "caption/cider_d",
    "answer": "answer/accuracy",
    "match": "match/accuracy",
    "detect": "detect/ap",
    "segment": "segment/miou",
    "fill": "fill/right",
    "probe": "probe/image",
    "draw": "draw/things_f1",
}
SCORES = {  # what the score of an example is
    "caption": "CIDEr-D",
    "answer": "accuracy",
    "match": "1 where the true caption is preferred, 0 where a wrong one is",
    "detect": "IoU with the true box or, for all classes, the share of things that were found",
    "segment": "IoU with the true mask or, for all classes, mean IoU",
    "fill": "share of the hidden words that are guessed",
    "probe": "1 where the class is right",
    "draw": "F1 of the things in the picture or, where they are not known, CLIPScore",
}
BOXED = 320  # pixels of the longer side of a picture with boxes
TEXT_EXAMPLES, PICTURE_EXAMPLES, FAILURES, MAP_PAIRS, STEP_EXAMPLES = 6, 6, 4, 84, 6


Result = RetrievalResult | ZeroShotResult | Judged


def evaluation_report(
    results: Mapping[str, Mapping[str, Result]],
    datasets: Mapping[str, Dataset],
    differences: Sequence[str] = (),
    command: str = "",
    seed: int = 0,
) -> Report:
    """The page of `diptych eval`: for each dataset the numbers of all models, then what each model did with it.

    Args:
        results: dataset name -> model name -> what came out, all of one task.
        datasets: by the same names; where the pictures are.
        differences: sentences about how the models compare.
    """
    sections: list[Section] = []
    models = list(dict.fromkeys(model for of_models in results.values() for model in of_models))
    on = {data: f" on {data}" if len(results) > 1 else "" for data in results}
    for data, of_models in results.items():
        numbers = {model: result.estimates for model, result in of_models.items()}
        sections.append(MetricTable(title=f"Numbers{on[data]}", models=numbers))
    if differences:
        sections.append(Notes(title="Differences", items=list(differences)))
    for data, of_models in results.items():
        for model, result in of_models.items():
            whose = (f"{model}" if len(models) > 1 else "") + on[data]
            sections += _details(result, datasets[data], whose.strip(), seed)
            sections += _left_out(result.left_out(), whose.strip())
    first = next(iter(next(iter(results.values())).values()))
    title = f"{', '.join(models)} on {', '.join(results)}"
    return Report(title, _summary(first, models[0]), sections, command, environment())


def _details(result: Result, dataset: Dataset, whose: str, seed: int) -> list[Section]:
    if isinstance(result, RetrievalResult):
        return retrieval_sections(result, dataset, model=whose, seed=seed)
    if isinstance(result, ZeroShotResult):
        return zero_shot_sections(result, model=whose)
    return judged_sections(result, dataset, model=whose, seed=seed)


def _summary(result: Result, model: str) -> str:
    """What the first number of the first model means, in a sentence or two."""
    if isinstance(result, RetrievalResult):
        found, share = result.estimates["retrieval/t2i_r@10"], metric("retrieval/t2i_r@10")
        return (
            f"Of {found.n:,} texts, {share.write(found.value)} find their picture among the first ten of "
            f"{len(result.images):,} (95 % interval {share.interval(found)}); "
            f"guessing finds {share.write(found.chance or 0)}."
        )
    if isinstance(result, ZeroShotResult):
        top, share = result.estimates["zero_shot/top1"], metric("zero_shot/top1")
        return (
            f"{share.write(top.value)} of {top.n:,} pictures get their own class of {len(result.labels)} "
            f"(95 % interval {share.interval(top)}); guessing gets {share.write(top.chance or 0)}."
        )
    name = MAIN[result.task] if MAIN[result.task] in result.estimates else next(iter(result.estimates))
    main, how = result.estimates[name], metric(name)
    chance = "" if main.chance is None else f"; guessing reaches {how.write(main.chance)}"
    return (
        f"{how.label}: {how.write(main.value)} for {model} (95 % interval {how.interval(main)}, n {main.n:,}){chance}."
    )


def judged_sections(result: Judged, dataset: Dataset, *, model: str = "", seed: int = 0) -> list[Section]:
    """Examples drawn at random, and the worst."""
    whose = f" ({model})" if model else ""
    drawn = [result.cases[i] for i in _draw(len(result.cases), TEXT_EXAMPLES, np.random.default_rng(seed))]
    sections: list[Section] = [
        Examples(
            title=f"Examples{whose}",
            note=f"Drawn at random, not chosen. The score is {SCORES[result.task]}.",
            examples=_examples(drawn, dataset),
        ),
        Examples(
            title=f"The ten worst{whose}",
            note="The lowest scores, the surest first. Look here first: a wrong label is as likely as a weak model.",
            examples=_examples(result.worst(10), dataset),
        ),
    ]
    return sections + ([Notes(title=f"Notes{whose}", items=result.notes)] if result.notes else [])


def _examples(cases: Sequence[Case], dataset: Dataset) -> list[Example]:
    sure = ["" if case.confidence is None else f", confidence {case.confidence:.2f}" for case in cases]
    return [
        Example(case.drawn or _boxed(picture, case.things), case.asked, case.said, case.truth, f"{case.score:.2f}{how}")
        for case, picture, how in zip(cases, _pictures(dataset, [case.row for case in cases]), sure)
    ]


def retrieval_sections(result: RetrievalResult, dataset: Dataset, *, model: str = "", seed: int = 0) -> list[Section]:
    """Examples both ways (drawn at random, not chosen), the worst failures both ways, and the map of both kinds.

    `dataset` is the one that `result` was judged on; `model` is named in the headings where a page shows several.
    """
    rng = np.random.default_rng(seed)
    whose = f" ({model})" if model else ""
    texts = _draw(len(result.captions), TEXT_EXAMPLES, rng)
    pictures = _draw(len(result.images), PICTURE_EXAMPLES, rng)
    pairs = _draw(len(result.images), MAP_PAIRS, rng)
    first_text = np.unique(result.image_of_text, return_index=True)[1][pairs]
    random = "Drawn at random, not chosen. "
    return [
        TextToImage(
            title=f"Search by text{whose}",
            note=random + "The right picture has a green frame; if it is not among the first five, it stands last.",
            queries=[_query(result, dataset, "t2i", i) for i in texts],
        ),
        ImageToText(
            title=f"From picture to text{whose}",
            note=random + "The right caption is marked.",
            queries=[_query(result, dataset, "i2t", i) for i in pictures],
        ),
        TextToImage(
            title=f"Worst failures, by text{whose}",
            note="The texts whose own picture came last. Look here first: a wrong label is as likely as a weak model.",
            queries=[_query(result, dataset, "t2i", i) for i in result.worst("t2i", FAILURES)],
        ),
        ImageToText(
            title=f"Worst failures, by picture{whose}",
            note="The pictures whose own caption came last.",
            queries=[_query(result, dataset, "i2t", i) for i in result.worst("i2t", FAILURES)],
        ),
        ModalityMap(
            title=f"Pictures and texts in one space{whose}",
            images=result.images[pairs],
            texts=result.texts[first_text],
            pictures=_pictures(dataset, [result.rows[i] for i in pairs]),
            captions=[result.captions[i] for i in first_text],
        ),
    ]


def zero_shot_sections(result: ZeroShotResult, *, model: str = "") -> list[Section]:
    """The numbers with one prompt and with all of them, and the confusion matrix."""
    whose = f" ({model})" if model else ""
    models, note = {"one prompt": result.one_prompt}, ""
    gain = result.gain.estimate
    verdict = "is within noise" if gain.low <= 0 <= gain.high else "helps" if gain.value > 0 else "hurts"
    if result.templates > 1:
        models = {f"{result.templates} prompts": result.estimates, **models}
        note = (
            f"Averaging {result.templates} prompts for each class {verdict}: {100 * gain.value:+.1f} points of top-1 "
            f"({100 * gain.low:+.1f} to {100 * gain.high:+.1f}, p = {result.gain.p:.2g})."
        )
    return [
        MetricTable(title=f"Zero-shot classification{whose}", note=note, models=models),
        Confusion(title=f"What is taken for what{whose}", labels=result.labels, counts=result.confusion),
    ]


def curation_section(
    steps: Sequence[StepReport], raw: Dataset, *, title: str = "From raw to clean", seed: int = 0
) -> Curation:
    """What curation did, with pictures of some rows that each step touched, drawn at random.

    Args:
        steps: what the curation reported, in order.
        raw: the dataset before curation, where the pictures are.
    """
    rng = np.random.default_rng(seed)
    shown = []
    for step in steps:
        drawn = [step.examples[i] for i in _draw(len(step.examples), STEP_EXAMPLES, rng)]
        pictures = _pictures(raw, [change.row for change in drawn])
        examples = [CurationExample(picture or None, c.before, c.after) for picture, c in zip(pictures, drawn)]
        shown.append(CurationStep(step.name, step.sentence, step.rows_before, step.rows_after, step.changed, examples))
    note = "The pictures are drawn at random from the rows that each step touched."
    return Curation(title=title, note=note, steps=shown)


def environment() -> dict[str, str]:
    """Versions and machine, for the foot of a page."""
    facts = {"python": platform.python_version()}
    for package in ("torch", "transformers", "numpy", "pyarrow"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts | {"machine": f"{platform.system()} {platform.machine()}, {cores()} cores"}


def _query(result: RetrievalResult, dataset: Dataset, direction: Direction, query: int) -> Query:
    found = list(enumerate(result.answers(direction, query), 1))
    if direction == "i2t":  # a text that stands several times among the candidates is shown once, at its first place
        found = sorted({int(result.text_ids[a.candidate]): (place, a) for place, a in reversed(found)}.values())
    first_right = next((place, answer) for place, answer in found if answer.right)
    listed = found[:SHOWN]
    if first_right[0] > SHOWN:
        listed = [*listed, first_right]
    side = result.side(direction)
    if direction == "t2i":
        pictures = _pictures(dataset, [result.rows[answer.candidate] for _, answer in listed])
        own, text = None, result.captions[query]
        answers = [Answer(place, a.score, a.right, picture) for (place, a), picture in zip(listed, pictures)]
    else:
        own = _pictures(dataset, [result.rows[query]])[0]
        text = "; ".join(result.captions[i] for i in np.flatnonzero(result.image_of_text == query))
        answers = [Answer(place, a.score, a.right, text=result.captions[a.candidate]) for place, a in listed]
    missed = answers[SHOWN] if len(answers) > SHOWN else None
    return Query(text, float(side.rank()[query]), side.candidates, answers[:SHOWN], missed, own)


def _left_out(counts: Mapping[str, int], whose: str = "") -> list[Section]:
    items = [f"{count:,} × {reason}" for reason, count in counts.items() if count]
    title = f"Left out ({whose})" if whose else "Left out"
    return [Notes(title=title, note="Rows that could not be judged.", items=items)] if items else []


def _draw(count: int, wanted: int, rng: np.random.Generator) -> list[int]:
    return sorted(int(i) for i in rng.choice(count, min(count, wanted), replace=False))


def _pictures(dataset: Dataset, rows: Sequence[int]) -> list[bytes]:
    """The encoded pictures of some rows; empty where one cannot be read."""
    return [_encoded(sample) for sample in dataset.take(list(rows), fields={"images"})]


def _boxed(picture: bytes, things: Sequence[Object]) -> bytes:
    """The encoded picture with the boxes drawn on it, large enough for their names."""
    if not (picture and things):
        return picture
    try:
        image = decode(picture)
    except BadImage:
        return b""
    scale = BOXED / max(image.size)
    buffer = io.BytesIO()
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    annotate(image, things, size).save(buffer, "PNG")
    return buffer.getvalue()


def _encoded(sample: Sample) -> bytes:
    try:
        source: Any = image_source(sample)
        return source if isinstance(source, bytes) else read_bytes(source)
    except BadImage:
        return b""
