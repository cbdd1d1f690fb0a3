"""Dual encoders of transformers as ours: the same rows as they give, and everything that a dual encoder is used for."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_hf import IDS, SQUARE, TEXT, VISION, save_model, save_tokenizer

import diptych
from diptych.capabilities import AnswersQuestions, DualEncoder, WritesCaptions
from diptych.data.writer import DatasetWriter
from diptych.models import load
from diptych.search.build import model_fingerprint
from diptych.tasks.classify import similarity_scale
from diptych.types import EncodedImage, InputError, Sample

TEXTS = ["a red car", "a blue bird on the dog", "dog", "a red car on the blue car on the red car on the blue car on"]


def siglip(folder: Path) -> Any:
    image = hf.SiglipImageProcessorPil(size=SQUARE)
    text = {**TEXT, **IDS, "projection_size": 32}
    save_tokenizer(folder, template="$A <eos>", model_input_names=["input_ids"])
    return save_model(folder, lambda: hf.SiglipModel(hf.SiglipConfig(text_config=text, vision_config=VISION)), image)


def siglip2(folder: Path) -> Any:
    """NaFlex: patches in place of pixels, as many as the picture's shape gives."""
    image = hf.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)
    vision = {name: value for name, value in VISION.items() if name != "image_size"} | {"num_patches": 16}
    text = {**TEXT, **IDS, "projection_size": 32}
    save_tokenizer(folder, template="$A <eos>", padding_side="right")
    return save_model(folder, lambda: hf.Siglip2Model(hf.Siglip2Config(text_config=text, vision_config=vision)), image)


def align(folder: Path) -> Any:
    """An EfficientNet beside BERT, pixels from -1 to 1, and a temperature in place of a scale."""
    image = hf.EfficientNetImageProcessorPil(
        size=SQUARE, rescale_factor=1 / 127.5, rescale_offset=True, do_center_crop=False
    )
    vision = {"image_size": 32, "width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 32}
    save_tokenizer(folder)
    config = hf.AlignConfig(text_config=TEXT, vision_config=vision, projection_dim=32)
    return save_model(folder, lambda: hf.AlignModel(config), image)


def clipseg(folder: Path) -> Any:
    """Saved as the whole that segments, as on the hub."""
    save_tokenizer(folder)
    config = hf.CLIPSegConfig(
        text_config={**TEXT, **IDS}, vision_config=VISION, projection_dim=24, extract_layers=[0, 1]
    )
    return save_model(folder, lambda: hf.CLIPSegForImageSegmentation(config), hf.ViTImageProcessorPil(size=SQUARE)).clip


def chinese_clip(folder: Path) -> Any:
    save_tokenizer(folder)
    config = hf.ChineseCLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=24)
    image = hf.ChineseCLIPImageProcessorPil(size={"shortest_edge": 36}, crop_size=SQUARE)
    return save_model(folder, lambda: hf.ChineseCLIPModel(config), image)


FAMILIES = {"siglip": siglip, "siglip2": siglip2, "align": align, "clipseg": clipseg, "chinese_clip": chinese_clip}


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (height, 50, 3), dtype=np.uint8)) for height in (40, 33, 64)]


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_equal_those_of_transformers(name: str, tmp_path: Path, pictures: list[Image.Image]) -> None:
    theirs = FAMILIES[name](tmp_path)
    ours = load(tmp_path)
    assert isinstance(ours, DualEncoder) and not ours.training
    assert not isinstance(ours, (WritesCaptions, AnswersQuestions))
    words, image = hf.AutoTokenizer.from_pretrained(tmp_path), hf.AutoImageProcessor.from_pretrained(tmp_path)
    padding = {"padding": "max_length" if name.startswith("siglip") else True, "max_length": 16, "truncation": True}
    text = words(TEXTS, return_tensors="pt", **padding)
    given = {"input_ids": text["input_ids"]}
    if not name.startswith("siglip"):
        given["attention_mask"] = text["attention_mask"]
    with torch.no_grad():
        out = theirs(**given, **image(images=pictures, return_tensors="pt"))
    rows = diptych.embed_images(ours, pictures, batch_size=2, precision="fp32")
    np.testing.assert_allclose(rows, torch.nn.functional.normalize(out.image_embeds, dim=-1), atol=1e-5)
    rows = diptych.embed_texts(ours, TEXTS, batch_size=2, precision="fp32")
    np.testing.assert_allclose(rows, torch.nn.functional.normalize(out.text_embeds, dim=-1), atol=1e-5)
    assert np.ptp(rows, axis=0).max() > 0.01, "texts differ"
    assert ours.processor.pad_to == (16 if name.startswith("siglip") else None)


def test_the_sigmoid_loss_gives_probabilities(tmp_path: Path, pictures: list[Image.Image]) -> None:
    theirs = siglip(tmp_path)
    with torch.no_grad():
        theirs.logit_scale.fill_(2.0)
        theirs.logit_bias.fill_(-1.0)
    theirs.save_pretrained(tmp_path)
    ours = load(tmp_path)
    image, text = diptych.embed_images(ours, pictures, precision="fp32"), diptych.embed_texts(ours, TEXTS)
    inputs = ours.processor.collate(["0"] * 3, [ours.processor.decode_image(one) for one in pictures], TEXTS)
    with torch.no_grad():
        expected = theirs(input_ids=inputs.tokens, pixel_values=inputs.pixels).logits_per_image.sigmoid()
        found = ours.probabilities(torch.from_numpy(image @ text.T))
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=0)
    assert similarity_scale(ours) == pytest.approx(np.exp(2.0))
    (tmp_path / "other").mkdir()
    clipseg(tmp_path / "other")
    with pytest.raises(InputError, match="has learnt no logit_bias"):
        load(tmp_path / "other").probabilities(torch.zeros(1))


