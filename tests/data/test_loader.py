"""The loader: the right rows in the right order, once, from threads that end."""

import io
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.data import export_dataset, open_dataset
from diptych.data.loader import BATCHES_AHEAD, ROWS_PER_TASK, Loader
from diptych.data.store import Dataset, DatasetWriter
from diptych.images import decode
from diptych.types import Batch, EncodedImage, InputError, Sample


class Pixels:
    """A processor of 2 x 2 pictures; a text is its length."""

    def __init__(self):
        self.decoded = []
        self.threads = set()

    def decode_image(self, data):
        self.threads.add(threading.current_thread().name.split("_")[0])
        array = np.asarray(decode(data))
        self.decoded.append(int(array[0, 0, 0]))
        return array

    def collate(self, ids, images, texts, *, augment=False, generator=None):
        batch = Batch(ids=ids)
        if images is not None:
            batch.pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
            if augment:
                noise = torch.randint(0, 50, batch.pixels.shape, generator=generator, dtype=torch.uint8)
                batch.pixels = batch.pixels + noise
        if texts is not None:
            batch.tokens = torch.tensor([[len(text)] for text in texts])
        return batch

    def fingerprint(self):
        return "pixels"

    def image_fingerprint(self) -> str:
        return self.fingerprint()


def picture(grey: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), (grey, grey, grey)).save(buffer, "PNG")
    return buffer.getvalue()


def make(folder, count=50, bad=()) -> Dataset:
    """Row i shows grey i and has captions of 1, 2 and 3 letters; the rows in `bad` hold no picture."""
    with DatasetWriter(folder) as out:
        for i in range(count):
            data = b"nothing" if i in bad else picture(i)
            out.write(Sample(id=str(i), images=[EncodedImage(data)], captions=["a", "bb", "ccc"]))
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make(tmp_path_factory.mktemp("loader") / "d")


def loader(dataset, batch_size=8, **options):
    options = {"shuffle": True, "drop_last": True, "threads": 3} | options
    return Loader(dataset, options.pop("processor", Pixels()), batch_size, **options)


def ids(batches) -> list[list[str]]:
    return [batch.ids for batch in batches]


def test_an_epoch_holds_every_row_once_with_its_own_picture(dataset):
    batches = list(loader(dataset, drop_last=False).epoch(0))
    assert [len(batch) for batch in batches] == [8] * 6 + [2]
    assert sorted(id for batch in batches for id in batch.ids) == sorted(dataset.ids)
    for batch in batches:
        assert batch.pixels.dtype == torch.uint8 and batch.pixels.shape == (len(batch), 3, 2, 2)
        assert batch.pixels[:, 0, 0, 0].tolist() == [int(id) for id in batch.ids]
        assert set(batch.tokens.flatten().tolist()) <= {1, 2, 3}


def test_lengths(dataset):
    assert len(loader(dataset)) == 6 and len(loader(dataset, drop_last=False)) == 7
    assert len(loader(dataset, 50)) == len(loader(dataset, 50, drop_last=False)) == 1
    assert len(loader(dataset, 51)) == 0 and len(loader(dataset, 51, drop_last=False)) == 1
    assert ids(loader(dataset, 51).epoch(0)) == []


def test_the_order_is_a_function_of_seed_and_epoch(dataset):
    first = ids(loader(dataset, seed=1).epoch(0))
    assert ids(loader(dataset, seed=1, threads=1).epoch(0)) == first
    again = loader(dataset, seed=1)
    assert ids(again.epoch(3)) != first and ids(again.epoch(0)) == first
    assert ids(loader(dataset, seed=2).epoch(0)) != first
    plain = loader(dataset, shuffle=False)
    assert ids(plain.epoch(0)) == ids(plain.epoch(1)) == [[str(i) for i in range(a, a + 8)] for a in range(0, 48, 8)]


def test_captions_are_drawn_by_seed_epoch_and_id(dataset):
    def drawn(**options):
        epoch = options.pop("epoch", 0)
        batches = loader(dataset, drop_last=False, **options).epoch(epoch)
        return {id: n for batch in batches for id, n in zip(batch.ids, batch.tokens.flatten().tolist())}

    base = drawn(batch_size=8)
    assert base == drawn(batch_size=7, threads=1, shuffle=False)
    assert base != drawn(epoch=1) and base != drawn(seed=1)
    draws = [n for epoch in range(20) for n in drawn(epoch=epoch, sides="texts").values()]
    counts = [draws.count(n) for n in (1, 2, 3)]
    assert all(250 < count < 420 for count in counts)  # of 1000, a third each


def test_start_skips_without_decoding(dataset):
    whole = list(loader(dataset).epoch(2))
    processor = Pixels()
    rest = list(loader(dataset, processor=processor).epoch(2, start=4))
    assert ids(rest) == ids(whole[4:])
    assert all(torch.equal(a.tokens, b.tokens) and torch.equal(a.pixels, b.pixels) for a, b in zip(rest, whole[4:]))
    assert sorted(processor.decoded) == sorted(int(id) for batch in rest for id in batch.ids)


