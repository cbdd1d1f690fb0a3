"""Our towers against transformers' own, on tiny random weights."""

import pytest
import torch
import transformers
from torch import nn

from diptych.towers import EfficientNetConfig, ResNetConfig, build_text, build_vision
from diptych.towers.hf_clip import (
    text_config_from_hf,
    text_config_to_hf,
    text_state_from_hf,
    text_state_to_hf,
    vision_config_from_hf,
    vision_config_to_hf,
    vision_state_from_hf,
    vision_state_to_hf,
)

SMALL = {"hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4}
CLOSE = {"rtol": 0, "atol": 1e-5}


def randomise(model: nn.Module) -> nn.Module:
    """Every weight, norm and running statistic away from its start, so that a swapped pair of them shows."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            scale = tensor.ndim == 1 and name.endswith(("weight", "running_var"))
            tensor.copy_(0.5 + noise if scale else (noise - 0.5) / 3)
    return model.eval()


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_vit_equals_clip_vision_model(activation: str) -> None:
    config = transformers.CLIPVisionConfig(image_size=32, patch_size=8, hidden_act=activation, **SMALL)
    theirs = randomise(transformers.CLIPVisionModel(config))
    ours = build_vision(vision_config_from_hf(config.to_dict())).eval()
    ours.load_state_dict(vision_state_from_hf(theirs.state_dict()))
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, output = theirs(pixels), ours(pixels)
    assert expected.pooler_output.std() > 0.1
    torch.testing.assert_close(output.pooled, expected.pooler_output, **CLOSE)
    torch.testing.assert_close(output.tokens, expected.last_hidden_state[:, 1:], **CLOSE)


def test_vit_interpolates_positions_as_clip_vision_model() -> None:
    config = transformers.CLIPVisionConfig(image_size=32, patch_size=8, **SMALL)
    theirs = randomise(transformers.CLIPVisionModel(config))
    ours = build_vision(vision_config_from_hf(config.to_dict())).eval()
    ours.load_state_dict(vision_state_from_hf(theirs.state_dict()))
    pixels = torch.randn(2, 3, 48, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(pixels, interpolate_pos_encoding=True).pooler_output
        torch.testing.assert_close(ours(pixels).pooled, expected, **CLOSE)


@pytest.mark.parametrize("eos_id", [2, 90])
def test_text_transformer_equals_clip_text_model(eos_id: int) -> None:
    """An `eos_token_id` of 2 means the old pooling, at the largest token id; any other the first such token."""
    ids = {"vocab_size": 99, "eos_token_id": eos_id, "bos_token_id": 0, "pad_token_id": 1}
    config = transformers.CLIPTextConfig(max_position_embeddings=12, **ids, **SMALL)
    theirs = randomise(transformers.CLIPTextModel(config))
    ours = build_text(text_config_from_hf(config.to_dict())).eval()
    ours.load_state_dict(text_state_from_hf(theirs.state_dict()))
    tokens = torch.randint(3, 89, (4, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(4, 9, dtype=torch.bool)
    for row, length in enumerate([9, 4, 6, 2]):
        tokens[row, length - 1] = 98 if eos_id == 2 else eos_id
        tokens[row, length:], mask[row, length:] = (1 if eos_id == 2 else eos_id), False
    with torch.no_grad():
        expected, output = theirs(tokens, attention_mask=mask.long()), ours(tokens, mask)
    assert expected.pooler_output.std() > 0.1
    torch.testing.assert_close(output.pooled, expected.pooler_output, **CLOSE)
    torch.testing.assert_close(output.tokens[mask], expected.last_hidden_state[mask], **CLOSE)


def test_clip_state_and_config_go_there_and_back() -> None:
    text = transformers.CLIPTextConfig(vocab_size=99, eos_token_id=2, **SMALL).to_dict()
    vision = transformers.CLIPVisionConfig(image_size=32, patch_size=8, **SMALL).to_dict()
    model = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision))
    state = model.state_dict()
    back = vision_state_to_hf(vision_state_from_hf(state)) | text_state_to_hf(text_state_from_hf(state))
    rest = {"logit_scale", "visual_projection.weight", "text_projection.weight"}
    assert set(back) == set(state) - rest
    assert all(torch.equal(back[key], state[key]) for key in back)
    for config, there, again in (
        (vision, vision_config_from_hf, vision_config_to_hf),
        (text, text_config_from_hf, text_config_to_hf),
    ):
        written = again(there(config))
        assert written == {key: config[key] for key in written}


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_resnet_equals_resnet_model(block: str) -> None:
    expansion = 4 if block == "bottleneck" else 1
    theirs = transformers.ResNetModel(
        transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8 * expansion, 16 * expansion], depths=[1, 2], layer_type=block
        )
    )
    ours = build_vision(ResNetConfig(depths=(1, 2), stem_width=8, block=block)).eval()
    randomise(theirs)
    mapped = {}
    for key, value in theirs.state_dict().items():
        name = key.replace("convolution", "conv").replace("normalization", "norm")
        name = name.replace("embedder.embedder", "trunk.stem").replace("encoder.stages", "trunk.stages")
        for position in range(3):
            name = name.replace(f"layer.{position}.", f"conv{position + 1}.")
        mapped[name.replace("layers.", "")] = value
    ours.load_state_dict(mapped)
    pixels = torch.randn(2, 3, 40, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, output = theirs(pixels), ours(pixels)
    scale = expected.pooler_output.abs().max()
    assert (expected.pooler_output / scale).std() > 0.1
    torch.testing.assert_close(output.pooled / scale, expected.pooler_output.flatten(1) / scale, **CLOSE)
    torch.testing.assert_close(output.tokens / scale, expected.last_hidden_state.flatten(2).mT / scale, **CLOSE)


def test_efficientnet_b0_equals_efficientnet_model() -> None:
    theirs = transformers.EfficientNetModel(
        transformers.EfficientNetConfig(width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280)
    )
    ours = build_vision(EfficientNetConfig()).eval()
    randomise(theirs)
    pairs = list(zip(ours.state_dict(), theirs.state_dict().values(), strict=True))  # both in order of the forward pass
    ours.load_state_dict(dict(pairs))
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, output = theirs(pixels), ours(pixels)
    scale = expected.last_hidden_state.abs().max()
    assert expected.last_hidden_state.std() / scale > 1e-3
    torch.testing.assert_close(output.tokens / scale, expected.last_hidden_state.flatten(2).mT / scale, **CLOSE)
