"""Training a family on a dataset: what `diptych.train` does, from the data's words to the saved and judged model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from diptych import data, distributed, models, tasks
from diptych.capabilities import (
    AnswersQuestions,
    DetectsObjects,
    DualEncoder,
    FillsWords,
    HasFrozenImageTower,
    MatchesPairs,
    StoresPairs,
    TwoStage,
    WritesCaptions,
)
from diptych.config import as_dict
from diptych.data import Dataset
from diptych.data.loader import Loader
from diptych.data.store import STREAMED
from diptych.evaluation.answer import evaluate_answer
from diptych.evaluation.caption import evaluate_caption
from diptych.evaluation.detect import class_names, evaluate_detect
from diptych.evaluation.fill import evaluate_fill
from diptych.evaluation.match import evaluate_match
from diptych.evaluation.retrieve import evaluate_retrieval
from diptych.evaluation.reward import cider_reward
from diptych.models.folder import IN_RUN
from diptych.models.speaking import CAPTION_TOKENS
from diptych.pocket import add_pairs
from diptych.processing import QUESTION
from diptych.processing.documents import pieces
from diptych.processing.fusion import FusionProcessor, common
from diptych.processing.objects import ObjectProcessor
from diptych.recipes import Recipe
from diptych.recipes import recipe as resolve
from diptych.training.groups import weights_hash
from diptych.training.loop import train as run_loop
from diptych.training.lora import Adapters
from diptych.training.run import TrainResult
from diptych.training.self_critical import SelfCritical, references_of
from diptych.training.step import LossesOf
from diptych.training.teaching import SELF, Taught
from diptych.types import Estimate, InputError

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""

WRITTEN = 200
"""Held-out samples that a model which writes text is judged on at the end of a run."""


class Trained(NamedTuple):
    """What `train` made.

    Attributes:
        model: trained, in eval mode.
        folder: the saved model.
        held_out: the part of the data that was not trained on, or None.
        estimates: what it is worth on the held-out part, by name; empty without one.
        run: what the loop reports; None for a family that trains nothing.
        unjudged: why something could not be judged on the held-out part, a sentence each.
    """

    model: Any
    folder: Path
    held_out: Dataset | None
    estimates: dict[str, Estimate]
    run: TrainResult | None
    unjudged: list[str]


def train(
    recipe: Recipe | str,
    dataset: Any,
    out: str | Path,
    *,
    resume: bool = True,
    show: Literal["auto", "live", "plain", "silent"] = "auto",
    command: str | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train a family on a dataset, judge it on a held-out part, and save it in `out/model`.

    A run that is already in `out` goes on from its newest checkpoint. Under torchrun every process trains its share of
    each batch, with negatives from all of them. A family that trains nothing (ASIF) stores the pairs instead.

    Args:
        recipe: from `diptych.recipe`, or a family's name for its first preset.
        dataset: a dataset or its address.
        out: the run folder: resolved config, metrics, TensorBoard events, checkpoints, the saved model.
        resume: False refuses a folder that holds a run.
        show: what the loop prints on standard error.
        command: what made this run, for the model card.
        progress: called while features of frozen towers are computed.

    Raises:
        InputError: settings, data or folder do not fit.
    """
    recipe = resolve(recipe) if isinstance(recipe, str) else recipe
    whole = data.open_dataset(dataset) if isinstance(dataset, (str, Path)) else dataset
    out = Path(out)
    rest, held_out = _split(whole, recipe)
    alone = getattr(models.family(recipe.family), "SIDES", "both") == "images"
    texts = [] if alone else _texts(rest, recipe.loader.texts)
    if not texts and not alone:
        what = "captions or questions" if recipe.loader.texts in ("both", "dialogues") else recipe.loader.texts
        raise InputError(f"{whole.name}: expected samples with {what} to train on")
    model = _new(recipe, rest, texts)
    if recipe.loader.texts == "documents" and not getattr(model, "takes_several", False):
        raise InputError(f"{recipe.family}: cannot be trained on documents; set loader.texts to another choice")
    if recipe.loader.wrong and not isinstance(model.processor, FusionProcessor):
        raise InputError(f"{recipe.family}: has no use for wrong texts; set loader.wrong to 0")
    if recipe.loader.unlabelled and (not isinstance(model.processor, FusionProcessor) or not recipe.training.teacher):
        raise InputError("loader.unlabelled: expected a family that answers from a list, and training.teacher")
    distributed.setup(recipe.training.device)
    try:
        result = None
        if isinstance(model, StoresPairs):
            add_pairs(model, rest, progress)
        else:
            result = _fit(model, rest, recipe, out, resume, show, progress)
        estimates: dict[str, Estimate] = {}
        unjudged: list[str] = []
        if distributed.is_main() and (result is None or result.finished):
            if held_out is not None:
                estimates, unjudged = _judge(model, held_out, recipe)
            card = {"data": whole.name, "samples": len(rest), "command": command, "metrics": estimates}
            models.save(model, out / IN_RUN, card)
        distributed.barrier()
    finally:
        distributed.teardown()
    return Trained(model.eval(), out / IN_RUN, held_out, estimates, result, unjudged)