@pytest.mark.parametrize("drop_last", [True, False])
def test_ranks_share_each_batch_in_contiguous_slices(dataset, drop_last):
    whole = ids(loader(dataset, 16, drop_last=drop_last).epoch(1))
    parts = [ids(loader(dataset, 16, part=(r, 4), drop_last=drop_last).epoch(1)) for r in range(4)]
    assert [sum((part[i] for part in parts), []) for i in range(len(whole))] == whole
    assert [len(batch) for batch in parts[1][:3]] == [4, 4, 4]
    if not drop_last:
        assert [len(part[3]) for part in parts] == [0, 1, 0, 1]  # two rows are left for four ranks


def test_bad_rows_are_left_out_and_counted_once(tmp_path):
    dataset = make(tmp_path / "d", 12, bad=(0, 5, 6, 7, 4))
    own = loader(dataset, 4, shuffle=False)
    assert ids(own.epoch(0)) == [["1", "2", "3"], [], ["8", "9", "10", "11"]]
    assert [len(batch) for batch in own.epoch(1)] == [3, 0, 4]
    assert [row.id for row in own.rejected] == ["0", "4", "5", "6", "7"]
    assert {row.reason for row in own.rejected} == {"image not recognised"}


def test_rows_without_a_caption_are_left_out_of_pairs(tmp_path):
    with DatasetWriter(tmp_path / "d") as out:
        out.write(Sample(id="pair", images=[EncodedImage(picture(1))], captions=["x"]))
        out.write(Sample(id="alone", images=[EncodedImage(picture(2))]))
        out.write(Sample(id="words", captions=["x"]))
    dataset = Dataset.open(tmp_path / "d")
    own = loader(dataset, 3)
    assert ids(own.epoch(0)) == [["pair"]]
    assert {(row.id, row.reason) for row in own.rejected} == {("alone", "caption missing"), ("words", "image missing")}
    (images,) = loader(dataset, 3, sides="images", shuffle=False).epoch(0)
    assert images.ids == ["pair", "alone"] and images.tokens is None
    (texts,) = loader(dataset, 3, sides="texts", shuffle=False).epoch(0)
    assert texts.ids == ["pair", "words"] and texts.pixels is None


def test_features_stand_in_for_pictures(dataset):
    features = {str(i): np.full(5, i, np.float16) for i in range(49)}
    processor = Pixels()
    own = loader(dataset, 50, processor=processor, image_features=features)
    (batch,) = own.epoch(0)
    assert batch.pixels is None and processor.decoded == []
    assert batch.image_features.dtype == torch.float32 and batch.image_features.shape == (49, 5)
    assert batch.image_features[:, 0].tolist() == [float(id) for id in batch.ids]
    assert [(row.id, row.reason) for row in own.rejected] == [("49", "image feature missing")]


def test_augmentation_repeats_with_its_seed(dataset):
    def pixels(**options):
        return torch.cat([batch.pixels for batch in loader(dataset, augment=True, **options).epoch(1)])

    assert torch.equal(pixels(), pixels(threads=1)) and not torch.equal(pixels(seed=1), pixels())
    plain = torch.cat([batch.pixels for batch in loader(dataset).epoch(1)])
    assert not torch.equal(pixels(), plain)


def decoders() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("decode", "collate"))]


def test_decoding_is_on_threads_that_end_with_the_epoch(dataset):
    processor = Pixels()
    epoch = loader(dataset, processor=processor).epoch(0)
    next(epoch)
    assert decoders() and processor.threads == {"decode"}
    list(epoch)
    assert decoders() == []


def test_closing_early_stops_the_threads(dataset):
    processor = Pixels()
    epoch = loader(dataset, 2, processor=processor).epoch(0)
    next(epoch)
    epoch.close()
    assert decoders() == []
    assert len(processor.decoded) <= 2 * (1 + BATCHES_AHEAD + 1)


def test_no_more_than_a_few_batches_are_prepared_ahead(tmp_path):
    processor = Pixels()
    dataset = make(tmp_path / "d", 200)
    epoch = loader(dataset, 4, processor=processor).epoch(0)
    for taken in (1, 2, 3):
        next(epoch)
        time.sleep(0.05)
        assert 4 * taken <= len(processor.decoded) <= 4 * (taken + BATCHES_AHEAD)
    epoch.close()
    assert ROWS_PER_TASK > 4  # so that a batch above was one task


@pytest.mark.parametrize("where", ["decode_image", "collate"])
def test_an_error_of_the_processor_is_raised_at_its_batch(dataset, where):
    class Broken(Pixels):
        pass

    def fail(self, *args, **options):
        raise ZeroDivisionError("a mistake in the code is not a bad row")

    setattr(Broken, where, fail)
    with pytest.raises(ZeroDivisionError):
        list(loader(dataset, processor=Broken()).epoch(0))
    assert decoders() == []


def test_arguments_are_checked(dataset):
    for options in ({"batch_size": 0}, {"batch_size": 9, "part": (0, 2)}, {"part": (1, 1)}, {"part": (-1, 1)}):
        with pytest.raises(InputError, match="batch_size" if "batch_size" in options else "rank"):
            loader(dataset, **options)


