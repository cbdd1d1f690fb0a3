"""Retrieval over pictures, datasets and anything that answers `search`."""

import numpy as np
import pytest
from test_embed import dataset
from toy_encoder import COLOURS, Toy, picture

from diptych.tasks import Hit, embed_texts, retrieve
from diptych.types import InputError

NAMES = list(COLOURS)


def test_texts_and_pictures_find_their_colour():
    images = [picture(name, noise=30, seed=i) for i, name in enumerate(NAMES)]
    answers = retrieve(Toy(), ["blue", picture("green"), "something red"], images, k=2)
    assert [hits[0].id for hits in answers] == [str(NAMES.index(name)) for name in ("blue", "green", "red")]
    assert all(len(hits) == 2 and hits[0].score >= hits[1].score for hits in answers)


def test_hits_carry_paths_and_sample_ids(tmp_path):
    path = tmp_path / "red.png"
    picture("red").save(path)
    assert retrieve(Toy(), ["red"], [picture("white"), path])[0][0].id == str(path)
    data = dataset(tmp_path / "d", [("w", picture("white")), ("bad", b"?"), ("r", picture("red"))])
    assert [hit.id for hit in retrieve(Toy(), ["red"], data)[0]] == ["r", "w"], "what cannot be read is not found"


def test_an_index_is_asked_with_unit_rows():
    class Recorder:
        def search(self, vectors, k):
            self.asked = (np.asarray(vectors), k)
            return [[Hit("x", 1.0, {})] for _ in vectors]

    index = Recorder()
    assert retrieve(Toy(), ["red", "blue"], index, k=3) == [[Hit("x", 1.0, {})]] * 2
    assert index.asked[1] == 3
    assert np.allclose(index.asked[0], embed_texts(Toy(), ["red", "blue"]), atol=1e-6)


def test_nothing_to_ask_and_nothing_to_find():
    assert retrieve(Toy(), [], [picture("red")]) == []
    assert retrieve(Toy(), ["red"], []) == [[]]
    with pytest.raises(InputError, match="list of queries"):
        retrieve(Toy(), "red", [picture("red")])
    with pytest.raises(InputError, match="expected a picture"):
        retrieve(Toy(), [b"?"], [picture("red")])


def test_a_shortlist_is_looked_at_pair_by_pair(tmp_path):
    class Dark:
        """Prefers the darker picture, whatever the text."""

        def __init__(self):
            self.pairs = 0

        def match(self, pictures, texts):
            self.pairs += len(texts)
            return np.array([-float(np.asarray(one).mean()) for one in pictures], np.float32)

    images = [picture(name) for name in NAMES]
    plain = retrieve(Toy(), ["red", "blue"], images, k=len(NAMES))
    dark = Dark()
    found = retrieve(Toy(), ["red", "blue"], images, k=2, by=dark, shortlist=3)
    assert dark.pairs == 6
    for all_hits, hits in zip(plain, found):
        best = sorted(all_hits[:3], key=lambda hit: np.asarray(images[int(hit.id)]).mean())
        assert [hit.id for hit in hits] == [hit.id for hit in best[:2]]
        assert hits[0].score == pytest.approx(-np.asarray(images[int(hits[0].id)]).mean(), rel=1e-3)
    with pytest.raises(InputError, match="texts as queries"):
        retrieve(Toy(), [picture("red")], images, by=dark)
