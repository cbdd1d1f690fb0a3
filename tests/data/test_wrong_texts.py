"""Texts that are known to be wrong come with their picture's own: as many as asked for, evenly of each kind."""

import io
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.data.loader import Loader
from diptych.data.store import Dataset, DatasetWriter
from diptych.images import decode
from diptych.types import Batch, EncodedImage, Negative, Sample


class Words:
    """A processor that keeps what it was given."""

    def __init__(self):
        self.wrong = []

    def decode_image(self, data):
        return np.asarray(decode(data))

    def collate(self, ids, images, texts, *, wrong=None):
        self.wrong.append(dict(zip(ids, wrong)))
        return Batch(ids=ids, tokens=torch.tensor([[len(text)] for text in texts]))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """ "many" has five wrong texts of one kind and one of another, "one" a single one, "none" has none."""
    picture = io.BytesIO()
    Image.new("RGB", (2, 2)).save(picture, "PNG")
    order = [Negative(f"order {i}", "order") for i in range(5)]
    wrong = {"many": [*order, Negative("swap", "swap")], "one": [Negative("lone", "order")], "none": []}
    folder = tmp_path_factory.mktemp("wrong") / "d"
    with DatasetWriter(folder) as out:
        for id, negatives in wrong.items():
            out.write(Sample(id, [EncodedImage(picture.getvalue())], ["a caption"], negatives=negatives))
    return Dataset.open(folder)


def given(data, count, epochs=1, seed=0):
    words = Words()
    loader = Loader(data, words, 3, shuffle=False, drop_last=False, wrong=count, seed=seed)
    for epoch in range(epochs):
        list(loader.epoch(epoch))
    return words.wrong


def test_as_many_as_there_are_at_most_and_all_different(data):
    (two,) = given(data, 2)
    assert len(two["many"]) == len(set(two["many"])) == 2
    assert two["one"] == ("lone",) and two["none"] == ()
    (ten,) = given(data, 10)
    assert sorted(ten["many"]) == [f"order {i}" for i in range(5)] + ["swap"]


def test_each_kind_is_as_likely_and_each_text_of_a_kind(data):
    drawn = Counter(batch["many"][0] for batch in given(data, 1, epochs=400))
    assert 160 < drawn.pop("swap") < 240  # half of 400; 4 standard deviations are 40
    assert set(drawn) == {f"order {i}" for i in range(5)} and min(drawn.values()) > 20


def test_the_draw_is_of_the_seed_and_the_epoch(data):
    assert given(data, 2, epochs=5) == given(data, 2, epochs=5) != given(data, 2, epochs=5, seed=1)
