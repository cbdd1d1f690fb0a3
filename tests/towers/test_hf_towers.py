"""Towers around transformers' own models: any of them, unrenamed, with exact padding."""

from typing import Any

import pytest
import torch
import transformers

from diptych.towers import HFTextConfig, HFVisionConfig, build_text, build_vision
from diptych.types import InputError

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
PATCHES = {"image_size": 32, "patch_size": 8, **SMALL}
MAPS = {"hidden_sizes": [4, 4, 4, 8], "depths": [1, 1, 1, 1]}
VISION: dict[str, dict[str, Any]] = {
    "vit": PATCHES,
    "clip_vision_model": PATCHES,
    "dinov2": PATCHES,
    "dinov2_with_registers": PATCHES,
    "siglip_vision_model": PATCHES,
    "resnet": {"embedding_size": 4, **MAPS},
    "convnext": MAPS,
    "swin": {"image_size": 32, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
    "mobilevit": {"image_size": 32},
}
TEXT: dict[str, dict[str, Any]] = {
    "bert": SMALL,
    "roberta": SMALL,
    "distilbert": {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2},
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2},
}


def vision(name: str, pooling: str) -> Any:
    torch.manual_seed(0)
    return build_vision(HFVisionConfig(config={"model_type": name, **VISION[name]}, pooling=pooling)).eval()


def text(name: str, pooling: str) -> Any:
    torch.manual_seed(0)
    config = {"model_type": name, "vocab_size": 40, "pad_token_id": 1, **TEXT[name]}
    return build_text(HFTextConfig(config=config, pooling=pooling)).eval()


@pytest.mark.parametrize("name", VISION)
def test_vision_tower_pools_what_the_model_gives(name: str) -> None:
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tower = vision(name, "pooler")
    with torch.no_grad():
        output, theirs = tower(pixels), tower.model(pixels)
        assert output.pooled.shape == (2, tower.width)
        assert torch.equal(output.pooled, theirs.pooler_output.flatten(1))
        states = theirs.last_hidden_state
        states = states.flatten(2).mT if states.ndim == 4 else states
        tokens = output.tokens.shape[1]
        assert tokens in (1, 16)  # patches alone, or one cell of a map
        assert torch.equal(output.tokens, states[:, -tokens:])
        mean = vision(name, "mean")
        assert mean.width == tower.width
        torch.testing.assert_close(mean(pixels).pooled, mean(pixels).tokens.mean(dim=1))


def test_cls_is_the_first_token() -> None:
    tower, pixels = vision("dinov2_with_registers", "cls"), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(tower(pixels).pooled, tower.model(pixels).last_hidden_state[:, 0])


def test_state_dict_is_the_models_with_a_prefix() -> None:
    config = transformers.DistilBertConfig(vocab_size=40, **TEXT["distilbert"])
    theirs = transformers.DistilBertModel(config)
    tower = build_text(HFTextConfig(config=config.to_dict(), pooling="cls")).eval()
    tower.load_state_dict({f"model.{name}": value for name, value in theirs.state_dict().items()})
    tokens, mask = torch.randint(2, 40, (2, 6)), torch.ones(2, 6, dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(tower(tokens, mask).tokens, theirs.eval()(tokens, mask.long()).last_hidden_state)


@pytest.mark.parametrize("name", TEXT)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_padding_is_masked_and_may_be_trimmed(name: str, pooling: str) -> None:
    tower = text(name, pooling)
    tokens = torch.randint(2, 40, (2, 8), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(8) < torch.tensor([5, 3])[:, None]
    tokens = tokens.masked_fill(~mask, 1)
    with torch.no_grad():
        full, trimmed = tower(tokens, mask), tower(tokens[:, :5], mask[:, :5])
        unmasked = tower(tokens, torch.ones_like(mask))
    assert full.pooled.shape == (2, tower.width)
    torch.testing.assert_close(trimmed.pooled, full.pooled, rtol=0, atol=1e-5)
    assert not torch.allclose(unmasked.pooled, full.pooled, atol=1e-4)


def test_a_pooler_that_nobody_reads_is_left_out() -> None:
    """Its parameters would get no gradient, which distributed training takes for an error."""
    assert any("pooler" in name for name in text("bert", "pooler").state_dict())
    tower = text("bert", "mean")
    tower(torch.randint(2, 40, (2, 4)), torch.ones(2, 4, dtype=torch.bool)).pooled.sum().backward()
    assert all(parameter.grad is not None for parameter in tower.parameters())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "no 'model_type'"),
        ({"model_type": "no-such-model"}, "cannot build model_type 'no-such-model'"),
        ({"model_type": "bert", "hidden_size": "wide"}, "cannot build model_type 'bert'"),
    ],
)
def test_bad_configs_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_text(HFTextConfig(config=config))


def test_a_model_without_a_pooler_says_so() -> None:
    with pytest.raises(InputError, match="DistilBertModel has no pooler"):
        text("distilbert", "pooler")(torch.randint(2, 40, (2, 4)), torch.ones(2, 4, dtype=torch.bool))
