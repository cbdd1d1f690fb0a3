"""Contrastive search, MAGIC, choices."""

import math
from collections.abc import Sequence

import pytest
import torch
from known import GPT2, LLAMA, Told, prompted, sharp
from uncached import of_language_model

from diptych.decoding import contrastive, likelihoods, magic, write
from diptych.types import InputError

PROMPTS = [[3, 4, 5], [7], [9, 2, 8, 1, 6], [5, 5]]
STATES = {1: [1.0, 0.0], 2: [0.6, 0.8], 3: [0.0, 1.0], 0: [-1.0, 0.0]}


def known(first: Sequence[float] = (0.0, 2.0)) -> Told:
    """A prompt with two states, one of them padding; token 1 looks like the other one."""
    prompt = torch.tensor([[list(first), [5.0, 0.0]]]), torch.tensor([[True, False]])
    return Told(
        lambda text: [0.05, 0.25, 0.3, 0.4], lambda text: STATES[text[-1]] if text else [0.0, 0.0], prompt=prompt
    )


def test_contrastive_by_hand() -> None:
    # the prompt's state is like token 3's. alpha 0.5: 3: .2 - .5 x 1; 2: .15 - .5 x .8; 1: .125 - 0, which wins
    # though padding is like it. Then 1: .125 - .5; 2: .15 - .5 x .8; 3: .2 - .5: token 2. Then 2 is repeated too:
    # 1: .125 - .5, 2: .15 - .5, 3: .2 - .5: token 3.
    texts = contrastive(known(), end=0, most=3, k=3, alpha=0.5)
    assert [text.tokens for text in texts] == [[1, 2, 3]] and not texts[0].ended
    assert texts[0].log_probs == pytest.approx([math.log(0.25), math.log(0.3), math.log(0.4)])
    # with the end among four candidates: cos(end, prompt) = 0 and p = .05, less than 1's; then cos(end, 1) = -1,
    # but the prompt's 0 is larger: .025 - 0, more than 2's .15 - .4
    texts = contrastive(known(), end=0, most=9, k=4, alpha=0.5)
    assert texts[0].tokens == [1] and texts[0].ended and texts[0].log_probs[-1] == pytest.approx(math.log(0.05))


@pytest.mark.parametrize("settings", [{"alpha": 0.0, "k": 5}, {"alpha": 0.9, "k": 1}])
def test_without_penalty_or_choice_it_is_greedy(settings: dict[str, float]) -> None:
    lm = sharp(LLAMA)
    greedy = write(prompted(lm, PROMPTS), end=0, most=10)
    found = contrastive(prompted(lm, PROMPTS), end=0, most=10, **settings)  # type: ignore[arg-type]
    assert [text.tokens for text in found] == [text.tokens for text in greedy]
    assert [text.ended for text in found] == [text.ended for text in greedy]


def test_contrastive_settings() -> None:
    for settings, words in (({"alpha": 1.1}, r"alpha: expected a number in \[0, 1\]"), ({"k": 0}, "k: expected")):
        with pytest.raises(InputError, match=words):
            contrastive(known(), end=0, most=3, **settings)  # type: ignore[arg-type]
    source = known()
    source.advance(torch.tensor([1]))
    with pytest.raises(InputError, match="nothing written yet"):
        contrastive(source, end=0, most=3)


def test_magic_without_picture_is_contrastive_search() -> None:
    lm = sharp(GPT2)

    def never(texts: list[str]) -> torch.Tensor:
        raise AssertionError("asked")

    plain = contrastive(prompted(lm, PROMPTS), end=0, most=9, k=6, alpha=0.3)
    assert magic(prompted(lm, PROMPTS), [never] * 4, str, end=0, most=9, k=6, alpha=0.3, beta=0.0) == plain
    # a scorer that likes all texts alike adds the same number to all of them
    even = magic(prompted(lm, PROMPTS), [lambda texts: torch.zeros(len(texts))] * 4, str, end=0, most=9, k=6, alpha=0.3)
    assert [text.tokens for text in even] == [text.tokens for text in plain]