def test_the_scale_of_align_and_of_siglip_is_that_of_their_logits(tmp_path: Path, pictures: list[Image.Image]) -> None:
    for make, name, value, scale in ((align, "temperature", 0.25, 4.0), (siglip, "logit_scale", 5.0, np.exp(5.0))):
        (tmp_path / name).mkdir()
        theirs = make(tmp_path / name)
        with torch.no_grad():
            getattr(theirs, name).fill_(value)
        theirs.save_pretrained(tmp_path / name)
        ours = load(tmp_path / name)
        assert similarity_scale(ours) == pytest.approx(scale)
        inputs = ours.processor.collate(["0"] * 3, [ours.processor.decode_image(one) for one in pictures], TEXTS)
        mask = inputs.token_mask.long() if make is align else None  # SigLIP was trained without one
        with torch.no_grad():
            logits = theirs(input_ids=inputs.tokens, pixel_values=inputs.pixels, attention_mask=mask)
        cosines = diptych.embed_images(ours, pictures, precision="fp32") @ diptych.embed_texts(ours, TEXTS).T
        bias = float(theirs.logit_bias.detach()) if make is siglip else 0.0
        np.testing.assert_allclose(scale * cosines + bias, logits.logits_per_image, atol=0.01 * scale)


def test_embed_search_classify_evaluate_and_match(tmp_path: Path) -> None:
    """What takes a dual encoder takes this one."""
    (tmp_path / "m").mkdir()
    siglip(tmp_path / "m")
    rng = np.random.default_rng(1)
    with DatasetWriter(tmp_path / "d") as writer:
        for i in range(12):
            data = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(data, "PNG")
            label = ["red", "blue", "dog"][i % 3]
            writer.write(Sample(f"s{i}", [EncodedImage(data.getvalue())], [f"a {label} car"], label=label))
    data, model = diptych.open_dataset(tmp_path / "d"), diptych.load(tmp_path / "m")
    assert len(diptych.retrieve(model, ["a red car"], data, k=3)[0]) == 3
    assert len(diptych.classify(model, data, ["red", "blue"])) == 12
    result = diptych.evaluate(model, data)
    assert result.estimates["retrieval/t2i_r@10"].n == 12
    assert diptych.evaluate(model, data, "classify").estimates
    built = diptych.build_index(model, data, tmp_path / "index")
    assert built.added == 12 and built.index.meta["model"] == model_fingerprint(diptych.load(tmp_path / "m"))
    matched = diptych.match(model, data.select([0, 1]), [["a red car", "a dog"], ["a dog"]])
    assert [scores.shape for scores in matched.scores] == [(2,), (1,)]
    assert diptych.answer(model, data.select([0]), ["?"], ["red", "blue"]).replies[0].text in ("red", "blue")


def test_fingerprints_know_weights_pictures_and_words(tmp_path: Path) -> None:
    siglip(tmp_path)
    first = load(tmp_path)
    assert model_fingerprint(first) == model_fingerprint(load(tmp_path))
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings | {"image_mean": [0.1, 0.1, 0.1]}))
    second = load(tmp_path)
    assert first.processor.image_fingerprint() != second.processor.image_fingerprint()
    assert first.processor.fingerprint() != second.processor.fingerprint()
    words = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(words | {"model_max_length": 10}))
    third = load(tmp_path)
    assert second.processor.image_fingerprint() == third.processor.image_fingerprint()
    assert second.processor.fingerprint() != third.processor.fingerprint() and third.processor.pad_to == 10


def test_folders_that_are_wrong_get_a_sentence(tmp_path: Path) -> None:
    siglip(tmp_path)

    def says(message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)

    kept = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    says("transformers cannot load it")
    (tmp_path / "model.safetensors").unlink()
    says("transformers cannot load it: .*model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(kept["model.safetensors"])
    (tmp_path / "preprocessor_config.json").unlink()
    says("expected preprocessor_config.json")
    (tmp_path / "preprocessor_config.json").write_bytes(kept["preprocessor_config.json"])
    (tmp_path / "tokenizer.json").unlink()
    says("transformers cannot load it")
    (tmp_path / "tokenizer.json").write_bytes(kept["tokenizer.json"])
    state = load_file(tmp_path / "model.safetensors")
    save_file(
        {name: value for name, value in state.items() if "text_model" not in name}, tmp_path / "model.safetensors"
    )
    says("has no 'text_model.*', which a SiglipModel needs")
    (tmp_path / "model.safetensors").write_bytes(kept["model.safetensors"])
    raw = json.loads(kept["config.json"])
    (tmp_path / "config.json").write_text(json.dumps(raw | {"model_type": "no such thing"}))
    says("transformers cannot load it: .*no such thing")
    (tmp_path / "config.json").write_text(json.dumps(raw | {"auto_map": {"AutoModel": "evil.Model"}}))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')")
    load(tmp_path)
    assert not (tmp_path / "touched").exists(), "a folder's code is never run"
