"""What the four families that read picture and text together share: losses, masks, what they can be asked, folders."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import diptych
from diptych import models, tasks
from diptych.capabilities import AnswersQuestions, DualEncoder, FillsWords, HasFrozenImageTower, MatchesPairs
from diptych.data.loader import Loader
from diptych.models import fusion
from diptych.models.fcos import FCOS, FCOSConfig
from diptych.models.flava import FLAVA, FLAVAConfig
from diptych.models.region_reader import RegionsConfig
from diptych.models.vilbert import ViLBERT, ViLBERTConfig
from diptych.models.vilt import ViLT, ViLTConfig
from diptych.models.visualbert import VisualBERT, VisualBERTConfig
from diptych.objectives.masked import hidden_regions
from diptych.processing import ImageConfig
from diptych.towers import ResNetConfig
from diptych.towers.detector import DetectorConfig
from diptych.towers.regions import Regions
from diptych.types import NOT_ASKED, UNLISTED, InputError

TOWER = ResNetConfig(depths=(1, 1), stem_width=16, block="basic")
REGIONS = RegionsConfig(vision=TOWER)
IMAGE = ImageConfig(size=32)
FAMILIES = {
    "visualbert": (
        VisualBERT,
        VisualBERTConfig(
            regions=REGIONS, vocab_size=400, context_length=64, width=32, layers=2, heads=4, dropout=0.0, image=IMAGE
        ),
    ),
    "vilbert": (
        ViLBERT,
        ViLBERTConfig(
            regions=REGIONS,
            vocab_size=400,
            context_length=64,
            width=32,
            layers=3,
            heads=4,
            image_width=24,
            image_layers=2,
            image_heads=4,
            between=32,
            dropout=0.0,
            image=IMAGE,
        ),
    ),
    "vilt": (
        ViLT,
        ViLTConfig(vocab_size=400, context_length=64, width=32, layers=2, heads=4, patch=8, image=IMAGE),
    ),
    "flava": (
        FLAVA,
        FLAVAConfig(
            vocab_size=400,
            context_length=64,
            width=32,
            heads=4,
            image_layers=1,
            text_layers=1,
            joint_layers=1,
            patch=8,
            embed_dim=16,
            image=IMAGE,
        ),
    ),
}
LEARNT = {"visualbert": 150, "vilbert": 150, "vilt": 150, "flava": 350}  # steps
DETECTOR = FCOSConfig(DetectorConfig(vision=TOWER, width=16, depth=1), image=ImageConfig(size=32, resize="squash"))
every = pytest.mark.parametrize("name", FAMILIES)


@pytest.fixture(scope="module")
def world():
    return diptych.open_dataset("scenes:?n=24&size=32&objects=1-2")


@pytest.fixture(scope="module")
def pairs():
    return diptych.open_dataset("scenes:?n=8&size=32&objects=1-2&task=pairs")


@pytest.fixture(scope="module")
def words(world):
    samples = world.take(range(len(world)), fields={"captions", "questions"})
    questions = [one for sample in samples for one in sample.questions]
    texts = [caption for sample in samples for caption in sample.captions] + [one.question for one in questions]
    return texts, ["True", "False", *sorted({answer for one in questions for answer in one.answers})]


def new(name, words):
    family, config = FAMILIES[name]
    texts, answers = words
    return family.new(config, texts, answers=answers, seed=0)


def batch_of(world, model, size=12, **options):
    return next(Loader(world, model.processor, size, shuffle=False, drop_last=True, **options).epoch(0))


def pictures_of(world, model, count):
    samples = world.take(range(count), fields={"images"})
    return [model.processor.decode_image(sample.images[0].data) for sample in samples]


@every
def test_a_fresh_model_is_as_good_as_chance(name, world, words):
    model = new(name, words)
    for options in ({"texts": "captions"}, {"texts": "questions", "turns": 3}, {"texts": "both"}):
        torch.manual_seed(0)
        losses = model(batch_of(world, model, **options))
        assert losses.chance
        for part, chance in losses.chance.items():
            if part == "loss/itm":  # chance knows how many pairs of this batch fit; a fresh model does not
                assert chance <= math.log(2) + 1e-6
                chance = math.log(2)
            assert losses.parts[part].item() == pytest.approx(chance, rel=0.1, abs=0.1), part
    model = new(name, words)
    assert losses.chance["loss/vqa"] == pytest.approx(len(words[1]) * math.log(2))


@every
def test_every_parameter_that_should_learn_gets_a_gradient(name, world, words):
    model = new(name, words)
    torch.manual_seed(0)
    (model(batch_of(world, model, texts="both")).total).backward()
    silent = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()}
    unused = ("heads.answers_of_two", "words_alone", "patches_alone", "image.pooler", "text.pooler")
    expected = {n for n in silent if n.startswith(unused) or n.endswith(("types.weight", "k_proj.bias"))}
    assert silent == expected


@every
@torch.no_grad()
def test_padding_is_not_seen(name, world, words):
    model = new(name, words).eval()
    image, there = fusion._seen(model, pictures_of(world, model, 2))
    tokens, mask = model.processor.text(["a red cube", "a small green ball is left of a big brown cone"])
    short = int(mask[0].sum())
    assert short < tokens.shape[1]
    fused = model.join(tokens, mask, image, there)
    alone = model.join(tokens[:1, :short], mask[:1, :short], image[:1], there[:1])
    torch.testing.assert_close(fused.text[0, :short], alone.text[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fused.pooled[0], alone.pooled[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fused.image[0], alone.image[0], atol=1e-5, rtol=1e-4)
    other = tokens.clone()
    other[0, short:] = 7
    torch.testing.assert_close(model.join(other, mask, image, there).pooled[0], fused.pooled[0], atol=0, rtol=0)


@every
@torch.no_grad()
def test_regions_that_are_not_there_are_not_seen(name, world, words):
    model = new(name, words).eval()
    image, there = fusion._seen(model, pictures_of(world, model, 1))
    tokens, mask = model.processor.text(["a red cube"])
    there[:, -2:] = False
    before = model.join(tokens, mask, image, there)
    image[:, -2:] += torch.randn_like(image[:, -2:])
    after = model.join(tokens, mask, image, there)
    assert torch.equal(before.pooled, after.pooled) and torch.equal(before.text, after.text)
    image[:, 1] += torch.randn_like(image[:, 1])
    assert not torch.allclose(before.pooled, model.join(tokens, mask, image, there).pooled)


@every
@torch.no_grad()
def test_what_is_hidden_is_not_seen(name, world, words):
    """The state at a mask does not depend on which word it hides."""
    model = new(name, words).eval()
    first, second = (model.fill(pictures_of(world, model, 1), [text]) for text in ("a <mask> cube", "a <mask> ball"))
    assert len(first[0]) == len(second[0]) == 1
    tokens, mask = model.processor.text.masked(["a <mask> cube"])
    assert (tokens == model.processor.text.mask_id).sum() == 1
    assert mask.all()


@every
def test_answers_come_from_the_list_or_the_choices(name, world, words):
    model = new(name, words).eval()
    assert isinstance(model, AnswersQuestions) and isinstance(model, MatchesPairs) and isinstance(model, FillsWords)
    one, two = pictures_of(world, model, 2)
    asked = "what color is the cube?"
    free, chosen, pair, none, three, unlisted = model.answer(
        [[one], [one], [one, two], [], [one] * 3, [one]],
        [asked] * 6,
        [[], ["red", "blue"], ["True", "False"], [], [], ["nobody said this"]],
    )
    assert free.text in words[1]
    assert chosen.text in ("red", "blue") and 0 < chosen.confidence < 1
    assert pair.text in ("True", "False")
    assert (none.reason, three.reason, unlisted.reason) == ("no picture", "too many pictures", "answer not listed")
    alone = model.answer([[one]], [asked], [["red", "blue"]])[0]
    assert alone.text == chosen.text and alone.confidence == pytest.approx(chosen.confidence, abs=1e-5)


@every
def test_two_pictures_are_asked_about_in_order(name, pairs, words):
    model = new(name, words)
    batch = batch_of(pairs, model, 8, texts="documents")
    assert batch.picture_of.tolist() == [i for i in range(8) for _ in range(2)]
    assert set(batch.answers.tolist()) == {0, 1}
    losses = model(batch)
    assert losses.parts["loss/nlvr2"].item() == pytest.approx(math.log(len(words[1])), abs=0.2)
    model.eval()
    left, right = (model.processor.decode_image(one.data) for one in pairs.take([0], fields={"images"})[0].images)
    there, back = model.answer([[left, right], [right, left]], ["there is one cube"] * 2, [["True", "False"]] * 2)
    assert there.confidence != back.confidence


@every
def test_rows_of_a_batch(name, world, words):
    model = new(name, words)
    whole = batch_of(world, model, 6, texts="questions", turns=3)
    some = fusion.rows(whole)
    assert some.picture.tolist() == sorted(some.picture.tolist()) and int(some.picture.max()) == 5
    counts = torch.bincount(some.picture)
    assert (counts <= 3).all() and (counts > 1).any()
    assert UNLISTED not in some.answers.tolist() and NOT_ASKED not in some.answers.tolist()
    first, second = whole.chunks(3)
    assert torch.equal(torch.cat([first.tokens, second.tokens]), whole.tokens)
    assert torch.equal(second.text_of + 3, whole.text_of[whole.text_of >= 3])
    wrong = batch_of(world, model, 6, texts="captions", wrong=2)
    told = fusion.rows(wrong)
    assert told.fits.sum() == 6 and (~told.fits).sum() >= 3
    given, fits = fusion.exchanged(told)
    assert not fits[~told.fits].any()
    assert torch.equal(given[~told.fits], told.picture[~told.fits])
    assert torch.equal(fits[told.fits], given[told.fits] == told.picture[told.fits])


@every
def test_a_saved_model_says_the_same(name, world, words, tmp_path):
    model = new(name, words).eval()
    models.save(model, tmp_path / "model")
    again = models.load(tmp_path / "model")
    assert again.processor.answers == model.processor.answers == words[1]
    pictures, texts = pictures_of(world, model, 2), ["a red cube", "a ball"]
    assert np.array_equal(model.match(pictures, texts), again.match(pictures, texts))
    assert model.fill(pictures, ["a <mask>", "<mask>"]) == again.fill(pictures, ["a <mask>", "<mask>"])


@every
def test_it_learns_what_the_picture_shows(name):
    """Questions about single things: from the picture, and no better than the commonest answer once that is blank."""
    world = diptych.open_dataset("scenes:?n=48&size=32&objects=1")
    family, config = FAMILIES[name]
    samples = world.take(range(len(world)), fields={"questions"})
    asked = [one for sample in samples for one in sample.questions if one.kind == "query color" and one.answers]
    answers = sorted({one.answers[0] for one in asked})
    model = family.new(config, [one.question for one in asked], answers=answers, seed=0)
    pictures = pictures_of(world, model, len(world))
    own = [i for i, sample in enumerate(samples) for one in sample.questions if one in asked]
    ids = [str(i) for i in own]
    batch = model.processor.collate(
        ids,
        np.stack([pictures[i] for i in own]),
        [one.answers[0] for one in asked],
        prompts=[q.question for q in asked],
    )
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, betas=(0.9, 0.98))
    torch.manual_seed(0)
    for _ in range(LEARNT[name]):
        losses = model(batch)
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()

    def right(shown):
        replies = model.answer([[picture] for picture in shown], [one.question for one in asked])
        return np.mean([reply.text == one.answers[0] for reply, one in zip(replies, asked)])

    commonest = max(np.mean([one.answers[0] == answer for one in asked]) for answer in answers)
    assert right([pictures[i] for i in own]) > 0.8 > 2 * commonest
    assert right([np.zeros_like(pictures[i]) for i in own]) <= 2 * commonest


def test_a_model_without_a_head_says_so(world, words):
    config = dataclasses.replace(FAMILIES["vilt"][1], heads_for=fusion.HeadsConfig(fits=False))
    model = ViLT.new(config, words[0], seed=0).eval()
    picture = pictures_of(world, model, 1)
    with pytest.raises(InputError, match="matching"):
        model.match(picture, ["a cube"])
    with pytest.raises(InputError, match="questions about a picture"):
        model.answer([picture], ["what is this?"])
    assert set(model(batch_of(world, model)).parts) == {"loss/mlm"}


@pytest.mark.parametrize("name", ["visualbert", "vilbert"])
def test_regions_of_a_detector(name, world, words, tmp_path):
    """They are the same from the cache, never change, and ViLBERT guesses what hidden ones are."""
    detector = FCOS.new(DETECTOR, names=["cone", "cube", "sphere"], seed=0)
    models.save(detector, tmp_path / "detector")
    family, config = FAMILIES[name]
    config = dataclasses.replace(config, regions=RegionsConfig(detector_address=str(tmp_path / "detector"), count=6))
    model = family.new(config, words[0], answers=words[1], seed=0)
    assert isinstance(model, HasFrozenImageTower) and not isinstance(new(name, words), HasFrozenImageTower)
    assert model.config.image == DETECTOR.image and model.config.features == 16
    before = model.image_tower_fingerprint()

    live = batch_of(world, model, texts="both")
    kept = tasks.image_features(model, world, cache=False)
    cached = batch_of(world, model, texts="both", image_features=kept)
    assert cached.pixels is None
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    found = []
    for batch in (live, cached):
        torch.manual_seed(0)
        losses = model(batch)
        found.append(losses.parts)
        assert set(losses.parts) == {
            "loss/mlm",
            "loss/itm",
            "loss/vqa",
            *(["loss/regions"] if name == "vilbert" else []),
        }
    for part, value in found[0].items():
        torch.testing.assert_close(found[1][part], value, atol=1e-5, rtol=1e-4)
    if name == "vilbert":
        assert losses.parts["loss/regions"].item() == pytest.approx(losses.chance["loss/regions"], abs=0.05)
    losses.total.backward()
    optimizer.step()
    assert model.image_tower_fingerprint() == before
    shown = model.eval().match(pictures_of(world, model, 2), ["a red cube"] * 2)
    models.save(model, tmp_path / "model")
    again = models.load(tmp_path / "model")
    assert np.array_equal(again.match(pictures_of(world, model, 2), ["a red cube"] * 2), shown)


@torch.no_grad()
def test_hidden_regions_are_not_seen(world, words):
    """Nine in ten have no features, and none is part of the picture's mean."""
    model = new("vilbert", words)
    features = torch.randn(40, 9, model.config.features)
    boxes = torch.rand(40, 9, 2).repeat(1, 1, 2) * torch.tensor([0.5, 0.5, 1, 1])
    found = Regions(features, boxes, torch.ones(40, 9, dtype=torch.bool))
    hidden = hidden_regions(found.there, 0.3)
    torch.manual_seed(0)
    image, _ = model.read_regions(found, hidden)
    torch.manual_seed(0)
    other, _ = model.read_regions(found._replace(features=features + hidden[:, :, None] * 5.0), hidden)
    same = (image[:, 1:] == other[:, 1:]).all(dim=2)
    assert same[~hidden].all() and 0.8 < same[hidden].float().mean() < 0.97
    assert torch.equal(image[:, 0], other[:, 0])


def test_flava_without_pairs_has_no_term_for_pairs(world, words):
    model = new("flava", words)
    assert isinstance(model, DualEncoder)
    assert set(model(batch_of(world, model, sides="images")).parts) == {"loss/mim"}
    assert set(model(batch_of(world, model, sides="texts")).parts) == {"loss/mlm"}
    paired = {"loss/itc", "loss/itm", "loss/mmm_text", "loss/mmm_image"}
    assert set(model(batch_of(world, model)).parts) == paired
    mixed = batch_of(world, model)
    mixed.has_image, mixed.has_text = torch.ones(12, dtype=torch.bool), torch.ones(12, dtype=torch.bool)
    mixed.has_image[:3], mixed.has_text[-3:] = False, False
    assert set(model(mixed).parts) == paired | {"loss/mim", "loss/mlm"}