def test_magic_by_hand() -> None:
    asked: list[list[str]] = []

    def scorer(texts: list[str]) -> torch.Tensor:  # softmax: 0.7 for what ends with "3", 0.2 and 0.1 for the others
        asked.append(texts)
        return torch.tensor([{"3": 0.7, "2": 0.2, "1": 0.1}[text[-1]] for text in texts]).log() + 5

    def decode(tokens: list[int]) -> str:
        return "".join(map(str, tokens))

    # scores without a picture are 1: .125, 2: -.25, 3: -.3; with beta 1: .225, -.05, .4
    assert magic(known(), [scorer], decode, end=0, most=1, k=3, alpha=0.5, beta=1.0)[0].tokens == [3]
    assert magic(known(), [scorer], decode, end=0, most=1, k=3, alpha=0.5, beta=0.5)[0].tokens == [1]  # .175 to .05
    assert asked[0] == ["3", "2", "1"]
    magic(known(), [scorer], decode, end=0, most=2, k=3, alpha=0.5, beta=1.0)
    assert asked[-1] == ["33", "32", "31"]  # what was written comes before
    with pytest.raises(InputError, match="scorers: expected one for each of 1 rows, got 2"):
        magic(known(), [scorer] * 2, decode, end=0, most=2)
    with pytest.raises(InputError, match="beta"):
        magic(known(), [scorer], decode, end=0, most=2, beta=-1.0)


def test_each_row_is_judged_by_its_own_picture() -> None:
    lm = sharp(GPT2, seed=2)
    likes = [4, 9, 11]

    def scorer(token: int):  # type: ignore[no-untyped-def]
        return lambda texts: torch.tensor([50.0 * (text.split()[-1] == str(token)) for text in texts])

    def decode(tokens: list[int]) -> str:
        return " ".join(map(str, tokens)) or "-"

    texts = magic(
        prompted(lm, PROMPTS[:3]), [scorer(token) for token in likes], decode, end=-1, most=3, k=24, alpha=0.1, beta=9.0
    )
    assert [text.tokens for text in texts] == [[token] * 3 for token in likes]


def test_likelihoods_by_hand() -> None:
    def after(text: tuple[int, ...]) -> list[float]:
        return {(5,): [0.1, 0.2, 0.3, 0.4], (5, 1): [0.5, 0.2, 0.2, 0.1], (6,): [0.25] * 4}.get(
            text, [0.4, 0.2, 0.2, 0.2]
        )

    source = Told(after, prompts=[(5,), (6,), (6,)])
    found = likelihoods(source, [[[1], [1, 2], [3]], [[], [1]], []], end=0)
    assert [[math.exp(log) for log in some] for some in found] == [
        pytest.approx([0.2 * 0.5, 0.2 * 0.2 * 0.4, 0.4 * 0.4]),
        pytest.approx([0.25, 0.25 * 0.4]),
        [],
    ]
    assert source.computed == [3, 1]  # the two choices that begin with 1 are one row, the last row none
    assert likelihoods(Told(after, prompts=[(5,)]), [[]], end=0) == [[]]


def test_likelihoods_are_those_of_one_pass() -> None:
    lm = sharp(LLAMA)
    choices = [[[1, 2], [1, 2, 3], [4]], [[6]], [[8, 8, 8, 8], [8]], [[2], [2, 2], []]]
    found = likelihoods(prompted(lm, PROMPTS), choices, end=0)
    for prompt, some, logs in zip(PROMPTS, choices, found):
        for choice, log in zip(some, logs):
            tokens = torch.tensor([*prompt, *choice, 0])
            with torch.no_grad():
                log_probs = lm.logits(lm(lm.embed(tokens[None]))[0]).log_softmax(-1)
            wanted = log_probs[len(prompt) - 1 : -1].gather(1, tokens[len(prompt) :, None]).sum()
            assert log == pytest.approx(float(wanted), rel=1e-4)


def test_texts_of_all_lengths_add_up_to_one() -> None:
    lm = sharp(GPT2)
    ends = [[token] for token in range(1, 24)]
    one = likelihoods(of_language_model(lm, [[3]]), [[[], *ends]], end=0)[0]
    rest = [  # what begins with each token and does not end there
        math.exp(log) * (1 / p_end - 1)
        for log, p_end in zip(one[1:], _end_after(lm, [[3, token] for token in range(1, 24)]))
    ]
    assert sum(map(math.exp, one)) + sum(rest) == pytest.approx(1, rel=1e-3)


def _end_after(lm, prompts: list[list[int]]) -> list[float]:  # type: ignore[no-untyped-def]
    return [float(row) for row in of_language_model(lm, prompts).logits().softmax(-1)[:, 0]]
