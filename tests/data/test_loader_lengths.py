"""`group_by_length`: texts of about the same length in a batch; every row once, and the same order after a restart."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diptych.data import Dataset
from diptych.data.loader import GROUPED, Loader
from diptych.data.writer import DatasetWriter
from diptych.types import Batch, InputError, Question, Sample

COUNT, SIZE = 8 * GROUPED * 2 + 8 * 3 + 5, 8  # two whole groups, three batches, and five rows


class Texts:
    """A processor whose tokens are the length of prompt and text."""

    def decode_image(self, source: object) -> np.ndarray:
        raise AssertionError("no picture is asked for")

    def collate(self, ids, images, texts, *, prompts=None, more=None, augment=False, generator=None) -> Batch:  # type: ignore[no-untyped-def]
        turns = more or [()] * len(ids)
        lengths = [
            len(prompt) + len(text) + sum(len(part) for pair in pairs for part in pair)
            for prompt, text, pairs in zip(prompts or [""] * len(ids), texts, turns)
        ]
        return Batch(ids, tokens=torch.tensor(lengths)[:, None])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("lengths") / "d"
    drawn = np.random.default_rng(0).integers(1, 200, (COUNT, 2))
    with DatasetWriter(folder) as out:
        for i, (caption, question) in enumerate(drawn.tolist()):
            asked = [Question("q" * question, ["yes"]), Question("q" * (question // 2), ["no", "never"])]
            out.write(Sample(str(i), captions=["c" * caption, "c" * (caption // 3 + 1)], questions=asked))
    return Dataset.open(folder)


def batches(dataset: Dataset, epoch: int = 0, start: int = 0, **options: object) -> list[Batch]:
    options = {"shuffle": True, "drop_last": False, "sides": "texts", "group_by_length": True} | options
    return list(Loader(dataset, Texts(), SIZE, **options).epoch(epoch, start))  # type: ignore[arg-type]


def spread(batch: Batch) -> int:
    assert isinstance(batch.tokens, Tensor)
    return int(batch.tokens.max() - batch.tokens.min())


@pytest.mark.parametrize("options", [{}, {"texts": "both"}, {"texts": "questions", "turns": 2}, {"texts": "dialogues"}])
def test_texts_of_a_batch_are_about_as_long(dataset: Dataset, options: dict[str, object]) -> None:
    grouped, plain = batches(dataset, **options), batches(dataset, group_by_length=False, **options)
    assert [len(batch) for batch in grouped] == [len(batch) for batch in plain] == [SIZE] * (COUNT // SIZE) + [5]
    for rows in (grouped, plain):
        assert sorted(name for batch in rows for name in batch.ids) == sorted(dataset.ids)
    assert grouped[-1].ids == plain[-1].ids, "what is left over stays as it was drawn"
    whole = slice(0, 2 * GROUPED)
    assert sum(map(spread, grouped[whole])) < 0.25 * sum(map(spread, plain[whole]))
    for group in range(2):  # rows stay in their group, whose batches come in no order of length
        part = slice(group * GROUPED, (group + 1) * GROUPED)
        assert {name for one in grouped[part] for name in one.ids} == {name for one in plain[part] for name in one.ids}
        lengths = [float(one.tokens.float().mean()) for one in grouped[part]]
        assert lengths != sorted(lengths)


def test_the_same_order_from_any_start_and_for_every_rank(dataset: Dataset) -> None:
    whole = [batch.ids for batch in batches(dataset, 3)]
    assert whole == [batch.ids for batch in batches(dataset, 3)] != [batch.ids for batch in batches(dataset, 4)]
    for start in (1, GROUPED - 1, GROUPED, 2 * GROUPED + 2, COUNT // SIZE, COUNT // SIZE + 1):
        assert [batch.ids for batch in batches(dataset, 3, start)] == whole[start:]
    parts = [batches(dataset, 3, part=(rank, 2)) for rank in range(2)]
    assert [one.ids + other.ids for one, other in zip(*parts)] == whole


@pytest.mark.parametrize("options", [{}, {"texts": "questions", "turns": 2}, {"texts": "dialogues"}])
def test_a_word_weighs_the_same_in_short_texts_and_in_long_ones(dataset: Dataset, options: dict[str, object]) -> None:
    grouped = batches(dataset, **options)
    assert all(batch.weight == 1 for batch in batches(dataset, group_by_length=False, **options))
    assert grouped[-1].weight == 1, "what is left over is not sorted"
    for start in range(0, COUNT // SIZE, GROUPED):
        weights = [batch.weight for batch in grouped[:-1][start : start + GROUPED]]
        assert np.mean(weights) == pytest.approx(1)
        assert [batch.weight for batch in batches(dataset, start=start + 1, **options)][: len(weights) - 1] == weights[
            1:
        ]


def test_weights_are_the_words_that_are_said(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "d") as out:
        for i in range(16):  # 1 word and an end, or 4 words and an end
            out.write(Sample(str(i), captions=["cube" if i % 2 else "a red cube here"]))
    for batch in batches(Dataset.open(tmp_path / "d"), drop_last=True):
        assert batch.weight == pytest.approx((2 if int(batch.ids[0]) % 2 else 5) / 3.5)
        assert batch.to("cpu").weight == batch.chunks(3)[1].weight == batch.weight


def test_without_shuffling_there_is_nothing_to_group(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="group_by_length: needs shuffle"):
        batches(dataset, shuffle=False)
