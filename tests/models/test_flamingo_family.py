"""Flamingo: shut gates, whose picture a token sees, what trains, public names, and pretrained parts."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from diptych.blocks.resampler import PerceiverResampler
from diptych.decoding import write
from diptych.models.flamingo import PRESETS, Flamingo, FlamingoConfig, from_open_flamingo
from diptych.models.interleaved import Interleaved
from diptych.processing import ImageConfig, documents
from diptych.processing.documents import place
from diptych.towers import DecoderConfig, HFLanguageConfig, ViTConfig
from diptych.towers.prompted import Prompted
from diptych.types import InputError

TEXTS = ["a red cube and a blue ball", "two green cones", "what is this?"] * 2
CONFIG = FlamingoConfig(
    ViTConfig(image_size=16, patch_size=8, width=12, layers=1, heads=2, pooling="mean"),
    DecoderConfig(vocab_size=300, context_length=64, width=16, layers=4, heads=2, positions="rotary"),
    vision_tuning="u",
    lm_tuning="u",
    image=ImageConfig(size=16),
    latents=3,
    resampler_layers=1,
    every=2,
    heads=2,
    head_width=5,
)


def new(**changes: object) -> Flamingo:
    return Flamingo.new(dataclasses.replace(CONFIG, **changes), TEXTS, seed=0).eval()  # type: ignore[arg-type]


def document(model: Flamingo, *texts: str) -> Interleaved:
    """Rows with random pictures at their places."""
    assert model.processor is not None
    rows = documents.prompts(model.processor.text, texts)
    tokens, keep = model.processor.text.padded(rows)
    places = (tokens == place(model.processor.text)) & keep
    pixels = torch.randn(int(places.sum()), 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return Interleaved(tokens, keep, torch.zeros_like(keep), places, pixels)


def states(model: Flamingo, text: Interleaved) -> Tensor:
    return model.language(model.language.embed(text.tokens), before=model.looking(text))


def open_gates(model: Flamingo) -> Flamingo:
    with torch.no_grad():
        for layer in model.gated_cross_attn_layers.values():
            layer.attn_gate.fill_(1.0)
            layer.ff_gate.fill_(0.5)
    return model


@pytest.mark.parametrize("kind", ["own", "transformers"])
def test_an_untrained_model_is_the_language_model_bit_for_bit(kind: str) -> None:
    model = new()
    if kind == "transformers":
        size = {"n_embd": 16, "n_layer": 4, "n_head": 2, "n_positions": 64, "vocab_size": model.config.vocab_size}
        lm = HFLanguageConfig(config={"model_type": "gpt2", **size})
        model = Flamingo(dataclasses.replace(model.config, lm=lm), model.processor).eval()
    text = document(model, "<image> a red cube <image> two green cones", "a ball <image>")
    with torch.no_grad():
        x = model.language.embed(text.tokens)
        alone = model.lm(x)
        hidden = states(model, text)
        assert torch.equal(hidden, alone)
        own = model.language.first
        assert torch.equal(model.language.logits(hidden)[..., :own], model.lm.logits(alone)[..., :own])
        looking = Prompted(model.language, x, text.keep, before=model.looking(text))
        not_looking = Prompted(model.language, x, text.keep)
        assert write(looking, end=1, most=8) == write(not_looking, end=1, most=8)
        assert not torch.equal(states(open_gates(model), text), alone)


def test_before_the_last_layer_a_token_is_touched_by_the_last_picture_before_it_only() -> None:
    model = open_gates(new())
    text = document(model, "a ball <image> a red cube <image> two green cones")
    x = model.language.embed(text.tokens)
    assert text.pixels is not None
    first, second = text.places[0].nonzero()[:, 0].tolist()
    with torch.no_grad():
        base = model.looking(text)(1, x)
        for picture, touched in ((0, range(first, second)), (1, range(second, x.shape[1]))):
            pixels = text.pixels.clone()
            pixels[picture] += 1
            moved = (model.looking(text._replace(pixels=pixels))(1, x) != base).any(dim=-1)[0]
            assert moved.nonzero()[:, 0].tolist() == list(touched)
        assert torch.isfinite(base).all()


def test_text_alone_and_rows_without_pictures() -> None:
    model = open_gates(new())
    mixed = document(model, "<image> a red cube", "two green cones")
    alone = document(model, "two green cones")._replace(pixels=None)
    with torch.no_grad():
        hidden, other = states(model, mixed), states(model, alone)
    length = int(alone.keep[0].sum())
    torch.testing.assert_close(hidden[1, :length], other[0, :length])


def test_gated_layers_stand_where_the_public_ones_do() -> None:
    assert list(new().gated_cross_attn_layers) == ["1", "3"]
    assert list(new(every=1).gated_cross_attn_layers) == ["0", "1", "2", "3"]
    with pytest.raises(InputError, match="every: expected 1 to the number of layers, 4, got 5"):
        new(every=5)


def test_a_public_checkpoint_fills_what_trains() -> None:
    model = new()
    ours = {k: v for k, v in model.state_dict().items() if k.startswith(("perceiver", "gated"))}
    public: dict[str, Tensor] = {"lang_encoder.transformer.wte.weight": torch.zeros(1)}
    for name, value in ours.items():
        lang = "" if name.startswith("perceiver") else "lang_encoder."
        if name.endswith(("k_proj.weight", "v_proj.weight")):
            continue
        public[lang + name.replace("attention.q_proj", "to_q").replace("attention.out_proj", "to_out")] = value
        if name.endswith("q_proj.weight"):
            parts = [ours[name.replace("q_proj", f"{part}_proj")] for part in "kv"]
            public[lang + name.replace("attention.q_proj", "to_kv")] = torch.cat(parts)
    assert "perceiver.layers.0.0.to_kv.weight" in public
    assert "lang_encoder.gated_cross_attn_layers.3.attn.to_out.weight" in public
    mapped = from_open_flamingo(public)
    assert mapped.keys() == ours.keys()
    assert all(torch.equal(mapped[name], value) for name, value in ours.items())


def test_only_the_new_tokens_layers_and_the_resampler_train_over_locked_towers() -> None:
    started = new()
    model = Flamingo(dataclasses.replace(started.config, vision_tuning="L", lm_tuning="L"), started.processor).train()
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"new_tokens", "perceiver", "gated_cross_attn_layers"}
    assert not any(module.training for module in (*model.visual.modules(), *model.lm.modules()))


def test_the_model_cannot_write_a_place_for_a_picture() -> None:
    model = new()
    assert model.processor is not None
    words = model.processor.text
    assert place(words) == model.language.vocab_size and words.eos_id == model.language.vocab_size - 1
    source = model.read([[np.zeros((16, 16, 3), np.uint8)]], [[words.bos_id]])
    assert source.logits().shape == (1, words.eos_id + 1)


def test_presets_are_what_they_say() -> None:
    tiny = PRESETS["tiny"]
    model = Flamingo.new(tiny, TEXTS, seed=0)
    assert model.visual(torch.zeros(1, 3, 64, 64)).tokens.shape[1] >= 64
    assert isinstance(model.perceiver, PerceiverResampler) and model.perceiver.latents.shape[0] == tiny.latents
