"""Embedding: right rows in the right order, bad pictures named, nothing left changed."""

import io
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_encoder import COLOURS, WIDTH, Toy, picture

from diptych.data.store import Dataset, DatasetWriter
from diptych.tasks import embed_images, embed_readable_images, embed_texts, image_features, stream_images
from diptych.types import EncodedImage, InputError, Rejected, Sample


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def dataset(folder, pictures):
    """A dataset of (id, PIL picture or bytes) pairs."""
    with DatasetWriter(folder) as writer:
        for id, image in pictures:
            data = image if isinstance(image, bytes) else encoded(image)
            writer.write(Sample(id, [EncodedImage(data)], ["a caption"]))
    return Dataset.open(folder)


def colours(count, noise=40):
    names = list(COLOURS)
    return [picture(names[i % len(names)], noise=noise, seed=i) for i in range(count)]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))


def test_rows_are_unit_float32_and_in_order_whatever_the_kind_of_source(tmp_path):
    path = tmp_path / "p.png"
    picture("green").save(path)
    sources = [
        picture("red"),
        np.asarray(picture("blue")),
        encoded(picture("white")),
        path,
        str(path),
        EncodedImage(path=str(path)),
        EncodedImage(data=encoded(picture("black"))),
    ]
    rows = embed_images(Toy(), sources, batch_size=3, precision="fp32")
    assert rows.shape == (7, WIDTH) and rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    names = embed_texts(Toy(), list(COLOURS), precision="fp32")
    best = [list(COLOURS)[i] for i in (rows @ names.T).argmax(axis=1)]
    assert best == ["red", "blue", "white", "green", "green", "green", "black"]


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_a_row_does_not_depend_on_the_batch(batch_size):
    images = colours(25)
    alone = np.concatenate([embed_images(Toy(), [image], precision="fp32") for image in images])
    assert np.allclose(embed_images(Toy(), images, batch_size=batch_size, precision="fp32"), alone, atol=1e-6)
    assert np.allclose(embed_images(Toy(), images, batch_size=batch_size), alone, atol=2e-2), "bfloat16 is near"


def test_an_array_of_pictures_is_taken_too():
    stack = np.stack([np.asarray(image) for image in colours(4)])
    assert np.allclose(embed_images(Toy(), stack), embed_images(Toy(), list(stack)), atol=1e-6)


def test_a_dataset_gives_its_first_pictures(tmp_path):
    images = colours(11)
    data = dataset(tmp_path / "d", [(f"s{i}", image) for i, image in enumerate(images)])
    assert np.allclose(embed_images(Toy(), data, batch_size=4), embed_images(Toy(), images, batch_size=4), atol=1e-6)


def test_a_bad_picture_is_named(tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    picture("red").save(good)
    bad.write_bytes(good.read_bytes()[:40])
    with pytest.raises(InputError, match=r"bad\.png: expected a picture: image truncated"):
        embed_images(Toy(), [good, bad])
    with pytest.raises(InputError, match="picture 1: .*image not recognised"):
        embed_images(Toy(), [good, b"no picture"])
    data = dataset(tmp_path / "d", [("fine", picture("red")), ("the broken one", b"xxx")])
    with pytest.raises(InputError, match="the broken one: "):
        embed_images(Toy(), data)


def test_readable_pictures_keep_their_positions():
    images = [b"", picture("red"), b"?", b"?", picture("blue"), b"?"]
    found = embed_readable_images(Toy(), images, batch_size=2, precision="fp32")
    assert found.kept == [1, 4]
    assert [bad.id for bad in found.rejected] == ["picture 0", "picture 2", "picture 3", "picture 5"]
    assert found.rejected[0].reason == "image empty" and found.rejected[1].reason == "image not recognised"
    assert np.allclose(found.vectors, embed_images(Toy(), [images[1], images[4]], precision="fp32"), atol=1e-6)


def test_no_picture_at_all():
    assert len(embed_images(Toy(), [])) == 0
    assert embed_readable_images(Toy(), [b"?"]).vectors.shape[0] == 0
    assert len(embed_texts(Toy(), [])) == 0


def test_wrong_calls_get_a_sentence():
    with pytest.raises(InputError, match="single one"):
        embed_images(Toy(), "photo.jpg")
    with pytest.raises(InputError, match="single one"):
        embed_images(Toy(), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="batch_size"):
        embed_images(Toy(), [picture("red")], batch_size=0)
    with pytest.raises(InputError, match="list of texts"):
        embed_texts(Toy(), "a text")


def test_decoding_happens_on_threads_ahead_of_the_model():
    model = Toy()
    stream = stream_images(model, colours(40), batch_size=4)
    first = next(stream)
    assert first.positions == [0, 1, 2, 3]
    assert all(name.startswith("decode") for name in model.processor.threads)
    for _ in range(1000):
        if model.processor.decoded >= 16:
            break
        threading.Event().wait(0.01)
    assert 16 <= model.processor.decoded < 40, "some batches ahead, and not all of them"
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")], "a stream left early leaves no thread"


def test_the_caller_computes_gradients_between_batches_and_gets_its_model_back():
    model = Toy()
    model.train()
    model.words.eval()  # a locked part
    for _ in stream_images(model, colours(6), batch_size=2):
        assert not model.training
        loss = model.project(torch.ones(1, 4)).sum()
        assert loss.requires_grad and loss.dtype == torch.float32
    assert model.training and model.tower.training and not model.words.training


def test_texts_come_back_in_order_and_alone_or_together_are_the_same():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["red", "blue", "a", "white"], rng.integers(1, 30))) for _ in range(100)]
    together = embed_texts(Toy(), texts, batch_size=8, precision="fp32")
    alone = np.concatenate([embed_texts(Toy(), [text], precision="fp32") for text in texts])
    assert np.allclose(together, alone, atol=1e-6)