def test_pairs_lone_pictures_and_lone_texts_come_in_one_batch(tmp_path):
    with DatasetWriter(tmp_path / "d") as out:
        out.write(Sample(id="pair", images=[EncodedImage(picture(1))], captions=["x"]))
        out.write(Sample(id="words", captions=["xyz"]))
        out.write(Sample(id="alone", images=[EncodedImage(picture(2))]))
        out.write(Sample(id="bad", images=[EncodedImage(b"no picture")], captions=["x"]))
        out.write(Sample(id="none"))
        for i in range(5):
            out.write(Sample(id=f"words {i}", captions=["xy"]))
        for i in range(5):
            out.write(Sample(id=f"alone {i}", images=[EncodedImage(picture(9))]))
    dataset = Dataset.open(tmp_path / "d")
    own = loader(dataset, 5, shuffle=False, sides="either")
    mixed, texts, images = own.epoch(0)
    assert mixed.ids == ["pair", "words", "alone"]
    assert mixed.has_image.tolist() == [True, False, True] and mixed.has_text.tolist() == [True, True, False]
    assert mixed.pixels[:, 0, 0, 0].tolist() == [1, 0, 2] and mixed.tokens.flatten().tolist() == [1, 3, 0]
    assert texts.pixels is None and texts.tokens is not None and not texts.has_image.any() and texts.has_text.all()
    assert images.tokens is None and images.has_image.all() and not images.has_text.any()
    reasons = {(row.id, row.reason) for row in own.rejected}
    assert reasons == {("bad", "image not recognised"), ("none", "image and caption missing")}
    assert [chunk.has_text.tolist() for chunk in mixed.chunks(2)] == [[True, True], [False]]
    (plain,) = loader(dataset, 15, shuffle=False).epoch(0)
    assert plain.ids == ["pair"] and plain.has_image is None and plain.has_text is None
    own = loader(dataset, 15, shuffle=False, sides="captioned")
    (batch,) = own.epoch(0)
    assert batch.ids == ["pair", "words", *(f"words {i}" for i in range(5))] and batch.has_text is None
    assert batch.has_image.tolist() == [True] + [False] * 6 and batch.pixels[:2, 0, 0, 0].tolist() == [1, 0]
    wrong = {(row.id, row.reason) for row in own.rejected}
    assert ("alone", "caption missing") in wrong and ("bad", "image not recognised") in wrong and len(wrong) == 8
    (first, *_) = loader(dataset, 1, shuffle=False, sides="captioned").epoch(0)
    assert first.ids == ["pair"] and first.has_image is None


def test_rows_without_a_feature_stay_where_either_side_is_enough(dataset):
    features = {"0": np.ones(5, np.float32)}
    (batch,) = loader(dataset, 50, shuffle=False, sides="either", image_features=features).epoch(0)
    assert len(batch) == 50 and batch.has_image.tolist() == [True] + [False] * 49 and batch.has_text.all()
    assert batch.image_features.sum(dim=1).tolist() == [5.0] + [0.0] * 49


def test_pictures_of_different_shapes_reach_the_processor_as_a_list(tmp_path):
    class Ragged(Pixels):
        def decode_image(self, data):
            array = super().decode_image(data)
            return array[:1] if array[0, 0, 0] % 2 else array

        def collate(self, ids, images, texts):
            assert isinstance(images, list)
            return Batch(ids=[f"{len(image)}:{image[0, 0, 0]}" for image in images])

    dataset = make(tmp_path / "d", 6, bad=(2,))
    (batch,) = loader(dataset, 6, processor=Ragged(), shuffle=False).epoch(0)
    assert batch.ids == ["2:0", "1:1", "1:3", "2:4", "1:5"]


def test_a_batch_is_one_array_and_no_two_share_memory(dataset):
    given = []

    class Keeps(Pixels):
        def collate(self, ids, images, texts):
            given.append(images)
            return super().collate(ids, images, texts)

    batches = list(loader(dataset, processor=Keeps()).epoch(0))
    assert all(isinstance(images, np.ndarray) for images in given)
    for batch in batches:  # still right when later ones have been made
        assert batch.pixels[:, 0, 0, 0].tolist() == [int(id) for id in batch.ids]


def test_tar_shards_through_the_loader(tmp_path):
    with DatasetWriter(tmp_path / "d") as out:
        for i in range(40):
            out.write(Sample(str(i), [EncodedImage(picture(i))], ["x" * i]))
    export_dataset(Dataset.open(tmp_path / "d"), f"wds:{tmp_path}/tars")
    seen = {}
    for batch in loader(open_dataset(f"wds:{tmp_path}/tars"), drop_last=False).epoch(3):
        pixels, lengths = batch.pixels[:, 0, 0, 0].tolist(), batch.tokens[:, 0].tolist()
        seen |= {id: (pixel, length) for id, pixel, length in zip(batch.ids, pixels, lengths)}
    assert seen == {str(i): (i, i) for i in range(40)}
