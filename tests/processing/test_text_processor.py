"""Tokenizing: exact trimming, truncation that keeps the end token, and agreement with Hugging Face's tokenizers."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.processing.text import SPECIAL, TextProcessor, train_tokenizer
from diptych.types import InputError

CAPTIONS = ["a red car on a street", "a blue car", "two red birds", "A Red BIRD on a car", "street with cars"] * 4
CLIP_SPECIAL = ("<|startoftext|>", "<|endoftext|>")


@pytest.fixture(scope="module")
def processor() -> TextProcessor:
    return TextProcessor.train(CAPTIONS, vocab_size=300, context_length=12)


def write_clip_vocabulary(folder: Path) -> None:
    """A vocab.json and merges.txt of CLIP's form: letters, letters that end a word, and two merges."""
    letters = [chr(c) for c in range(ord("!"), ord("~") + 1)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "ca", "car</w>", *CLIP_SPECIAL]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca r</w>\n")


def test_pads_to_the_longest_with_a_mask(processor: TextProcessor) -> None:
    tokens, mask = processor(["a red car", "car"])
    assert tokens.dtype == torch.int64 and mask.dtype == torch.bool and tokens.shape == mask.shape
    assert mask.sum(1).max() == tokens.shape[1]
    assert (tokens[~mask] == processor.pad_id).all() and (tokens[mask] != processor.pad_id).all()
    ends = tokens.gather(1, mask.sum(1, keepdim=True) - 1).flatten()
    assert ends.tolist() == [processor.eos_id] * 2 and tokens[:, 0].tolist() == [processor.bos_id] * 2


def test_pad_max() -> None:
    whole = TextProcessor(train_tokenizer(CAPTIONS, 300), 12, pad="max")
    trimmed = TextProcessor(train_tokenizer(CAPTIONS, 300), 12)
    (tokens, mask), (short, short_mask) = whole(["a car", "red"]), trimmed(["a car", "red"])
    assert tokens.shape == (2, 12)
    assert torch.equal(tokens[:, : short.shape[1]], short) and torch.equal(mask[:, : short.shape[1]], short_mask)
    assert not mask[:, short.shape[1] :].any()


def test_truncation_keeps_the_end_token(processor: TextProcessor) -> None:
    tokens, mask = processor(["zyx wvu " * 40, ""])
    assert tokens.shape == (2, 12)
    assert tokens[0, -1] == processor.eos_id
    assert tokens[1, :2].tolist() == [processor.bos_id, processor.eos_id] and mask[1].sum() == 2


def test_case_and_spaces_do_not_matter(processor: TextProcessor) -> None:
    tokens, _ = processor(["a red car", "A  RED\n car"])
    assert torch.equal(tokens[0], tokens[1])


def test_a_caption_cannot_end_itself(processor: TextProcessor) -> None:
    tokens, _ = processor(["a <eos> b <pad>"])
    assert (tokens == processor.eos_id).sum() == 1 and (tokens == processor.pad_id).sum() == 0


def test_end_id_is_not_the_one_hugging_face_treats_as_legacy(processor: TextProcessor) -> None:
    assert processor.eos_id == 1


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=4))
def test_any_text_is_tokenized(processor: TextProcessor, texts: list[str]) -> None:
    tokens, mask = processor(texts)
    assert len(tokens) == len(texts)
    assert (tokens < processor.vocab_size).all() and ((tokens == processor.eos_id).sum(1) == 1).all()
    assert mask.any(0).all()  # no column is padding for every text


def test_broken_surrogates_are_read_as_unknown_characters(processor: TextProcessor) -> None:
    tokens, _ = processor(["a \ud800 car", "a ? car"])
    assert torch.equal(tokens[0], tokens[1])


def test_empty_batch(processor: TextProcessor) -> None:
    tokens, mask = processor([])
    assert tokens.shape == mask.shape == (0, 0)


def test_training_is_repeatable_and_bounded() -> None:
    first, second = train_tokenizer(CAPTIONS, 280), train_tokenizer(CAPTIONS, 280)
    assert first.to_str() == second.to_str()
    assert 259 < first.get_vocab_size() <= 280
    assert [first.token_to_id(SPECIAL[name]) for name in ("pad_token", "eos_token", "bos_token")] == [0, 1, 2]
    with pytest.raises(InputError, match="at least 259"):
        train_tokenizer(CAPTIONS, 100)


def test_too_short_a_context() -> None:
    with pytest.raises(InputError, match="context_length: expected more than 2"):
        TextProcessor(train_tokenizer(CAPTIONS, 300), 2)


def test_save_and_load(processor: TextProcessor, tmp_path: Path) -> None:
    processor.save(tmp_path)
    loaded = TextProcessor.load(tmp_path)
    assert loaded.fingerprint() == processor.fingerprint()
    assert (loaded.context_length, loaded.pad, loaded.pad_id) == (12, "longest", processor.pad_id)
    for ours, theirs in zip(processor(CAPTIONS), loaded(CAPTIONS)):
        assert torch.equal(ours, theirs)
    assert TextProcessor.load(tmp_path, context_length=5).context_length == 5


def test_transformers_reads_what_we_save(processor: TextProcessor, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    processor.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)(CAPTIONS, padding=True, truncation=True, return_tensors="pt")
    tokens, mask = processor(CAPTIONS)
    assert torch.equal(theirs["input_ids"], tokens) and torch.equal(theirs["attention_mask"].bool(), mask)


def test_clip_vocabulary_equals_transformers(tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    write_clip_vocabulary(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 16, "pad_token": CLIP_SPECIAL[1]}))
    ours = TextProcessor.load(tmp_path)
    theirs = CLIPTokenizer.from_pretrained(tmp_path)
    texts = ["A car's  CAR", "it's 42 cars!!", "", "x" * 40, "caf\u00e9 d\u00e9j\u00e0"]
    expected = theirs(texts, padding="longest", truncation=True, max_length=16, return_tensors="pt")
    tokens, mask = ours(texts)
    assert torch.equal(tokens, expected["input_ids"])
    assert torch.equal(mask, expected["attention_mask"].bool())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "found neither"),
        ({"tokenizer.json": "{not json"}, "tokenizer.json: cannot be read"),
        ({"vocab.json": '{"a": 0}', "merges.txt": ""}, "<|startoftext|> is missing"),
        ({"vocab.json": json.dumps({t: i for i, t in enumerate(CLIP_SPECIAL)}), "merges.txt": "a b c\n"}, "two tokens"),
    ],
)
def test_bad_folders_name_the_file(files: dict[str, str], message: str, tmp_path: Path) -> None:
    import re

    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        TextProcessor.load(tmp_path, context_length=8)


def test_unknown_length_is_asked_for(processor: TextProcessor, tmp_path: Path) -> None:
    processor.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 10**30}))
    with pytest.raises(InputError, match="model_max_length"):
        TextProcessor.load(tmp_path)


def test_of_a_long_question_the_end_is_kept(processor: TextProcessor) -> None:
    length = processor.context_length
    asked = f"{'a cat ' * 3 * length}sat where?"
    (prompt,) = processor.prompts([asked])
    assert len(prompt) > 2 * length, "nothing is cut before it is known how long the answer is"
    tokens, mask, target = processor.answers([asked], ["dog"])
    assert mask.all() and tokens.shape == (1, length) and int(tokens[0, -1]) == processor.eos_id
    kept = [int(token) for token in tokens[0][~target[0]]]
    assert kept == [processor.bos_id, *prompt[1 - len(kept) :]]
