"""Captions, questions with numbered answers, wrong texts and pairs of pictures in one batch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from diptych.processing import ImageConfig, ImageProcessor, TextProcessor
from diptych.processing.fusion import FusionProcessor, common
from diptych.types import NOT_ASKED, UNLISTED, InputError, Message

TEXTS = ["a red car", "a blue car is left of a red ball", "what color is the car?", "both show a car"]


@pytest.fixture(scope="module")
def processor() -> FusionProcessor:
    words = TextProcessor.train(TEXTS, 400, 40, mask=True)
    return FusionProcessor(ImageProcessor(ImageConfig(size=8)), words, ["red", "blue"])


def _pictures(*shapes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(1, 256, (height, width, 3), dtype=np.uint8) for height, width in shapes]


def _said(processor: FusionProcessor, batch) -> list[str]:
    return [processor.text.decode(row[mask].tolist()) for row, mask in zip(batch.tokens, batch.token_mask)]


def test_captions_alone_are_a_row_each(processor: FusionProcessor) -> None:
    batch = processor.collate(["a", "b"], _pictures((8, 8), (8, 8)), TEXTS[:2])
    assert _said(processor, batch) == TEXTS[:2]
    assert batch.pixels.shape == (2, 3, 8, 8)
    assert batch.text_of is batch.fits is batch.answers is batch.picture_sizes is batch.picture_of is None


def test_a_question_is_read_alone_and_its_answer_is_a_number(processor: FusionProcessor) -> None:
    batch = processor.collate(
        ["a", "b", "c"],
        _pictures(*[(8, 8)] * 3),
        ["blue", TEXTS[0], "green"],
        prompts=[TEXTS[2], "", TEXTS[2]],
        more=[[("is it red?", "red"), ("", TEXTS[1])], (), ()],
    )
    assert _said(processor, batch) == [TEXTS[2], "is it red?", TEXTS[1], TEXTS[0], TEXTS[2]]
    assert batch.answers.tolist() == [1, 0, NOT_ASKED, NOT_ASKED, UNLISTED]
    assert batch.text_of.tolist() == [0, 0, 0, 1, 2]


def test_wrong_texts_stand_behind_their_own(processor: FusionProcessor) -> None:
    batch = processor.collate(
        ["a", "b"], _pictures((8, 8), (8, 8)), TEXTS[:2], wrong=[["a blue car", "a red ball"], []]
    )
    assert _said(processor, batch) == [TEXTS[0], "a blue car", "a red ball", TEXTS[1]]
    assert batch.fits.tolist() == [True, False, False, True] and batch.text_of.tolist() == [0, 0, 0, 1]
    assert batch.answers is None
    asked = processor.collate(["a"], _pictures((8, 8)), ["red"], prompts=[TEXTS[2]], wrong=[["a blue car"]])
    assert asked.answers.tolist() == [0, NOT_ASKED] and asked.fits.tolist() == [True, False]


def test_pictures_of_other_shapes_are_padded_and_their_sizes_told(processor: FusionProcessor) -> None:
    small, wide = _pictures((4, 6), (3, 9))
    batch = processor.collate(["a", "b"], [small, wide], None)
    assert batch.pixels.shape == (2, 3, 4, 9) and batch.picture_sizes.tolist() == [[4, 6], [3, 9]]
    assert np.array_equal(batch.pixels[0, :, :, :6].permute(1, 2, 0), small) and not batch.pixels[0, :, :, 6:].any()
    assert np.array_equal(batch.pixels[1, :, :3].permute(1, 2, 0), wide) and not batch.pixels[1, :, 3:].any()
    assert processor.collate(["a", "b"], [small, small], None).picture_sizes is None


def test_a_statement_about_two_pictures(processor: FusionProcessor) -> None:
    document = [Message("user", "<image><image>" + TEXTS[3]), Message("assistant", "red")]
    batch = processor.collate(["a", "b"], _pictures(*[(8, 8)] * 4), None, documents=[document, document])
    assert _said(processor, batch) == [TEXTS[3]] * 2
    assert batch.answers.tolist() == [0, 0] and batch.picture_of.tolist() == [0, 0, 1, 1]
    with pytest.raises(InputError, match="a: expected a question and an answer, got 3 messages"):
        processor.collate(["a"], _pictures((8, 8)), None, documents=[[*document, document[0]]])


def test_save_load_and_fingerprint(processor: FusionProcessor, tmp_path: Path) -> None:
    processor.save(tmp_path)
    again = FusionProcessor.load(tmp_path)
    assert again.answers == ["red", "blue"] and again.fingerprint() == processor.fingerprint()
    other = FusionProcessor(processor.image, processor.text, ["blue", "red"])
    assert other.fingerprint() != processor.fingerprint()
    (tmp_path / "answers.json").write_text('{"answers": "red"}', encoding="utf-8")
    with pytest.raises(InputError, match=r"answers\.json: answers: expected a list"):
        FusionProcessor.load(tmp_path)


def test_augmentation_needs_and_obeys_its_generator(processor: FusionProcessor) -> None:
    with pytest.raises(ValueError, match="generator"):
        processor.collate(["a"], _pictures((8, 8)), None, augment=True)
    first, again = (
        processor.collate(["a"], _pictures((8, 8)), None, augment=True, generator=torch.Generator().manual_seed(3))
        for _ in range(2)
    )
    assert torch.equal(first.pixels, again.pixels)
    assert not torch.equal(first.pixels, processor.collate(["a"], _pictures((8, 8)), None).pixels)


def test_common_answers_come_first() -> None:
    assert common(["no", "yes", "red", "yes", "blue", "no", "yes"]) == ["yes", "no", "blue", "red"]
