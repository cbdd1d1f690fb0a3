"""Our CLIP against transformers' on tiny random checkpoints: through `models.load` on a saved folder, and back."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel

from diptych import models
from diptych.models.clip import CLIP
from diptych.models.clip_hf import save_hf
from diptych.processing import ImageConfig
from diptych.towers import ResNetConfig, TextTransformerConfig, ViTConfig
from diptych.types import Batch, InputError

LETTERS = [chr(code) for code in range(ord("!"), ord("~") + 1)]
TOKENS = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "ca", "car</w>", "<|startoftext|>", "<|endoftext|>"]
EOT = len(TOKENS) - 1
TEXTS = ["a red car", "two birds on a wire, at dusk", "x", "", "car " * 40]


def _checkpoint(folder: Path, pooling: str, *, activation: str = "quick_gelu") -> CLIPModel:
    """A random CLIP with a tokenizer and an image processor. Both poolings read the end token, each in its way."""
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    size |= {"hidden_act": activation}
    text = {"vocab_size": len(TOKENS), "max_position_embeddings": 77, "bos_token_id": EOT - 1, "pad_token_id": EOT}
    config = CLIPConfig(
        text_config={**size, **text, "eos_token_id": 2 if pooling == "legacy" else EOT},
        vision_config={**size, "hidden_size": 40, "image_size": 24, "patch_size": 8},
        projection_dim=24,
    )
    torch.manual_seed(0)
    theirs = CLIPModel(config).eval()
    with torch.no_grad():  # their biases and norms start at 0 and 1, which would hide a mixed-up weight
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    theirs.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(TOKENS)}))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca r</w>\n")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    processor = CLIPImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    processor.save_pretrained(folder)
    return theirs


def _compare(ours: CLIP, theirs: CLIPModel, folder: Path) -> None:
    """Features and logits to 1e-5; they see texts padded to 77, we see them trimmed."""
    padded = AutoTokenizer.from_pretrained(folder)(TEXTS, padding="max_length", truncation=True, return_tensors="pt")
    assert padded["input_ids"].shape == (len(TEXTS), 77)
    pixels = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    assert ours.processor is not None
    tokens, mask = ours.processor.text(TEXTS[:-1])  # without the one that fills the context
    assert tokens.shape[1] < 77
    with torch.no_grad():
        expected = theirs(**padded, pixel_values=pixels)
        image, text = ours.encode_image(pixels), ours.encode_text(*ours.processor.text(TEXTS))
        trimmed = ours.encode_text(tokens, mask)
        logits = ours.head.scale() * image @ text.t()
    torch.testing.assert_close(image, expected.image_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(text, expected.text_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(trimmed, expected.text_embeds[:-1], atol=1e-5, rtol=0)
    torch.testing.assert_close(logits, expected.logits_per_image, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["legacy", "first"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_features_and_logits(pooling: str, activation: str, tmp_path: Path) -> None:
    theirs = _checkpoint(tmp_path, pooling, activation=activation)
    ours = models.load(tmp_path)
    assert ours.config.text.pooling == ("eot_argmax" if pooling == "legacy" else "eot_first")
    assert ours.config.image.size == 24 and not ours.training
    _compare(ours, theirs, tmp_path)


def test_loss(tmp_path: Path) -> None:
    theirs = _checkpoint(tmp_path, "first")
    ours = models.load(tmp_path)
    pixels = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    tokens, mask = ours.processor.text(TEXTS[:3])
    expected = theirs(input_ids=tokens, attention_mask=mask.long(), pixel_values=pixels, return_loss=True).loss
    losses = ours(Batch(["a", "b", "c"], pixels=pixels, tokens=tokens, token_mask=mask))
    torch.testing.assert_close(losses.total, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", ["legacy", "first"])
def test_there_and_back_is_bit_equal(pooling: str, tmp_path: Path) -> None:
    _checkpoint(tmp_path / "theirs", pooling)
    save_hf(models.load(tmp_path / "theirs"), tmp_path / "back")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "back"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    theirs, loading = CLIPModel.from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"] and not loading["mismatched_keys"]
    _compare(models.load(tmp_path / "back"), theirs.eval(), tmp_path / "back")


def test_our_folder_of_their_model(tmp_path: Path) -> None:
    """Loaded from Hugging Face's format, saved in ours, loaded again: still the same model."""
    theirs = _checkpoint(tmp_path / "theirs", "first")
    models.save(models.load(tmp_path / "theirs"), tmp_path / "ours")
    _compare(models.load(tmp_path / "ours"), theirs, tmp_path / "theirs")


def test_pickled_weights_load_without_running_code(tmp_path: Path) -> None:
    theirs = _checkpoint(tmp_path, "first")
    (tmp_path / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    _compare(models.load(tmp_path), theirs, tmp_path)

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "touched",)  # type: ignore[return-value]

    torch.save({"logit_scale": Hostile()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin: cannot be read as plain tensors"):
        models.load(tmp_path)
    assert not (tmp_path / "touched").exists()


def test_the_first_checkpoints_hold_their_configs_twice(tmp_path: Path) -> None:
    theirs = _checkpoint(tmp_path, "legacy")
    file = tmp_path / "config.json"
    data = json.loads(file.read_text())
    data["text_config_dict"], data["text_config"] = data["text_config"], {}
    data["vision_config_dict"] = None
    file.write_text(json.dumps(data))
    _compare(models.load(tmp_path), theirs, tmp_path)


def test_sharded_weights(tmp_path: Path) -> None:
    theirs = _checkpoint(tmp_path, "first")
    (tmp_path / "model.safetensors").unlink()
    theirs.save_pretrained(tmp_path, max_shard_size="40KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    _compare(models.load(tmp_path), theirs, tmp_path)


def test_a_model_from_scratch_is_read_by_transformers(tmp_path: Path) -> None:
    config = models.family("clip").Config(
        ViTConfig(image_size=24, patch_size=8, width=32, layers=2, heads=2),
        TextTransformerConfig(vocab_size=300, context_length=77, width=32, layers=2, heads=2),
        ImageConfig(size=24),
        embed_dim=16,
    )
    ours = CLIP.new(config, TEXTS).eval()
    save_hf(ours, tmp_path)
    theirs = CLIPModel.from_pretrained(tmp_path).eval()
    _compare(ours, theirs, tmp_path)
    assert theirs.config.text_config.eos_token_id == 1


def test_what_hugging_faces_clip_cannot_hold(tmp_path: Path) -> None:
    text = TextTransformerConfig(vocab_size=300, context_length=16, width=16, layers=1, heads=2)
    small = ViTConfig(image_size=16, patch_size=8, width=16, layers=1, heads=2)
    convolutional = CLIP.Config(ResNetConfig(depths=(1, 1, 1, 1), stem_width=8), text, embed_dim=8)
    for config, message in (
        (convolutional, "vision.kind"),
        (CLIP.Config(small, text, objective="sigmoid"), "objective"),
    ):
        with pytest.raises(InputError, match=message):
            save_hf(CLIP.new(config, TEXTS), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_missing_and_misshapen_weights_are_named(tmp_path: Path) -> None:
    theirs = _checkpoint(tmp_path, "first")
    state: dict[str, Tensor] = theirs.state_dict()
    state.pop("logit_scale")
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="logit_scale"):
        models.load(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(InputError, match="found neither"):
        models.load(tmp_path)
