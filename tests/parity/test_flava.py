"""Our FLAVA against transformers' on a tiny random checkpoint, through a saved folder and back."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import FlavaConfig, FlavaForPreTraining

import diptych
from diptych.models import fusion
from diptych.models.flava import FLAVA
from diptych.models.flava_hf import save_hf
from diptych.objectives.matching import matching
from diptych.types import Batch

SIZES = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 37, "initializer_range": 0.2}


@pytest.fixture(scope="module")
def theirs() -> Any:
    torch.manual_seed(0)
    config = FlavaConfig(
        image_config=SIZES | {"num_hidden_layers": 2, "image_size": 16, "patch_size": 4, "vocab_size": 11},
        text_config=SIZES | {"num_hidden_layers": 2, "vocab_size": 99, "max_position_embeddings": 12},
        multimodal_config=SIZES | {"num_hidden_layers": 2},
        image_codebook_config={"hidden_size": 8, "vocab_size": 11, "num_blocks_per_group": 1},
        hidden_size=32,
        projection_dim=24,
    )
    model = FlavaForPreTraining(config).eval()
    for name, parameter in model.named_parameters():  # what starts at zero or one would hide a mistake
        if "norm" in name.lower() or name.endswith(("bias", "token", "position_embeddings")):
            torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.3)
    return model


@pytest.fixture(scope="module")
def ours(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> FLAVA:
    folder = tmp_path_factory.mktemp("flava")
    theirs.save_pretrained(folder)
    model = diptych.load(folder)
    assert isinstance(model, FLAVA)
    return model


@pytest.fixture(scope="module")
def given() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    tokens = torch.randint(4, 99, (3, 7))
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[1, 5:] = False
    hidden = torch.zeros(3, 7, dtype=torch.bool)
    hidden[:, 1:4:2] = True
    patches = torch.rand(3, 16) < 0.4
    return {
        "tokens": tokens,
        "mask": mask,
        "hidden": hidden,
        "seen": tokens.masked_fill(hidden, 3),
        "pixels": torch.randn(3, 3, 16, 16),
        "patches": patches,
        "codes": torch.randint(11, (3, 16)),
    }


def _labels(wanted: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    return wanted.masked_fill(~hidden, -100)


def test_pairs(theirs: Any, ours: FLAVA, given: dict[str, torch.Tensor]) -> None:
    fits = torch.tensor([True, False, True])
    expected = theirs(
        input_ids=given["tokens"],
        input_ids_masked=given["seen"],
        attention_mask=given["mask"].long(),
        pixel_values=given["pixels"],
        bool_masked_pos=given["patches"],
        mlm_labels=_labels(given["tokens"], given["hidden"]),
        mim_labels=given["codes"].clone(),
        itm_labels=fits.long(),
        return_loss=True,
    )
    mask, pixels = given["mask"], given["pixels"]
    with torch.no_grad():
        image, text = ours.image(pixels), ours.text(given["tokens"], mask)
        torch.testing.assert_close(image.last, expected.image_embeddings, atol=1e-5, rtol=0)
        torch.testing.assert_close(text.last[mask], expected.text_embeddings[mask], atol=1e-5, rtol=0)
        hidden_image, hidden_text = ours.image(pixels, given["patches"]), ours.text(given["seen"], mask)
        torch.testing.assert_close(hidden_image.last, expected.image_masked_embeddings, atol=1e-5, rtol=0)
        there = torch.ones(3, 17, dtype=torch.bool)
        fused = ours._join(hidden_text.before, mask, hidden_image.before, there)
    joint = expected.multimodal_masked_embeddings  # of the pairs that fit
    torch.testing.assert_close(fused.pooled[fits], joint[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(fused.image[fits], joint[:, 1:18], atol=1e-5, rtol=0)
    torch.testing.assert_close(fused.text[fits][mask[fits]], joint[:, 18:][mask[fits]], atol=1e-5, rtol=0)
    told = ours.heads.of("fits")(fused.pooled)
    torch.testing.assert_close(told, expected.itm_logits, atol=1e-5, rtol=0)
    found = fusion.Terms()
    found.add("itm", matching(told, fits))
    where = given["hidden"] & fits[:, None]
    fusion.guessed_by(ours.heads.of("words"), fused.text, ours.word_embedding(), given["tokens"], where, "text", found)
    codes = given["codes"]
    where = given["patches"] & fits[:, None]
    fusion.guessed_by(ours.patches_paired, fused.image[:, 1:], ours.word_embedding(), codes, where, "image", found)
    parts = found.losses().parts
    info = expected.loss_info
    for name, wanted in (("itm", info.itm), ("text", info.mmm_text), ("image", info.mmm_image)):
        torch.testing.assert_close(parts[f"loss/{name}"], wanted.detach(), atol=1e-5, rtol=1e-6)
    # the contrastive term: of all pairs, because transformers leaves out rows by the labels of matching
    one, two = ours.encode_image(pixels), ours.encode_text(given["tokens"], mask)
    scores = ours.head.scale() * one @ two.t()
    torch.testing.assert_close(scores[fits], expected.contrastive_logits_per_image, atol=1e-4, rtol=1e-5)


def test_contrastive(theirs: Any, ours: FLAVA, given: dict[str, torch.Tensor]) -> None:
    expected = theirs(
        input_ids=given["tokens"],
        attention_mask=given["mask"].long(),
        pixel_values=given["pixels"],
        mim_labels=given["codes"].clone(),
        bool_masked_pos=given["patches"],
        return_loss=True,
    )
    losses = ours.head(ours.encode_image(given["pixels"]), ours.encode_text(given["tokens"], given["mask"]))
    torch.testing.assert_close(losses.total, expected.loss_info.global_contrastive, atol=1e-5, rtol=1e-6)


def test_lone_pictures_and_texts(theirs: Any, ours: FLAVA, given: dict[str, torch.Tensor]) -> None:
    expected = theirs(
        pixel_values=given["pixels"],
        bool_masked_pos=given["patches"],
        mim_labels=given["codes"].clone(),
        return_loss=True,
    )
    found = fusion.Terms()
    states = ours.image(given["pixels"], given["patches"]).last[:, 1:]
    words = ours.word_embedding()
    fusion.guessed_by(ours.patches_alone, states, words, given["codes"], given["patches"], "mim", found)
    torch.testing.assert_close(found.losses().total, expected.loss_info.mim, atol=1e-5, rtol=1e-6)
    expected = theirs(
        input_ids=given["tokens"],
        input_ids_masked=given["seen"],
        attention_mask=given["mask"].long(),
        mlm_labels=_labels(given["tokens"], given["hidden"]),
        return_loss=True,
    )
    found = fusion.Terms()
    states = ours.text(given["seen"], given["mask"]).last
    fusion.guessed_by(ours.words_alone, states, words, given["tokens"], given["hidden"], "mlm", found)
    torch.testing.assert_close(found.losses().total, expected.loss_info.mlm, atol=1e-5, rtol=1e-6)


def test_codes(theirs: Any, ours: FLAVA) -> None:
    torch.manual_seed(2)
    pixels = torch.rand(2, 3, 32, 32)
    assert ours.codebook is not None
    with torch.no_grad():
        torch.testing.assert_close(ours.codebook(pixels), theirs.image_codebook(pixels), atol=1e-5, rtol=1e-5)


def test_back(theirs: Any, ours: FLAVA, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path / "theirs")
    save_hf(ours, tmp_path / "ours")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    FlavaForPreTraining.from_pretrained(tmp_path / "ours")


def test_a_codebook_gives_the_targets(ours: FLAVA, given: dict[str, torch.Tensor]) -> None:
    losses = ours(Batch(ids=["a", "b", "c"], pixels=given["pixels"]))
    assert set(losses.parts) == {"loss/mim"} and losses.chance["loss/mim"] == pytest.approx(2.398, abs=1e-3)  # ln 11