def test_texts_of_like_length_share_a_batch():
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, 40, 400)
    model = Toy()
    embed_texts(model, [" ".join(["red"] * n) for n in lengths], batch_size=20)
    computed = sum(rows * width for rows, width in model.processor.text_batches)
    assert computed < 1.1 * lengths.sum(), "at most a tenth is padding; in random order it is about half"


def test_progress_ends_at_all_of_them():
    seen = []
    embed_images(Toy(), colours(10), batch_size=4, progress=lambda *at: seen.append(at))
    assert seen == [(4, 10), (8, 10), (10, 10)]
    seen.clear()
    embed_readable_images(Toy(), [*colours(3), b"?"], batch_size=4, progress=lambda *at: seen.append(at))
    embed_texts(Toy(), ["red"] * 5, batch_size=4, progress=lambda *at: seen.append(at))
    assert seen == [(4, 4), (4, 5), (5, 5)]


def test_features_are_computed_once(tmp_path, cache):
    images = colours(9)
    data = dataset(tmp_path / "d", [(f"s{i}", image) for i, image in enumerate(images)])
    model = Toy()
    first = image_features(model, data, batch_size=4)
    calls = model.tower_calls
    again = image_features(model, data, batch_size=4)
    assert calls == 3 and model.tower_calls == calls
    assert list(first) == [f"s{i}" for i in range(9)] and again.keys() == first.keys()
    assert all(np.array_equal(first[id], again[id]) for id in first)
    pixels = torch.stack([torch.from_numpy(Toy().processor.decode_image(image)) for image in images]).permute(
        0, 3, 1, 2
    )
    with torch.no_grad():
        plain = Toy().image_features(pixels).numpy()
    assert np.allclose(np.stack(list(first.values())), plain, atol=2e-2)
    assert model.tower_calls == calls and image_features(model, data, cache=False) and model.tower_calls > calls


def test_equal_ids_of_other_pictures_are_not_mixed_up(tmp_path, cache):
    model = Toy()
    red = image_features(model, dataset(tmp_path / "a", [("1", picture("red"))]))["1"]
    blue = image_features(model, dataset(tmp_path / "b", [("1", picture("blue"))]))["1"]
    assert red[0] > 0.3 > blue[0]


def test_features_of_unreadable_pictures_are_left_out_and_told(tmp_path, cache):
    data = dataset(tmp_path / "d", [("ok", picture("red")), ("broken", b"xxx")])
    for _ in range(2):
        rejected: list[Rejected] = []
        assert list(image_features(Toy(), data, rejected=rejected)) == ["ok"]
        assert [(bad.id, bad.reason) for bad in rejected] == [("broken", "image not recognised")]


def test_a_model_that_is_no_module_is_used_as_it_is():
    toy = Toy()
    plain = SimpleNamespace(processor=toy.processor, encode_image=toy.encode_image)
    assert np.allclose(embed_images(plain, [picture("red")]), embed_images(toy, [picture("red")]), atol=2e-2)
