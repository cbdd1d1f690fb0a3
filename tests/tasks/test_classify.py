"""Zero-shot classification against values worked out by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from toy_encoder import COLOURS, Toy, picture

from diptych.tasks import TEMPLATES, class_embeddings, classify, classify_readable_images, embed_texts
from diptych.tasks.classify import SCALE, fill, similarity_scale
from diptych.types import InputError


@pytest.mark.parametrize(
    ("template", "label", "sentence"),
    [
        ("a photo of a {}.", "dog", "a photo of a dog."),
        ("a photo of a {}.", "apple", "a photo of an apple."),
        ("a photo of a {}.", "the Eiffel tower", "a photo of the Eiffel tower."),
        ("an image of the {}.", "an apple", "an image of an apple."),
        ("an image of the {}.", "apple", "an image of the apple."),
        ("{}", "a cat", "a cat"),
        ("itap of my {}", "antelope", "itap of my antelope"),
    ],
)
def test_sentences_are_plain_english(template, label, sentence):
    assert fill(template, label) == sentence


def test_a_class_is_the_normalised_mean_of_its_sentences():
    model = Toy()
    templates = ["{}", "{} and white", "a red {}"]
    rows = embed_texts(model, ["blue", "blue and white", "a red blue"], precision="fp32")
    expected = rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0))
    found = class_embeddings(model, ["green", "blue"], templates, precision="fp32")
    assert found.shape == (2, rows.shape[1]) and np.allclose(found[1], expected, atol=1e-6)


def test_pictures_get_their_colour():
    names = list(COLOURS)
    images = [picture(name, noise=20, seed=i) for i, name in enumerate(names * 2)]
    answers = classify(Toy(), images, names)
    assert [answer.label for answer in answers] == names * 2
    for answer in answers:
        assert math.isclose(sum(answer.probabilities.values()), 1, abs_tol=1e-9)
        assert set(answer.probabilities) == set(names)
        assert next(iter(answer.probabilities)) == answer.label
        assert answer.probability == max(answer.probabilities.values()) > 0.9


def test_unreadable_pictures_are_left_out_and_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    images = [picture("red"), tmp_path / "broken.jpg", picture("blue")]
    found = classify_readable_images(Toy(), images, list(COLOURS))
    assert [answer.label for answer in found.answers] == ["red", "blue"] and found.kept == [0, 2]
    assert [(row.id, row.reason) for row in found.rejected] == [(str(tmp_path / "broken.jpg"), "image not recognised")]
    with pytest.raises(InputError, match="broken.jpg"):
        classify(Toy(), images, list(COLOURS))


def test_probabilities_are_the_softmax_of_scaled_cosines():
    model, image = Toy(), picture("red", noise=90)
    with torch.no_grad():
        row = model.encode_image(torch.from_numpy(model.processor.decode_image(image)).permute(2, 0, 1)[None])[
            0
        ].numpy()
    cosines = class_embeddings(model, ["white", "green"], precision="fp32") @ row
    odds = classify(model, [image], ["white", "green"], scale=7.0, precision="fp32")[0].probabilities
    assert math.isclose(math.log(odds["white"] / odds["green"]), 7 * (cosines[0] - cosines[1]), rel_tol=1e-3)


def test_the_scale_is_the_learnt_one():
    assert similarity_scale(Toy()) == SCALE == 100
    model = Toy()
    model.head = nn.Module()
    model.head.logit_scale = nn.Parameter(torch.tensor(math.log(20.0)))
    assert math.isclose(similarity_scale(model), 20, rel_tol=1e-5)
    model.head.logit_scale.data.fill_(9.0)
    assert similarity_scale(model) == 100, "CLIP's bound"


@pytest.mark.parametrize(
    ("labels", "templates", "message"),
    [
        ("cat", None, "labels"),
        ([], None, "labels"),
        (["cat", " "], None, "labels"),
        (["cat", "cat"], None, "differ"),
        (["cat"], ["a photo"], "templates"),
        (["cat"], "a {}", "templates"),
        (["cat"], [], "templates"),
    ],
)
def test_wrong_calls_get_a_sentence(labels, templates, message):
    with pytest.raises(InputError, match=message):
        class_embeddings(Toy(), labels, templates)


def test_default_templates_have_a_place_for_the_class():
    assert len(TEMPLATES) >= 3 and all(template.count("{}") == 1 for template in TEMPLATES)
    assert classify(Toy(), [], ["red"]) == []
