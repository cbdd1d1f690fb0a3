"""`write`, its limits and rules, and that every way to decode agrees with reading the whole text again."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from known import GPT2, LLAMA, Told, prompted, sharp
from uncached import of_language_model

from diptych.decoding import Sample, Source, SourceWithStates, beam_search, contrastive, likelihoods, stream, write
from diptych.types import InputError

PROMPTS = [[3, 4, 5], [7], [9, 2, 8, 1, 6], [5, 5]]
END = 0
CHOICES = [[[1, 2], [1, 2, 3], [4]], [[6], [2]], [[8, 8, 8]], [[1], [1, 1], [], [7, 3]]]
WAYS: dict[str, Callable[[Any], Any]] = {
    "greedy": lambda source: write(source, end=END, most=12),
    "sample": lambda source: write(source, end=END, most=12, rule=Sample(seed=4, temperature=0.9, top_k=9, top_p=0.9)),
    "beam": lambda source: beam_search(source, end=END, most=10, beams=3, best=2),
    "contrastive": lambda source: contrastive(source, end=END, most=10, k=4, alpha=0.6),
    "choices": lambda source: likelihoods(source, CHOICES[: len(source.hidden)], end=END),
}


def close(one: Any, other: Any) -> None:
    """Equal structure and tokens; numbers up to rounding."""
    if isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other):
            close(a, b)
    else:
        assert one == other


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["learned", "rotary"])
@pytest.mark.parametrize("left", [False, True])
def test_cached_batch_equals_uncached_rows(config: Any, way: str, left: bool) -> None:
    lm = sharp(config)
    found = WAYS[way](prompted(lm, PROMPTS, left=left))
    close(found, WAYS[way](of_language_model(lm, PROMPTS)))
    if way == "greedy":  # some end early, some do not, and they do not all say the same
        assert len({tuple(text.tokens) for text in found}) > 1


@pytest.mark.parametrize("way", ["greedy", "beam", "contrastive"])
def test_a_row_does_not_depend_on_its_neighbours(way: str) -> None:
    lm = sharp(LLAMA, seed=1)
    together = WAYS[way](prompted(lm, PROMPTS))
    for text, prompt in zip(together, PROMPTS):
        close(text, WAYS[way](prompted(lm, [prompt]))[0])


def test_a_drawn_row_does_not_depend_on_later_or_finished_rows() -> None:
    lm = sharp(GPT2)
    first = WAYS["sample"](prompted(lm, PROMPTS[:2]))
    close(WAYS["sample"](prompted(lm, PROMPTS))[:2], first)
    other = write(prompted(lm, PROMPTS), end=END, most=12, rule=Sample(seed=5))
    assert [text.tokens for text in other[:2]] != [text.tokens for text in first]
    twice = write(prompted(lm, [PROMPTS[0]] * 2), end=END, most=12, rule=Sample(seed=5))
    assert twice[0].tokens != twice[1].tokens  # the same prompt twice is two draws


def test_prompted_is_a_source_with_states() -> None:
    source = prompted(sharp(LLAMA), PROMPTS)
    assert isinstance(source, Source) and isinstance(source, SourceWithStates)
    states, keep = source.prompt or (None, None)
    assert states.shape == (4, 5, 16) and keep.sum(1).tolist() == [3, 1, 5, 2]
    source.select(torch.tensor([2, 0]))
    assert source.prompt[1].sum(1).tolist() == [5, 3]
    assert torch.equal(source.prompt[0][0, -1], source.hidden[0])
    source.advance(torch.tensor([1, 1]))
    assert source.prompt is None


def test_ends_limits_and_log_probs() -> None:
    def after(text: tuple[int, ...]) -> list[float]:  # ends once it is as long as its first token says
        return [0.7, 0.2, 0.1] if len(text) >= text[0] else [0.1, 0.3, 0.6]

    source = Told(after, prompts=[(1,), (3,), (9,)])
    texts = write(source, end=0, most=4)
    assert [text.tokens for text in texts] == [[], [2, 2], [2, 2, 2, 2]]
    assert [text.ended for text in texts] == [True, True, False]
    close(texts[1].log_probs, [math.log(0.6), math.log(0.6), math.log(0.7)])
    assert texts[1].confidence == pytest.approx((0.6 * 0.6 * 0.7) ** (1 / 3), rel=1e-5)
    assert source.computed == [2, 2, 1]  # rows that are done are not computed, nor is what follows the last token


def test_until_ends_a_row() -> None:
    source = Told(lambda text: [0.1, 0.3, 0.6], prompts=[(), ()])
    texts = write(source, end=0, most=5, until=lambda tokens: len(tokens) == 2)
    assert [(text.tokens, text.ended) for text in texts] == [([2, 2], True)] * 2


def kept(probabilities: list[float], **settings: Any) -> dict[int, float]:
    """Token -> probability of what may be drawn."""
    shares, tokens = Sample(**settings).kept(torch.tensor([probabilities]).log())
    return {token: share for token, share in zip(tokens[0].tolist(), shares[0].tolist()) if share > 0}


def test_kept_tokens_by_hand() -> None:
    some = [0.1, 0.4, 0.2, 0.3]
    close(sorted(kept(some).items()), [(0, 0.1), (1, 0.4), (2, 0.2), (3, 0.3)])
    close(sorted(kept(some, top_k=2).items()), [(1, 4 / 7), (3, 3 / 7)])
    close(sorted(kept(some, top_k=99).items()), sorted(kept(some).items()))
    close(sorted(kept(some, top_p=0.6).items()), [(1, 4 / 7), (3, 3 / 7)])  # 0.4 does not reach 0.6, 0.7 does
    close(sorted(kept(some, top_p=0.35).items()), [(1, 1.0)])  # at least one stays
    close(sorted(kept(some, top_k=2, top_p=0.55).items()), [(1, 1.0)])  # 4/7 of what top_k left reaches 0.55
    hot = kept(some, temperature=2.0)  # p ** (1/2), normalised
    total = sum(math.sqrt(p) for p in some)
    close([hot[token] for token in range(4)], [math.sqrt(p) / total for p in some])


def test_kept_tokens_of_ties() -> None:
    assert set(kept([0.2, 0.3, 0.2, 0.3], top_k=1)) == {1}  # the lower number
    assert set(kept([0.2, 0.3, 0.2, 0.3], top_k=3)) == {0, 1, 3}
    assert set(kept([0.25, 0.25, 0.25, 0.25], top_p=0.5)) == {0, 1}  # reaches 0.5 exactly with two
    assert set(kept([0.25, 0.25, 0.25, 0.25], top_p=0.51)) == {0, 1, 2}


def test_draws_follow_the_probabilities() -> None:
    rows = 4000
    log_probs = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log().expand(rows, -1)
    drawn = Sample(seed=1)(log_probs, range(rows), 0).bincount(minlength=4) / rows
    assert (drawn - torch.tensor([0.1, 0.4, 0.2, 0.3])).abs().max() < 4 * math.sqrt(0.25 / rows)
    assert set(Sample(seed=1, top_k=2)(log_probs, range(rows), 3).tolist()) == {1, 3}
    cold = Sample(temperature=1e-3)(log_probs[:5], range(5), 0)
    assert cold.tolist() == [1] * 5


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_impossible_settings(settings: Any) -> None:
    with pytest.raises(InputError, match=f"Sample: {next(iter(settings))}: expected"):
        Sample(**settings)


def test_nothing_to_write_is_refused() -> None:
    ways: list[Any] = [write, beam_search, contrastive, lambda source, **how: next(stream(source, str, **how))]
    for way in ways:
        with pytest.raises(InputError, match="most: expected at least 1 token, got 0"):
            way(Told(lambda text: [0.5, 0.5], prompts=[(), ()]), end=0, most=0)