def _fit(
    model: Any, dataset: Dataset, recipe: Recipe, out: Path, resume: bool, show: Any, progress: Progress | None
) -> TrainResult:
    losses, teacher = _losses(model, dataset, recipe)
    view = None if teacher is None else teacher.processor
    adapters = _adapters(model, recipe)
    features = None
    several = recipe.loader.texts == "documents"  # a feature is of a sample's first picture
    if isinstance(model, HasFrozenImageTower) and not recipe.loader.augment and view is None and not several:
        said = None if progress is None else lambda done, total: progress("features of the locked tower", done, total)
        features = tasks.image_features(model, dataset, progress=said)
    loader = Loader(
        dataset,
        model.processor,
        min(recipe.loader.batch_size, len(dataset)),
        shuffle=True,
        drop_last=True,
        seed=recipe.loader.seed,
        threads=recipe.loader.threads,
        part=(distributed.rank(), distributed.world_size()),
        image_features=features,
        texts=recipe.loader.texts,
        turns=recipe.loader.turns,
        wrong=recipe.loader.wrong,
        unlabelled=recipe.loader.unlabelled,
        view=view,
        objects=isinstance(model.processor, ObjectProcessor),
        sides="both" if recipe.loader.texts == "documents" else getattr(model, "SIDES", "both"),
        augment=recipe.loader.augment,
    )
    run: Mapping[str, Any] = {
        "family": recipe.family,
        "start": recipe.start,
        "model": as_dict(model.config),
        "loader": as_dict(recipe.loader),
        "data": dataset.fingerprint(),
        "teacher": None if teacher in (None, model) else weights_hash(teacher),
    }
    result = run_loop(model, loader, recipe.training, out, run=run, losses=losses, resume=resume, show=show)
    if adapters is None:
        return result
    ema = None if result.ema is None else adapters.merged(result.ema)
    adapters.merge()
    return dataclasses.replace(result, ema=ema)


def _adapters(model: Any, recipe: Recipe) -> Adapters | None:
    """What trains in the place of the weights, where asked for."""
    training = recipe.training
    if training.lora is None:
        return None
    if recipe.start is None and not any(_addresses(as_dict(model.config))):
        raise InputError("training.lora: expected a model that has learnt something (--start), or a pretrained part")
    return Adapters(model, training.lora, training.lora_on, also=training.lora_also, seed=training.seed)


