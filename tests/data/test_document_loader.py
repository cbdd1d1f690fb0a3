"""Documents with several pictures from the loader, and what stands in for them where a sample has none."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.data import open_dataset
from diptych.data.loader import Loader
from diptych.data.store import Dataset, DatasetWriter
from diptych.processing import ImageConfig, ImageProcessor, PairProcessor, TextProcessor
from diptych.processing.documents import add_places, place
from diptych.types import Batch, EncodedImage, InputError, Message, Question, Sample

PROCESSOR = PairProcessor(
    ImageProcessor(ImageConfig(size=8)),
    add_places(TextProcessor.train(["a cat and a dog"] * 2, 300, 64), chunk_end=True),
)


def picture(grey: int) -> EncodedImage:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(buffer, "PNG")
    return EncodedImage(buffer.getvalue())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    samples = [
        Sample("two", [picture(1), picture(2)], messages=[Message("document", "<image> a cat <image> a dog")]),
        Sample("none", messages=[Message("document", "a dog")]),
        Sample("pair", [picture(3)], captions=["a cat"]),
        Sample("asked", [picture(4), picture(5)], questions=[Question("which?", ["a dog"])]),
        Sample("short", [picture(6), picture(7)], messages=[Message("document", "<image> a cat")]),
        Sample("broken", [EncodedImage(b"nothing")], messages=[Message("document", "<image> a cat")]),
        Sample("silent", [picture(8)]),
    ]
    folder = tmp_path_factory.mktemp("documents") / "d"
    with DatasetWriter(folder) as out:
        for sample in samples:
            out.write(sample)
    return Dataset.open(folder)


def batches(dataset: Dataset, size: int, **options: object) -> tuple[list[Batch], Loader]:
    loader = Loader(dataset, PROCESSOR, size, shuffle=False, drop_last=False, texts="documents", **options)  # type: ignore[arg-type]
    return list(loader.epoch(0)), loader


def test_each_row_has_its_own_pictures_in_order(dataset: Dataset) -> None:
    (batch,), loader = batches(dataset, 16)
    assert batch.ids == ["two", "none", "pair", "asked"]
    assert batch.pixels is not None and batch.picture_of is not None and batch.tokens is not None
    assert batch.pixels[:, 0, 0, 0].tolist() == [1, 2, 3, 4, 5]
    assert batch.picture_of.tolist() == [0, 0, 2, 3, 3]
    assert (batch.tokens == place(PROCESSOR.text)).sum(1).tolist() == [2, 0, 1, 2]
    reasons = {row.id: row.reason for row in loader.rejected}
    assert set(reasons) == {"short", "broken", "silent"}
    assert reasons["short"] == "pictures without place" and reasons["silent"] == "text missing"


def test_a_pair_becomes_the_document_that_it_is(dataset: Dataset) -> None:
    (batch,), _ = batches(dataset, 16)
    assert batch.tokens is not None and batch.token_mask is not None and batch.target_mask is not None
    words = PROCESSOR.text
    spelt = [
        words.tokenizer.decode(row[mask].tolist(), skip_special_tokens=False)
        for row, mask in zip(batch.tokens, batch.token_mask)
    ]
    assert spelt[2] == "<bos><image> a cat<|endofchunk|>"
    assert spelt[3] == "<bos><image><image> question: which? answer: a dog<|endofchunk|>"
    asked = batch.tokens[3][batch.target_mask[3]].tolist()
    assert words.tokenizer.decode(asked, skip_special_tokens=False) == " a dog<|endofchunk|>"


def test_a_batch_without_any_picture_and_one_of_nothing(dataset: Dataset) -> None:
    found, _ = batches(dataset.select([1]), 1)
    assert found[0].pixels is None and found[0].picture_of is not None and len(found[0].picture_of) == 0
    found, _ = batches(dataset.select([6]), 1)
    assert found[0].ids == []


def test_chunks_keep_the_pictures_of_their_rows(dataset: Dataset) -> None:
    (batch,), _ = batches(dataset, 16)
    pieces = batch.chunks(3)
    assert [piece.pixels[:, 0, 0, 0].tolist() for piece in pieces if piece.pixels is not None] == [[1, 2, 3], [4, 5]]
    assert [piece.picture_of.tolist() for piece in pieces if piece.picture_of is not None] == [[0, 0, 2], [0, 0]]


def test_documents_need_their_pictures(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="documents"):
        batches(dataset, 4, sides="texts")
    with pytest.raises(InputError, match="documents"):
        batches(dataset, 4, image_features={"two": np.zeros(2)})


def test_a_mixture_weighs_documents_against_pairs(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text(
        '[[parts]]\nname = "web"\ndata = "scenes:?n=8&size=32&objects=1&task=episodes"\nweight = 2\n'
        '[[parts]]\nname = "pairs"\ndata = "scenes:?n=8&size=32&objects=1"\nweight = 0.5\n'
    )
    found, loader = batches(open_dataset(f"mix:{file}"), 32)
    assert loader.rejected == [] and len(found) == 1 and len(found[0]) == 20
    counts = torch.bincount(found[0].picture_of, minlength=20)
    assert sorted(counts[16:].tolist()) == [1] * 4 and int(counts[:16].min()) > 1


QUIZ = [f"Question: what is {i}? Answer: a cat {i}" for i in range(4)]
QUIZZER = PairProcessor(PROCESSOR.image, add_places(TextProcessor.train(QUIZ * 9, 400, 64), chunk_end=True))


@pytest.fixture(scope="module")
def quizzed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("quizzed") / "d"
    asked = [Question(f"what is {i}?", [f"a cat {i}"]) for i in range(4)]
    with DatasetWriter(folder) as out:
        out.write(Sample("four", [picture(1)], questions=asked))
        out.write(Sample("one", [picture(2)], questions=[*asked[:1], Question("nobody knows?", [])]))
    return Dataset.open(folder)


def read_turns(batch: Batch, row: int) -> tuple[str, str]:
    """A row's text with its special tokens, and what of it the model is to say."""
    assert batch.tokens is not None and batch.token_mask is not None and batch.target_mask is not None
    decode, ids = QUIZZER.text.tokenizer.decode, batch.tokens[row]
    both = (
        decode(ids[kept].tolist(), skip_special_tokens=False)
        for kept in (batch.token_mask[row], batch.target_mask[row])
    )
    return next(both), next(both)


