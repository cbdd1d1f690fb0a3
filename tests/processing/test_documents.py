"""Texts with pictures among them as tokens: places, what is to be said, chunk ends, and solved examples."""

import numpy as np
import pytest

from diptych.processing import ImageConfig, ImageProcessor, PairProcessor, TextProcessor, documents
from diptych.processing.documents import CHUNK_END, IMAGE, Piece, add_places, few_shot, pieces, place
from diptych.types import InputError, Message

LEARNT = ["question: what is this? answer: this is a dax.", "a red cube"] * 3
EPISODE = [
    Message("user", "<image>\nWhat is this?"),
    Message("assistant", "This is a dax."),
    Message("user", "<image>\nWhat is this?"),
    Message("assistant", "A red cube"),
]


def words(chunk_end: bool, length: int = 64) -> TextProcessor:
    return add_places(TextProcessor.train(LEARNT, 300, length + 1), chunk_end=chunk_end)


def read_back(text: TextProcessor, rows: documents.Rows, row: int) -> tuple[str, str]:
    """(all of a row, what of it is to be said), special tokens spelt out."""
    ids = rows.tokens[row][rows.mask[row]].tolist()
    said = rows.tokens[row][rows.target_mask[row]].tolist()
    return tuple(text.tokenizer.decode(some, skip_special_tokens=False) for some in (ids, said))  # type: ignore[return-value]


def test_pieces_put_questions_as_they_are_put_everywhere() -> None:
    found = pieces([Message("system", "Be brief."), *EPISODE[:2], Message("document", "<image> A cat.")])
    assert found == [
        Piece("Be brief.", False),
        Piece("<image>Question: What is this? Answer:", False),
        Piece("This is a dax.", True),
        Piece("<image> A cat.", True),
    ]
    assert pieces([Message("user", " <image> <image>\n")]) == [Piece("<image><image>", False)]


def test_a_conversation_with_and_without_chunk_ends() -> None:
    asked = "question: what is this? answer:"
    text = words(chunk_end=False)
    assert text.tokenizer.get_vocab_size() == place(text) + 1 and text.tokenizer.token_to_id(CHUNK_END) is None
    whole, said = read_back(text, documents.rows(text, [EPISODE]), 0)
    assert whole == f"<bos><image> {asked} this is a dax.<image> {asked} a red cube<eos>"
    assert said == " this is a dax. a red cube<eos>"
    text = words(chunk_end=True)
    assert place(text) == text.eos_id + 1 == text.vocab_size - 1
    whole, said = read_back(text, documents.rows(text, [EPISODE]), 0)
    assert whole == f"<bos><image> {asked} this is a dax.{CHUNK_END}<image> {asked} a red cube{CHUNK_END}"
    assert said == f" this is a dax.{CHUNK_END} a red cube{CHUNK_END}"


def test_running_text_is_said_and_pictures_are_not() -> None:
    text = words(chunk_end=True)
    rows = documents.rows(
        text, [[Message("document", "<image> a red cube\n<image><image> a dax")], [Message("system", "a")]]
    )
    whole, said = read_back(text, rows, 0)
    assert whole == f"<bos><image> a red cube{CHUNK_END}<image><image> a dax{CHUNK_END}"
    assert said == f" a red cube{CHUNK_END} a dax{CHUNK_END}"
    assert rows.pictures == [3, 0]
    assert read_back(text, rows, 1) == (f"<bos> a{CHUNK_END}", "")


def test_a_document_of_one_pair_is_the_pair_with_a_place_for_its_picture() -> None:
    for chunk_end in (False, True):
        text = words(chunk_end)
        rows = documents.rows(text, [EPISODE[:2], [Message("document", "<image>A red cube")]])
        tokens, mask, said = text.answers(["What is this?", ""], ["This is a dax.", "A red cube"])
        for row in range(2):
            expected = tokens[row][mask[row]].tolist()
            expected.insert(1, place(text))
            assert rows.tokens[row][rows.mask[row]].tolist() == expected
            assert rows.target_mask[row].sum() == said[row].sum()


def test_a_long_document_loses_its_end_and_the_pictures_there() -> None:
    text = words(chunk_end=True, length=12)
    rows = documents.rows(text, [EPISODE, EPISODE[:2]])
    assert rows.tokens.shape[1] == 12 and rows.pictures == [1, 1]
    processor = PairProcessor(ImageProcessor(ImageConfig(size=8)), text)
    pictures = [np.full((8, 8, 3), value, np.uint8) for value in (1, 2, 3)]
    batch = processor.collate(["a", "b"], pictures, None, documents=[EPISODE, EPISODE[:2]])
    assert batch.pixels is not None and batch.picture_of is not None
    assert batch.pixels[:, 0, 0, 0].tolist() == [1, 3] and batch.picture_of.tolist() == [0, 1]


def test_special_tokens_spelt_out_elsewhere_are_text() -> None:
    text = words(chunk_end=True)
    tokens, _ = text([f"{IMAGE} a {CHUNK_END}"])
    assert place(text) not in tokens and (tokens == text.eos_id).sum() == 1


def test_solved_examples_before_a_question() -> None:
    both = few_shot(EPISODE)
    asked = "<image>Question: What is this? Answer:"
    assert both == (f"{asked} This is a dax. {asked}", [0, 1], "A red cube")
    assert few_shot(EPISODE, 1) == both == few_shot(EPISODE, 5)
    assert few_shot(EPISODE, 0) == (asked, [1], "A red cube")
    for chunk_end in (False, True):
        text = words(chunk_end)
        row = documents.rows(text, [EPISODE]).tokens[0].tolist()
        prompt = documents.prompts(text, [both.prompt])[0]
        assert row[: len(prompt)] == prompt


def test_what_is_no_conversation_is_refused() -> None:
    with pytest.raises(InputError, match="a question and its answer at the end"):
        few_shot([Message("document", "<image> a cat")])
    with pytest.raises(InputError, match="expected the token <image>"):
        place(TextProcessor.train(LEARNT, 300, 16))
