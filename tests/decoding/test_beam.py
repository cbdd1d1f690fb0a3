"""Beam search against every text there is, and against transformers."""

import itertools
import math
from typing import Any

import pytest
import torch
from known import GPT2, LLAMA, Told, prompted, sharp

from diptych.decoding import Written, beam_search, write
from diptych.towers.decoder import Decoder
from diptych.towers.hf_decoder import decoder_config_to_hf, decoder_state_to_hf
from diptych.types import InputError


def worth(text: Written, length_penalty: float) -> float:
    return sum(text.log_probs) / len(text.log_probs) ** length_penalty


@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 1.0, 2.5])
def test_equals_exhaustive_search(length_penalty: float) -> None:
    end, most, vocabulary = 0, 4, 3
    torch.manual_seed(0)
    table: dict[tuple[int, ...], list[float]] = {}

    def after(text: tuple[int, ...]) -> list[float]:
        return table.setdefault(text, (torch.randn(vocabulary) * 1.5).softmax(0).tolist())

    prompts = [(7,), (8,)]
    found = beam_search(
        Told(after, prompts=prompts), end=end, most=most, beams=40, best=5, length_penalty=length_penalty
    )
    for prompt, texts in zip(prompts, found):
        everything = []
        for length in range(1, most + 1):
            for tokens in itertools.product(range(vocabulary), repeat=length):
                inner = end not in tokens[:-1]
                if inner and (tokens[-1] == end or length == most):
                    logs = [math.log(after((*prompt, *tokens[:i]))[token]) for i, token in enumerate(tokens)]
                    everything.append((sum(logs) / length**length_penalty, list(tokens)))
        everything.sort(reverse=True)
        said = [[*text.tokens, end] if text.ended else text.tokens for text in texts]
        assert said == [tokens for _, tokens in everything[:5]]
        assert [worth(text, length_penalty) for text in texts] == pytest.approx(
            [s for s, _ in everything[:5]], rel=1e-5
        )


def test_the_greedy_path_is_not_always_the_best() -> None:
    def after(text: tuple[int, ...]) -> list[float]:  # 1 first looks better, but 2 leads to a sure end
        return {(): [0.0, 0.6, 0.4], (1,): [0.4, 0.3, 0.3], (2,): [1.0, 0.0, 0.0]}.get(text, [1.0, 0.0, 0.0])

    assert write(Told(after), end=0, most=3)[0].tokens == [1]
    best = beam_search(Told(after), end=0, most=3, beams=2, length_penalty=0.0)[0]
    assert len(best) == 1 and best[0].tokens == [2] and best[0].ended
    assert best[0].log_probs == pytest.approx([math.log(0.4), 0.0])


def test_one_beam_without_penalty_is_greedy() -> None:
    prompts = [[3, 4, 5], [7], [9, 2]]
    lm = sharp(LLAMA)
    beams = beam_search(prompted(lm, prompts), end=-1, most=8, beams=1)
    assert [some[0].tokens for some in beams] == [text.tokens for text in write(prompted(lm, prompts), end=-1, most=8)]


def test_does_not_stop_before_a_longer_text_can_no_longer_win() -> None:
    # "end" at once is worth ln 0.5; 1 1 1 end is worth (ln 0.5) / 4 with the length penalty, and comes later
    source = Told(lambda text: [0.5, 0.5] if not text else [0.0, 1.0] if len(text) < 3 else [1.0, 0.0])
    assert beam_search(source, end=0, most=6, beams=2)[0][0].tokens == [1, 1, 1]
    # without a penalty nothing that goes on can be worth more than what has ended: no further step is computed
    source = Told(lambda text: [0.9, 0.1])
    assert beam_search(source, end=0, most=50, beams=2, length_penalty=0.0)[0][0].tokens == []
    assert source.computed == []


def test_rows_that_are_settled_leave_the_batch() -> None:
    source = Told(lambda text: [0.9, 0.1] if text[0] == 5 else [0.1, 0.9], prompts=[(5,), (6,)])
    found = beam_search(source, end=0, most=4, beams=2, length_penalty=0.0)
    assert found[0][0].tokens == [] and len(found) == 2 and set(source.computed) == {2}


def test_best_of_more_than_there_are() -> None:
    with pytest.raises(InputError, match="best: expected 1 to 3"):
        beam_search(Told(lambda text: [0.5, 0.5]), end=0, most=2, beams=3, best=4)
    texts = beam_search(Told(lambda text: [0.5, 0.5]), end=0, most=1, beams=3, best=3)[0]  # "" and "1" is all there is
    assert sorted(text.tokens for text in texts) == [[], [1]]


def in_transformers(lm: Decoder) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**decoder_config_to_hf(lm.config)))
    theirs.load_state_dict(decoder_state_to_hf(lm.state_dict(), lm.config))
    return theirs.eval()


@pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["gpt2", "llama"])
@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 2.0])
def test_equals_transformers(config: Any, length_penalty: float) -> None:
    end, most, beams, best, length = 2, 9, 4, 3, 5
    lm = sharp(config, seed=3)
    torch.manual_seed(1)
    prompts = torch.randint(3, config.vocab_size, (12, length))
    prompts[:6, 0] = 0  # six of them are shorter, padded on the left as transformers wants it
    mask = prompts > 0
    with torch.no_grad():
        theirs = in_transformers(lm).generate(
            prompts,
            attention_mask=mask.long(),
            num_beams=beams,
            num_return_sequences=best,
            max_new_tokens=most,
            length_penalty=length_penalty,
            early_stopping="never",  # its other criteria are heuristics
            do_sample=False,
            eos_token_id=end,
            pad_token_id=end,
            return_dict_in_generate=True,
            output_scores=True,
        )
    rows = [prompt[kept].tolist() for prompt, kept in zip(prompts, mask)]
    ours = beam_search(prompted(lm, rows), end=end, most=most, beams=beams, best=best, length_penalty=length_penalty)
    flat = [text for some in ours for text in some]
    for text, tokens, score in zip(flat, theirs.sequences[:, length:].tolist(), theirs.sequences_scores.tolist()):
        written = tokens[: tokens.index(end)] if end in tokens else tokens
        assert text.tokens == written
        assert worth(text, length_penalty) == pytest.approx(score, rel=1e-4)
    assert len(flat) == 36 and {text.ended for text in flat} == {True, False}
