"""What a teacher teaches: by hand, through both models, from an averaged self, and to whom nothing can be taught."""

import dataclasses
import math

import pytest
import torch

import diptych
from diptych import fitting, models
from diptych.data.loader import Loader
from diptych.data.store import Dataset, DatasetWriter
from diptych.models.clip import CLIP, PRESETS
from diptych.models.vilt import ViLT, ViLTConfig
from diptych.processing import ImageConfig
from diptych.recipes import recipe
from diptych.training.config import TrainConfig
from diptych.training.ema import Average
from diptych.training.teaching import Taught, taught_answers, taught_features, taught_similarities
from diptych.types import NOT_ASKED, UNKNOWN, InputError

CONFIG = ViLTConfig(vocab_size=400, context_length=64, width=32, layers=2, heads=4, patch=8, image=ImageConfig(size=32))
SMALL = dataclasses.replace(CONFIG, width=16, image=ImageConfig(size=16))
STEPS = TrainConfig(steps=1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Scenes of which every other has no answers to its questions."""
    folder = tmp_path_factory.mktemp("taught") / "d"
    scenes = diptych.open_dataset("scenes:?n=24&size=32&objects=1-2")
    with DatasetWriter(folder) as out:
        for i, sample in enumerate(scenes.take(range(24))):
            for one in sample.questions:
                one.answers = one.answers if i % 2 else []
            out.write(sample)
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def words(world):
    asked = [one for sample in world.take(range(24), fields={"questions"}) for one in sample.questions]
    return [one.question for one in asked], sorted({answer for one in asked for answer in one.answers})


def batch_of(world, model, view, **options):
    settings = {"shuffle": False, "drop_last": True, "texts": "questions", "turns": 3, "unlabelled": True} | options
    return next(Loader(world, model.processor, 12, view=view.processor, **settings).epoch(0))


def test_answers_by_hand():
    ours, theirs = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, math.log(9)]])
    both, second_only = torch.tensor([True, True]), torch.tensor([False, True])
    loss = taught_answers(ours, theirs, both, 1.0)
    first = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    second = 0.1 * math.log(0.1 / 0.5) + 0.9 * math.log(0.9 / 0.5)
    assert loss.item() == pytest.approx((first + second) / 2)
    loss = taught_answers(ours, theirs, second_only, 1.0)
    assert loss.item() == pytest.approx(second / 2)
    loss = taught_answers(ours, theirs, second_only, 0.0)
    assert loss.item() == pytest.approx(math.log(2) / 2), "cross-entropy with the second answer"
    loss = taught_answers(ours, theirs, second_only, 2.0)
    warm = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)  # 9^(1/2) = 3 to 1
    assert loss.item() == pytest.approx(4 * warm / 2)


def test_features_and_similarities_by_hand():
    one, other = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    assert taught_features({"image": one}, {"image": other}).item() == pytest.approx(0.2)
    both = {"image": one, "text": one}
    assert taught_features(both, {"image": other, "text": one}).item() == pytest.approx(0.1)
    scaled = both | {"scale": torch.tensor(2.0)}
    assert taught_similarities(scaled, scaled).item() == pytest.approx(0, abs=1e-7)
    wide = {"image": torch.eye(3)[:2], "text": torch.eye(3)[:2], "scale": torch.tensor(0.0)}
    p = math.exp(2) / (math.exp(2) + 1)
    expected = 0.5 * math.log(0.5 / p) + 0.5 * math.log(0.5 / (1 - p))
    assert taught_similarities(scaled, wide).item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(InputError, match="width 3, as the teacher's, got 2"):
        taught_features(scaled, wide)


def test_unanswered_questions_come_with_both_views(world, words):
    pupil, teacher = ViLT.new(SMALL, words[0], answers=words[1]), ViLT.new(CONFIG, words[0], answers=words[1])
    batch = batch_of(world, pupil, teacher, augment=True)
    assert batch.pixels.shape == (12, 3, 16, 16) and batch.view.pixels.shape == (12, 3, 32, 32)
    assert torch.equal(batch.answers, batch.view.answers) and torch.equal(batch.text_of, batch.view.text_of)
    unknown = batch.answers == UNKNOWN
    assert (batch.text_of[unknown] % 2 == 0).all() and (batch.text_of[~unknown] % 2 == 1).all() and unknown.any()
    assert NOT_ASKED not in batch.answers
    first, second = batch.chunks(6)
    assert len(first.view) == len(second.view) == 6 and torch.equal(second.view.text_of, second.text_of)
    labelled = batch_of(world, pupil, teacher, unlabelled=False)
    assert len(labelled) == 6 and UNKNOWN not in labelled.answers


def test_questions_that_nobody_answered_cost_nothing_and_teach(world, words):
    pupil, teacher = (ViLT.new(CONFIG, words[0], answers=words[1], seed=seed) for seed in (0, 1))
    batch = batch_of(world, pupil, teacher)
    taught = Taught(pupil, teacher, STEPS)
    losses = taught(batch)
    own = pupil(batch)
    assert set(losses.parts) == {"loss/vqa", "loss/teach"}
    assert losses.total.item() == pytest.approx(own.total.item() + losses.parts["loss/teach"].item(), rel=1e-6)
    share = (batch.answers != UNKNOWN).float().mean().item()
    assert 0 < share < 1, "every question weighs as much, whoever knows its answer"
    assert own.total.item() == pytest.approx(share * own.parts["loss/vqa"].item(), rel=1e-6)
    batch.answers[:] = UNKNOWN
    assert pupil(batch).total.item() == 0
    losses = taught(batch)
    assert losses.total.item() == losses.parts["loss/teach"].item() > 0
    losses.total.backward()
    assert pupil.patches.projection.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert taught._distance(own.outputs, own.outputs)[0].item() == pytest.approx(0, abs=1e-6)


def test_lists_are_compared_by_their_answers(world, words):
    pupil = ViLT.new(CONFIG, words[0], answers=words[1])
    teacher = ViLT.new(CONFIG, words[0], answers=[*reversed(words[1]), "never said"])
    with torch.no_grad():
        state = teacher.state_dict()
        for name, value in pupil.state_dict().items():
            listed = name.startswith(("heads.answers.3", "heads.answers_of_two.3"))
            state[name] = torch.cat([value.flip(0), value[:1] * 0]) if listed else value
        teacher.load_state_dict(state)
    batch = batch_of(world, pupil, teacher)
    loss = Taught(pupil.eval(), teacher, STEPS)(batch).parts["loss/teach"]
    assert loss.item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        teacher.heads.answers[3].bias[-1] = 1000.0  # it now says what the pupil has no word for
    told = Taught(pupil, teacher, STEPS)(batch)
    assert told.stats["sure"] == 0 and told.parts["loss/teach"] == 0
    strange = ViLT.new(CONFIG, words[0], answers=["one", "two"])
    with pytest.raises(InputError, match="two answers in common"):
        Taught(pupil, strange, STEPS)


def test_a_teacher_is_as_sure_as_its_replies(world, words):
    """Its head for one picture was trained answer by answer, so that a softmax over them would be too sure."""
    pupil = ViLT.new(CONFIG, words[0], answers=words[1]).eval()
    batch = batch_of(world, pupil, pupil, turns=1)
    with torch.no_grad():
        pupil.heads.answers[3].bias.fill_(-5.0)
        pupil.heads.answers[3].bias[0] = 0.3
    said = pupil(batch).outputs
    torch.testing.assert_close(said["sure"], said["answers"].sigmoid().amax(dim=1))
    assert (said["answers"].softmax(dim=1).amax(dim=1) > 0.8).all()
    assert (said["sure"] < 0.8).all()
    strict = dataclasses.replace(STEPS, sure=0.8)
    assert Taught(pupil, pupil, strict)(batch).stats["sure"] == 0
    pictures = list(batch.view.pixels.permute(0, 2, 3, 1).numpy())
    asked = [pupil.processor.text.decode(row[mask].tolist()) for row, mask in zip(batch.tokens, batch.token_mask)]
    replies = pupil.answer([[one] for one in pictures], asked)
    assert [one.confidence for one in replies] == pytest.approx(said["sure"].tolist(), abs=1e-4)
    sure = pupil.answer([[pictures[0], pictures[1]]], asked[:1])[0].confidence
    assert 1 / len(words[1]) <= sure <= 1, "of two pictures the shares of the list's answers add up to 1"


def test_the_average_of_its_own_weights_teaches(world, words):
    pupil = ViLT.new(CONFIG, words[0], answers=words[1])
    taught = Taught(pupil, None, dataclasses.replace(STEPS, teacher="self", ema=0.9))
    taught.average = Average(pupil, 0.9)
    batch = batch_of(world, pupil, pupil)
    assert taught(batch).parts["loss/teach"].item() == pytest.approx(0, abs=1e-6), "it is its own average"
    with torch.no_grad():
        for parameter in pupil.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    before = {name: weight.clone() for name, weight in pupil.named_parameters()}
    losses = taught(batch)
    assert losses.parts["loss/teach"] > 0 and pupil.training
    losses.total.backward()
    assert all(torch.equal(weight, before[name]) for name, weight in pupil.named_parameters())


def test_dual_encoders_are_taught_at_any_width(world):
    texts = [caption for captions in world.column("captions") for caption in captions]
    preset = next(iter(PRESETS.values()))
    pupil, teacher = (CLIP.new(dataclasses.replace(preset, embed_dim=width), texts) for width in (16, 24))
    batch = batch_of(world, pupil, teacher, texts="captions", turns=1, unlabelled=False)
    taught = Taught(pupil, teacher, dataclasses.replace(STEPS, teach="similarities"))
    assert taught(batch).parts["loss/teach"] > 0
    with pytest.raises(InputError, match="similarities can be taught"):
        Taught(pupil, teacher, dataclasses.replace(STEPS, teach="features"))(batch)
    with pytest.raises(InputError, match="expected a pupil that answers from a list"):
        Taught(pupil, teacher, STEPS)


def test_a_run_with_a_teacher(world, words, tmp_path):
    models.save(ViLT.new(CONFIG, words[0], answers=words[1], seed=1).eval(), tmp_path / "teacher")
    settings = {
        "training": {"steps": 3, "teacher": str(tmp_path / "teacher"), "temperature": 2.0},
        "loader": {"batch_size": 8, "held_out": 0.0, "texts": "questions", "unlabelled": True},
        "model": {"width": 32, "layers": 1, "heads": 4, "image": {"size": 32}},
    }
    trained = fitting.train(recipe("vilt", settings=settings), world, tmp_path / "run", show="silent")
    assert trained.run.values["loss/teach"] > 0 and 0 <= trained.run.values["sure"] <= 1
    settings["training"] = {"steps": 3, "teacher": "self", "ema": 0.9, "sure": 0.5}
    trained = fitting.train(recipe("vilt", settings=settings), world, tmp_path / "self", show="silent")
    assert "loss/teach" in trained.run.values
    settings["training"] = {"steps": 3, "teacher": str(tmp_path / "teacher")}
    with pytest.raises(InputError, match="set loader.texts to questions"):
        captions = settings | {"loader": {"texts": "captions", "unlabelled": True}}
        fitting.train(recipe("vilt", settings=captions), world, tmp_path / "none", show="silent")
    models.save(CLIP.new(next(iter(PRESETS.values())), words[0]).eval(), tmp_path / "clip")
    settings["training"] = {"steps": 3, "teacher": str(tmp_path / "clip"), "teach": "features"}
    with pytest.raises(InputError, match="reads samples as vilt does"):
        fitting.train(recipe("vilt", settings=settings), world, tmp_path / "none", show="silent")
    settings["training"] = {"steps": 3}
    with pytest.raises(InputError, match=r"loader\.unlabelled: expected"):
        fitting.train(recipe("vilt", settings=settings), world, tmp_path / "none", show="silent")
    with pytest.raises(InputError, match="ema: expected a decay"):
        TrainConfig(steps=1, teacher="self")