def _addresses(config: Mapping[str, Any]) -> Iterator[Any]:
    """Where the parts of a model came from, None for those from scratch."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _addresses(value)
        elif name.endswith("address"):
            yield value


def _losses(model: Any, dataset: Dataset, recipe: Recipe) -> tuple[LossesOf | None, Any]:
    """(what is minimised in the place of the family's own loss, the teacher behind it, who may be the model)."""
    if recipe.training.self_critical:
        return _self_critical(model, dataset, recipe), None
    address = recipe.training.teacher
    if address is None:
        return None, None
    if recipe.training.micro_batch is not None and isinstance(model, TwoStage):
        raise InputError("training.micro_batch: expected none with a teacher, who compares whole batches")
    if recipe.training.teach == "logits" and recipe.loader.texts == "captions":
        raise InputError("training.teach: logits are those of answers; set loader.texts to questions")
    teacher = None if address == SELF else models.load(address)
    if teacher is not None and type(teacher.processor) is not type(model.processor):
        raise InputError(f"training.teacher: {address}: expected one that reads samples as {recipe.family} does")
    return Taught(model, teacher, recipe.training), model if teacher is None else teacher


def _self_critical(model: Any, dataset: Dataset, recipe: Recipe) -> SelfCritical:
    """The losses of a model that is trained on what it writes itself."""
    if recipe.start is None or recipe.loader.texts != "captions":
        raise InputError("training.self_critical: expected a model that has learnt captions (--start), and captions")
    references = references_of(dataset)
    most = min(CAPTION_TOKENS, model.processor.text.context_length - 1)
    return SelfCritical(model, cider_reward(references.values()), references, most=most)


def _new(recipe: Recipe, dataset: Dataset, texts: list[str]) -> Any:
    """The model to train; one that answers learns the words of questions too, to be trained on them later."""
    if recipe.start is not None:
        return models.load(recipe.start)
    family, other = models.family(recipe.family), {"captions": "questions", "questions": "captions"}
    if hasattr(family, "answer") and recipe.loader.texts in other:
        texts = texts + _texts(dataset, other[recipe.loader.texts])
    options: dict[str, Any] = {}
    if getattr(family, "Processor", None) is FusionProcessor:
        options["answers"] = common(_answers(dataset))
    elif getattr(family, "Processor", None) is ObjectProcessor:
        options["names"] = _names(dataset)
    return family.new(recipe.model, texts, seed=recipe.training.seed, **options)


def _answers(dataset: Dataset) -> Iterator[str]:
    """Every answer that people gave to a question."""
    for start in range(0, len(dataset), STREAMED):
        some = range(start, min(start + STREAMED, len(dataset)))
        for sample in dataset.take(some, fields=("questions",)):
            for one in sample.questions:
                yield from one.answers


def _names(dataset: Dataset) -> list[str]:
    """The classes of the things with boxes."""
    names: set[str] = set()
    for start in range(0, len(dataset), STREAMED):
        some = range(start, min(start + STREAMED, len(dataset)))
        names.update(class_names(dataset.take(some, fields=("objects",))))
    return sorted(names)


def _texts(dataset: Dataset, kind: str) -> list[str]:
    """Every text that a model will read in training, for its tokenizer to learn from."""
    texts = []
    if kind != "questions":
        texts = [caption for captions in dataset.column("captions") for caption in captions or ()]
    if kind != "captions":
        for start in range(0, len(dataset), STREAMED):
            some = range(start, min(start + STREAMED, len(dataset)))
            for sample in dataset.take(some, fields=("questions", "messages")):
                if kind == "documents":
                    texts += [piece.text for piece in pieces(sample.messages)]
                for one in sample.questions:
                    texts += [QUESTION.format(one.question), *one.answers]
    return texts


def _judge(model: Any, held_out: Dataset, recipe: Recipe) -> tuple[dict[str, Estimate], list[str]]:
    """What a model that was just trained is worth on data that it never saw, and why something could not be told.

    It writes about `WRITTEN` samples.
    """
    some = held_out.select(range(min(WRITTEN, len(held_out))))
    if recipe.loader.texts == "documents":  # what is asked in the midst of a conversation is no question by itself
        samples = some.take(range(len(some)), fields=("messages", "captions", "questions"))
        alone = [i for i, one in enumerate(samples) if one.captions and one.questions and not one.messages]
        some = some.select(alone)
    judges: list[tuple[Any, Dataset]] = []
    if isinstance(model, DualEncoder):
        judges.append((evaluate_retrieval, held_out))
    if isinstance(model, FillsWords) and recipe.loader.texts in ("captions", "both"):
        judges.append((evaluate_fill, some))
    if isinstance(model, MatchesPairs) and recipe.loader.texts in ("captions", "both"):
        judges.append((evaluate_match, some))
    if isinstance(model, WritesCaptions) and recipe.loader.texts != "questions":
        judges.append((evaluate_caption, some))
    if isinstance(model, DetectsObjects):
        judges.append((evaluate_detect, some))
    if isinstance(model, AnswersQuestions) and recipe.loader.texts != "captions":
        judges.append((evaluate_answer, some))
    found: dict[str, Estimate] = {}
    unjudged = []
    for judge, part in judges:
        if not len(part):
            continue
        try:
            found |= judge(model, part, seed=recipe.loader.seed).estimates
        except InputError as error:  # too few samples, or none with a caption or question: what was trained is kept
            unjudged.append(str(error))
    return found, unjudged


def _split(dataset: Dataset, recipe: Recipe) -> tuple[Dataset, Dataset | None]:
    if not recipe.loader.held_out:
        return dataset, None
    rest, held_out = dataset.split(recipe.loader.held_out, by=recipe.loader.split_by, seed=recipe.loader.seed)
    if not len(rest):
        raise InputError(f"{dataset.name}: nothing is left to train on after holding out by '{recipe.loader.split_by}'")
    return rest, held_out if len(held_out) else None
