"""Rows appended to a vocabulary: they train, and the language model's own stay as they are."""

import pytest
import torch

from diptych.towers import DecoderConfig, build_language
from diptych.towers.more_tokens import MoreTokens
from diptych.types import InputError


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def more(request: pytest.FixtureRequest) -> MoreTokens:
    torch.manual_seed(0)
    config = DecoderConfig(vocab_size=20, context_length=16, width=12, layers=1, heads=2, tied=request.param)
    rows = torch.nn.Parameter(torch.randn(2, 12))
    return MoreTokens(build_language(config), rows, 18, said=1)  # two rows of the 20 belong to no token


def test_old_tokens_are_the_models_own_and_new_ones_have_their_rows(more: MoreTokens) -> None:
    tokens = torch.tensor([[0, 17, 18, 19]])
    embedded = more.embed(tokens)
    assert torch.equal(embedded[:, :2], more.lm.embed(tokens[:, :2]))
    assert torch.equal(embedded[0, 2:], more.rows)
    hidden = more(embedded)
    assert torch.equal(hidden, more.lm(embedded))
    logits = more.logits(hidden)
    assert logits.shape[-1] == more.vocab_size == 19
    assert torch.equal(logits[..., :18], more.lm.logits(hidden)[..., :18])
    torch.testing.assert_close(logits, hidden @ more.head_weight().T)


def test_new_rows_get_gradients_where_the_model_is_locked(more: MoreTokens) -> None:
    more.lm.requires_grad_(False)
    more.logits(more(more.embed(torch.tensor([[1, 18, 19]])))).logsumexp(-1).sum().backward()
    assert more.rows.grad is not None and bool((more.rows.grad.abs().sum(1) > 0).all())
    assert all(parameter.grad is None for parameter in more.lm.parameters())


def test_a_model_with_fewer_tokens_than_its_tokenizer_is_refused() -> None:
    lm = build_language(DecoderConfig(vocab_size=20, context_length=16, width=12, layers=1, heads=2))
    with pytest.raises(InputError, match="at least the 21 tokens of its tokenizer, got 20"):
        MoreTokens(lm, torch.zeros(2, 12), 21, said=1)