def test_several_questions_in_a_row(quizzed: Dataset) -> None:
    firsts = set()
    for epoch in range(9):
        loader = Loader(quizzed, QUIZZER, 2, shuffle=False, drop_last=False, texts="questions", turns=3)
        (batch,) = loader.epoch(epoch)
        text, said = read_turns(batch, 0)
        numbers = [int(word.strip("?")) for word in text.split() if word.endswith("?")]
        assert len(set(numbers)) == 3, "no question stands twice in a row"
        firsts.add(numbers[0])
        end = "<|endofchunk|>"
        assert text == "<bos>" + "".join(f" question: what is {i}? answer: a cat {i}{end}" for i in numbers)
        assert said == "".join(f" a cat {i}{end}" for i in numbers)
        assert read_turns(batch, 1) == (f"<bos> question: what is 0? answer: a cat 0{end}", f" a cat 0{end}")
        alone = Loader(quizzed, QUIZZER, 2, shuffle=False, drop_last=False, texts="questions")
        (first,) = alone.epoch(epoch)
        assert text.startswith(read_turns(first, 0)[0]), "the first question is the same with and without others"
    assert firsts == {0, 1, 2, 3}
    with pytest.raises(InputError, match="turns: expected 1 or more"):
        Loader(quizzed, QUIZZER, 2, shuffle=False, drop_last=False, turns=0)


def test_a_dialogue_is_a_caption_and_questions_in_either_order(tmp_path: Path) -> None:
    asked = [Question(f"what is {i}?", [f"a cat {i}"]) for i in range(3)]
    with DatasetWriter(tmp_path / "d") as out:
        out.write(Sample("both", [picture(1)], ["what a cat"], questions=asked))
        out.write(Sample("caption", [picture(2)], ["a cat"]))
        out.write(Sample("question", [picture(3)], questions=asked[:1]))
    seen, end = [], "<|endofchunk|>"
    for epoch in range(12):
        loader = Loader(
            Dataset.open(tmp_path / "d"), QUIZZER, 3, shuffle=False, drop_last=False, texts="dialogues", turns=2
        )
        (batch,) = loader.epoch(epoch)
        text, said = read_turns(batch, 0)
        first, second = (int(word.strip("?")) for word in text.split() if word.endswith("?"))
        assert first != second
        turns = "".join(f" question: what is {i}? answer: a cat {i}{end}" for i in (first, second))
        told = "".join(f" a cat {i}{end}" for i in (first, second))
        seen.append(text.startswith("<bos> what a cat"))
        assert text == (f"<bos> what a cat{end}{turns}" if seen[-1] else f"<bos>{turns} what a cat{end}")
        assert said == (f" what a cat{end}{told}" if seen[-1] else f"{told} what a cat{end}")
        assert read_turns(batch, 1) == (f"<bos> a cat{end}", f" a cat{end}")
        assert read_turns(batch, 2) == (f"<bos> question: what is 0? answer: a cat 0{end}", f" a cat 0{end}")
    assert 2 <= sum(seen) <= 10


def test_questions_that_have_no_room_are_left_out(quizzed: Dataset) -> None:
    words = TextProcessor(QUIZZER.text.tokenizer, 30, settings=QUIZZER.text.settings)
    loader = Loader(
        quizzed, PairProcessor(QUIZZER.image, words), 2, shuffle=False, drop_last=False, texts="questions", turns=4
    )
    (batch,) = loader.epoch(0)
    text, said = read_turns(batch, 0)
    assert 1 <= text.count("question:") < 4 and text.count("question:") == text.count("<|endofchunk|>")
    assert said.count("a cat") == text.count("question:") and text.endswith("<|endofchunk|>")
