"""The public verbs. Each joins the parts that do the work; models and datasets are given by address or as objects."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from diptych import data, models, tasks
from diptych.capabilities import DualEncoder
from diptych.data import Dataset, ExportReport, ImportReport
from diptych.data.curate import CurationReport, Plan, read_plan
from diptych.data.curate import curate as run_curation
from diptych.evaluation import Task
from diptych.evaluation.answer import evaluate_answer
from diptych.evaluation.caption import evaluate_caption
from diptych.evaluation.detect import evaluate_detect
from diptych.evaluation.draw import evaluate_draw
from diptych.evaluation.fill import evaluate_fill
from diptych.evaluation.judged import Judged
from diptych.evaluation.match import evaluate_match
from diptych.evaluation.probe import evaluate_probe
from diptych.evaluation.retrieve import RetrievalResult, evaluate_retrieval
from diptych.evaluation.segment import evaluate_segment
from diptych.evaluation.zero_shot import ZeroShotResult, evaluate_zero_shot
from diptych.models.folder import model_folder
from diptych.search.build import Built, model_fingerprint
from diptych.search.build import build_index as build
from diptych.types import InputError

if TYPE_CHECKING:
    from diptych.evaluation.health.run import Health

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""

EVALUATORS: dict[str, Callable[..., RetrievalResult | ZeroShotResult | Judged]] = {
    "retrieve": evaluate_retrieval,
    "classify": evaluate_zero_shot,
    "caption": evaluate_caption,
    "answer": evaluate_answer,
    "match": evaluate_match,
    "fill": evaluate_fill,
    "probe": evaluate_probe,
    "detect": evaluate_detect,
    "segment": evaluate_segment,
    "draw": evaluate_draw,
}


def load(address: str | Path, progress: Progress | None = None) -> Any:
    """A model by its address.

    That is "pocket"; the folder of a run or of a model, or "hf:ORG/NAME", of ours or of Hugging Face (a dual encoder or
    an image-text-to-text model); or a chat server, "http://HOST/v1?model=NAME". `progress` is called while "pocket" is
    made, on first use.
    """
    return models.load(address, progress)


def open_dataset(address: str | Path) -> Dataset:
    """A dataset by its address: "clipart", a Diptych dataset, raw data of a known format, "scenes:?n=1000"."""
    return data.open_dataset(address)


def import_dataset(source: str | Path, to: str | Path, **options: Any) -> ImportReport:
    """Read raw data into a new dataset folder. See `data.import_dataset`."""
    return data.import_dataset(source, to, **options)


def export_dataset(dataset: Any, to: str) -> ExportReport:
    """Write a dataset or what lies at its address in a public format: "coco:FOLDER". See `data.export_dataset`."""
    return data.export_dataset(_dataset(dataset), to)


def curate(
    dataset: Any,
    to: str | Path,
    plan: Plan | str | Path | None = None,
    progress: Progress | None = None,
    *,
    engine: Literal["threads", "ray"] = "threads",
    workers: int | None = None,
    work: Path | None = None,
) -> tuple[Dataset, CurationReport]:
    """Write a cleaner copy of a dataset with its datasheet; the source is only read. See `data.curate`.

    Args:
        dataset: a dataset or its address.
        to: the new dataset's folder; an older dataset of that place is replaced.
        plan: the steps, or a TOML or JSON file of them; the default plan if None.
        engine: where rows are measured; the result is the same.
        workers: threads, or processes of a local Ray cluster; one a core by default.
        work: where measured values are kept between runs; in the cache if None.

    Raises:
        InputError: plan, data and models do not fit, or the target is taken by something that is not a dataset.
    """
    steps = read_plan(plan) if isinstance(plan, (str, Path)) else plan
    return run_curation(
        _dataset(dataset), to, steps, progress, engine_name=engine, workers=workers, models=pair_encoder, work=work
    )


class _PairEncoder:
    """A dual encoder as curation wants one: encoded pictures and texts in, vectors out, one batch at a time."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._lock = threading.Lock()  # the model itself uses all cores
        self.fingerprint = model_fingerprint(model)
        self._width = tasks.embed_texts(model, ["a"]).shape[1]

    def images(self, pictures: Sequence[bytes]) -> tuple[Any, Any]:
        """(vectors N D, which could be read)."""
        with self._lock:
            found = tasks.embed_readable_images(self._model, list(pictures))
        vectors, read = np.zeros((len(pictures), self._width), np.float32), np.zeros(len(pictures), dtype=bool)
        if found.kept:
            vectors[found.kept], read[found.kept] = found.vectors, True
        return vectors, read

    def texts(self, texts: Sequence[str]) -> Any:
        """Vectors N D."""
        with self._lock:
            return tasks.embed_texts(self._model, list(texts))


@lru_cache(maxsize=2)
def pair_encoder(address: str) -> _PairEncoder:
    """A model by its address, for the steps of a plan that see with one.

    Raises:
        InputError: it is no dual encoder.
    """
    model = models.load(address)
    if not isinstance(model, DualEncoder):
        raise InputError(f"{address}: expected a dual encoder, with a space for both pictures and texts")
    return _PairEncoder(model)


def embed_images(model: Any, images: Any, **options: Any) -> Any:
    """float32, L2-normalised rows for pictures: paths, PIL images, arrays, bytes or a dataset. See `tasks.embed`."""
    return tasks.embed_images(_model(model), images, **options)


