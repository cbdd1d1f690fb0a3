"""Towers from scratch: what padding, order and position of tokens may change, and what they may not."""

import pytest
import torch

from diptych.towers import (
    EfficientNetConfig,
    ResNetConfig,
    TextTransformerConfig,
    ViTConfig,
    build_text,
    build_vision,
)
from diptych.towers.text import masked_mean
from diptych.types import InputError

CLOSE = {"rtol": 0, "atol": 1e-6}
EOS = 18


def text_tower(causal: bool, pooling: str) -> torch.nn.Module:
    torch.manual_seed(0)
    config = TextTransformerConfig(
        vocab_size=20, context_length=12, width=16, layers=2, heads=2, causal=causal, pooling=pooling, eos_id=EOS
    )
    return build_text(config).eval()


def texts() -> tuple[torch.Tensor, torch.Tensor]:
    """Three texts of 6, 4 and 2 tokens, each with EOS at its end, padded to 9 with a token that also occurs in them."""
    tokens = torch.randint(3, EOS, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(9) < torch.tensor([6, 4, 2])[:, None]
    tokens = tokens.masked_fill(~mask, int(tokens[0, 0]))
    tokens[torch.arange(3), torch.tensor([5, 3, 1])] = EOS
    return tokens, mask


ALL = [(True, "eot_first"), (True, "eot_argmax"), (True, "mean"), (False, "cls"), (False, "mean"), (False, "eot_first")]


@pytest.mark.parametrize(("causal", "pooling"), ALL)
def test_trimmed_padding_changes_nothing(causal: bool, pooling: str) -> None:
    tower, (tokens, mask) = text_tower(causal, pooling), texts()
    full, trimmed = tower(tokens, mask), tower(tokens[:, :6], mask[:, :6])
    assert full.pooled.std() > 0.1
    torch.testing.assert_close(trimmed.pooled, full.pooled, **CLOSE)
    torch.testing.assert_close(trimmed.tokens[mask[:, :6]], full.tokens[mask], **CLOSE)


@pytest.mark.parametrize(("causal", "pooling"), ALL)
def test_padded_tokens_are_not_seen(causal: bool, pooling: str) -> None:
    tower, (tokens, mask) = text_tower(causal, pooling), texts()
    other = torch.where(mask, tokens, EOS + 1)
    torch.testing.assert_close(tower(other, mask).pooled, tower(tokens, mask).pooled, **CLOSE)


@pytest.mark.parametrize("pooling", ["eot_first", "eot_argmax"])
def test_causal_pooling_is_the_state_at_the_end_of_text(pooling: str) -> None:
    tower, (tokens, mask) = text_tower(True, pooling), texts()
    output = tower(tokens, mask)
    for row, place in enumerate([5, 3, 1]):
        assert torch.equal(output.pooled[row], output.tokens[row, place])
    changed = tokens.clone()
    changed[:, 0] = torch.where(tokens[:, 0] == 3, 4, 3)
    assert not torch.isclose(tower(changed, mask).pooled, output.pooled).all(dim=1).any()


def test_bidirectional_first_token_sees_the_last_causal_does_not() -> None:
    tokens, mask = texts()
    changed = tokens.clone()
    changed[0, 5] = 3
    for causal, seen in ((True, False), (False, True)):
        tower = text_tower(causal, "mean")
        before, after = tower(tokens, mask).tokens[0, 0], tower(changed, mask).tokens[0, 0]
        assert torch.allclose(before, after) is not seen


def test_order_of_tokens_matters() -> None:
    tower = text_tower(False, "mean")
    tokens, mask = torch.tensor([[4, 5, 6]]), torch.ones(1, 3, dtype=torch.bool)
    assert not torch.allclose(tower(tokens, mask).pooled, tower(tokens.flip(1), mask).pooled)


def test_too_long_a_text_is_refused() -> None:
    with pytest.raises(InputError, match="13 tokens.*context_length is 12"):
        text_tower(True, "mean")(torch.zeros(1, 13, dtype=torch.long), torch.ones(1, 13, dtype=torch.bool))


def test_a_text_without_tokens_gives_finite_numbers() -> None:
    tokens, mask = torch.zeros(2, 3, dtype=torch.long), torch.tensor([[False] * 3, [True] * 3])
    for causal, pooling in ALL:
        assert text_tower(causal, pooling)(tokens, mask).pooled.isfinite().all()


def test_masked_mean_by_hand() -> None:
    x = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]], [[5.0, 5.0]] * 3])
    keep = torch.tensor([[True, True, False], [False] * 3])
    assert masked_mean(x, keep).tolist() == [[2.0, 4.0], [0.0, 0.0]]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_vit_takes_pictures_of_other_sizes(pooling: str) -> None:
    torch.manual_seed(0)
    tower = build_vision(ViTConfig(image_size=32, patch_size=8, width=16, layers=2, heads=2, pooling=pooling)).eval()
    output = tower(torch.randn(2, 3, 48, 24))
    assert output.tokens.shape == (2, 18, 16)
    assert output.pooled.shape == (2, 16)
    if pooling == "mean":
        torch.testing.assert_close(output.pooled, tower.final_norm(output.tokens).mean(dim=1))


@pytest.mark.parametrize(
    "config",
    [EfficientNetConfig(lite=True, width_multiplier=0.2), ResNetConfig(depths=(1, 1, 1, 1), stem_width=4)],
    ids=lambda config: config.kind,
)
def test_inference_in_pieces_equals_all_at_once(config: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, without gradients; channels-last beside the usual order."""
    torch.manual_seed(0)
    tower = build_vision(config).train()
    pixels = torch.randn(5, 3, 64, 64)
    tower(pixels)  # moves the running statistics from their start
    tower.eval()
    plain = tower(pixels)
    monkeypatch.setattr("diptych.towers.vision._PIXELS_AT_ONCE", 2 * 64 * 64)
    with torch.no_grad():
        fast = tower(pixels.to(memory_format=torch.channels_last))
    assert plain.pooled.std() > 1e-3
    torch.testing.assert_close(fast.pooled, plain.pooled, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fast.tokens, plain.tokens, rtol=1e-4, atol=1e-5)


def test_conv_tower_learns_through_its_tokens() -> None:
    torch.manual_seed(0)
    tower = build_vision(ResNetConfig(depths=(1, 1), stem_width=4))
    tower(torch.randn(4, 3, 32, 32)).tokens.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tower.parameters())