def embed_texts(model: Any, texts: Sequence[str], **options: Any) -> Any:
    """float32, L2-normalised rows for texts. See `tasks.embed`."""
    return tasks.embed_texts(_model(model), texts, **options)


def classify(model: Any, images: Any, labels: Sequence[str], **options: Any) -> list[tasks.Classification]:
    """Zero-shot: the class of each picture among `labels`. See `tasks.classify`."""
    return tasks.classify(_model(model), images, labels, **options)


def retrieve(model: Any, queries: Sequence[Any], images: Any, k: int = 10, **options: Any) -> list[list[tasks.Hit]]:
    """For each query, a text or a picture, the `k` best of `images`. See `tasks.retrieve`."""
    if isinstance(options.get("by"), (str, Path)):
        options["by"] = models.load(options["by"])
    return tasks.retrieve(_model(model), queries, images, k, **options)


def match(model: Any, images: Any, texts: Sequence[Sequence[str]], **options: Any) -> tasks.Matched:
    """How well each picture's candidate texts fit it. See `tasks.match`."""
    return tasks.match(_model(model), images, texts, **options)


def fill(model: Any, images: Any, texts: Sequence[str], **options: Any) -> tasks.Filled:
    """The words that are hidden in each picture's text ("a <mask> cube"). See `tasks.fill`."""
    return tasks.fill(_model(model), images, texts, **options)


def caption(model: Any, images: Any, **options: Any) -> tasks.Captioned:
    """What each picture shows, in a sentence. See `tasks.caption`."""
    return tasks.caption(_model(model), images, **options)


def answer(model: Any, images: Any, questions: Sequence[str], choices: Any = None, **options: Any) -> tasks.Answered:
    """Answers to questions, each about one or several pictures, freely or among choices. See `tasks.answer`."""
    return tasks.answer(_model(model), images, questions, choices, **options)


def detect(model: Any, images: Any, names: Sequence[str], **options: Any) -> tasks.Detected:
    """Where things of the classes `names` are in each picture. See `tasks.detect`."""
    return tasks.detect(_model(model), images, names, **options)


def segment(model: Any, images: Any, phrases: Sequence[str], **options: Any) -> tasks.Segmented:
    """Which pixels of each picture belong to what its phrase names. See `tasks.segment`."""
    return tasks.segment(_model(model), images, phrases, **options)


def draw(model: Any, texts: Sequence[str], seed: int = 0, **options: Any) -> list[Any]:
    """A picture for each text. See `tasks.draw`."""
    return tasks.draw(_model(model), texts, seed, **options)


def build_index(model: Any, images: Any, to: str | Path, **options: Any) -> Built:
    """A vector index of pictures in the folder `to`; goes on where an interrupted build stopped. See `search.build`."""
    return build(_model(model), images, to, **options)


def evaluate(
    model: Any, dataset: Any, task: Task = "retrieve", **options: Any
) -> RetrievalResult | ZeroShotResult | Judged:
    """Judge a model: every number with interval, n and chance in `.estimates`.

    Args:
        model: a model or its address.
        dataset: a dataset or its address. Captions are needed for "retrieve" and "caption", labels for "classify",
            questions for "answer", negatives for "match", boxes for "detect", masks for "segment".
        options: `batch_size`, `device`, `seed`, `progress`; `by`, `shortlist` for "retrieve"; `labels`, `templates` for
            "classify"; `judge` for "caption" and "draw"; see the evaluator of the task in `diptych.evaluation`.

    Raises:
        InputError: an unknown task, a model that cannot do it, or data without what the task needs.
    """
    if task not in EVALUATORS:
        raise InputError(f"task: expected {', '.join(EVALUATORS)}, got {task!r}")
    for name in ("judge", "by"):
        if isinstance(options.get(name), (str, Path)):
            options[name] = models.load(options[name])
    return EVALUATORS[task](_model(model), _dataset(dataset), **options)


def health(
    model: Any,
    data: Any = None,
    *,
    n: int = 200,
    name: str | None = None,
    held_out: str | None = None,
    tests: Sequence[str] | None = None,
    **options: Any,
) -> Health:
    """Whether a model understands: `.findings`, one row for each question. See `evaluation.health`.

    Args:
        model: a model or its address.
        data: a dataset or its address; a generated world if None.
        n: samples that it is asked about.
        name: what the model is called on the page; by default its address.
        held_out: combinations that it was trained without, "yellow cone,blue cube"; if None, what the card of a model
            folder says.
        tests: some of `evaluation.health.run.TESTS`; all if None.
        options: of `evaluation.health.run.check_health`.

    Raises:
        InputError: the model can neither compare, answer nor write captions, or data without pictures.
    """
    from diptych.evaluation.health.run import DEFAULT, TESTS, check_health
    from diptych.evaluation.health.training import held_out_of

    address = model if isinstance(model, (str, Path)) else None
    if held_out is None:
        held_out = held_out_of(model_folder(Path(address).expanduser())) if address is not None else ""
    loaded, dataset = _model(model), _dataset(DEFAULT.format(n=n) if data is None else data)
    called = name or (type(model).__name__ if address is None else str(address))
    return check_health(loaded, dataset, n=n, name=called, held_out=held_out, tests=tests or TESTS, **options)


def _model(model: Any) -> Any:
    return models.load(model) if isinstance(model, (str, Path)) else model


def _dataset(dataset: Any) -> Dataset:
    return data.open_dataset(dataset) if isinstance(dataset, (str, Path)) else dataset
