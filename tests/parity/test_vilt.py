"""Our ViLT against transformers' on tiny random checkpoints, through a saved folder and back."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    ViltConfig,
    ViltForImageAndTextRetrieval,
    ViltForImagesAndTextClassification,
    ViltForMaskedLM,
    ViltForQuestionAnswering,
    ViltModel,
)

import diptych
from diptych.models import fusion
from diptych.models.vilt import ViLT
from diptych.models.vilt_hf import save_hf

TINY = {
    "vocab_size": 99,
    "max_position_embeddings": 12,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "image_size": 16,
    "patch_size": 4,
    "modality_type_vocab_size": 3,
    "initializer_range": 0.2,
}


def _theirs(kind: Any, **more: Any) -> Any:
    torch.manual_seed(0)
    model = kind(ViltConfig(**(TINY | more))).eval()
    for name, parameter in model.named_parameters():  # those that start at zero or one would hide a mistake
        if "norm" in name.lower() or name.endswith(("bias", "cls_token", "position_embeddings")):
            torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.3)
    return model


def _inputs(height: int = 16, width: int = 16) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 5:] = 0
    return {
        "input_ids": torch.randint(99, (2, 7)),
        "attention_mask": mask,
        "pixel_values": torch.randn(2, 3, height, width),
        "pixel_mask": torch.ones(2, height, width, dtype=torch.long),
    }


def _ours(theirs: Any, folder: Path) -> ViLT:
    theirs.save_pretrained(folder)
    model = diptych.load(folder)
    assert isinstance(model, ViLT)
    return model


def _join(model: ViLT, given: dict[str, torch.Tensor], sizes: torch.Tensor | None = None, **more: Any) -> fusion.Fused:
    image, there = model.see(given["pixel_values"], sizes)
    with torch.no_grad():
        return model.join(given["input_ids"], given["attention_mask"].bool(), image, there, **more)


def _same_rows(a: torch.Tensor, b: torch.Tensor) -> None:
    """The same vectors in any order: transformers shuffles patches."""
    assert a.shape == b.shape
    assert torch.cdist(a, b).min(dim=1).values.max() < 1e-4
    assert torch.cdist(b, a).min(dim=1).values.max() < 1e-4


def test_states_and_pooled(tmp_path: Path) -> None:
    theirs = _theirs(ViltModel)
    given = _inputs()
    expected = theirs(**given)
    fused = _join(_ours(theirs, tmp_path), given)
    real = given["attention_mask"].bool()
    torch.testing.assert_close(fused.text[real], expected.last_hidden_state[:, :7][real], atol=1e-5, rtol=0)
    torch.testing.assert_close(fused.pooled, expected.pooler_output, atol=1e-5, rtol=0)
    torch.testing.assert_close(fused.image[:, 0], expected.last_hidden_state[:, 7], atol=1e-5, rtol=0)
    for row in range(2):
        _same_rows(fused.image[row, 1:], expected.last_hidden_state[row, 8:])


def test_pictures_of_other_shapes(tmp_path: Path) -> None:
    theirs = _theirs(ViltModel)
    given = _inputs(24, 20)
    sizes = torch.tensor([[24, 12], [16, 20]])
    for row, (height, width) in enumerate(sizes.tolist()):
        given["pixel_mask"][row, height:] = 0
        given["pixel_mask"][row, :, width:] = 0
    expected = theirs(**given)
    fused = _join(_ours(theirs, tmp_path), given, sizes)
    torch.testing.assert_close(fused.pooled, expected.pooler_output, atol=1e-5, rtol=0)
    real = given["attention_mask"].bool()
    torch.testing.assert_close(fused.text[real], expected.last_hidden_state[:, :7][real], atol=1e-5, rtol=0)


def test_hidden_words(tmp_path: Path) -> None:
    theirs = _theirs(ViltForMaskedLM)
    given = _inputs()
    labels = given["input_ids"].clone()
    labels[:, ::2] = -100
    labels[given["attention_mask"] == 0] = -100
    expected = theirs(**given, labels=labels)
    model = _ours(theirs, tmp_path)
    fused = _join(model, given)
    real = given["attention_mask"].bool()
    logits = model.heads.of("words")(fused.text[real], model.word_embedding())
    torch.testing.assert_close(logits, expected.logits[real], atol=2e-5, rtol=0)
    found = fusion.Terms()
    fusion.guessed(model, fused.text, given["input_ids"], labels != -100, found)
    torch.testing.assert_close(found.losses().total, expected.loss, atol=1e-5, rtol=0)


def test_answers(tmp_path: Path) -> None:
    theirs = _theirs(ViltForQuestionAnswering, num_labels=5)
    given = _inputs()
    answers = torch.tensor([3, 0])
    expected = theirs(**given, labels=torch.nn.functional.one_hot(answers, 5).float())
    model = _ours(theirs, tmp_path)
    image, there = model.see(given["pixel_values"])
    first = torch.arange(2)
    some = fusion.Rows(
        given["input_ids"], given["attention_mask"].bool(), first, first, None, torch.ones(2, dtype=torch.bool), answers
    )
    logits = fusion.answer_logits(model, some, image, there)
    torch.testing.assert_close(logits, expected.logits, atol=1e-5, rtol=0)
    found = fusion.Terms()
    fusion.answered(model, some, image, there, found)
    torch.testing.assert_close(found.losses().total, expected.loss, atol=1e-5, rtol=1e-6)


def test_matching(tmp_path: Path) -> None:
    theirs = _theirs(ViltForImageAndTextRetrieval)
    given = _inputs()
    expected = theirs(**given).logits[:, 0]
    model = _ours(theirs, tmp_path)
    logits = model.heads.of("fits")(_join(model, given).pooled)
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], expected, atol=1e-5, rtol=0)


def test_two_pictures(tmp_path: Path) -> None:
    theirs = _theirs(ViltForImagesAndTextClassification, num_images=2, num_labels=2)
    given = _inputs()
    both = torch.randn(2, 2, 3, 16, 16)
    masks = torch.ones(2, 2, 16, 16, dtype=torch.long)
    answers = torch.tensor([1, 0])
    text = {name: given[name] for name in ("input_ids", "attention_mask")}
    expected = theirs(**text, pixel_values=both, pixel_mask=masks, labels=answers)
    model = _ours(theirs, tmp_path)
    image, there = model.see(both.flatten(0, 1))
    first = torch.arange(2) * 2
    fits = torch.ones(2, dtype=torch.bool)
    some = fusion.Rows(given["input_ids"], given["attention_mask"].bool(), first, first, first + 1, fits, answers)
    torch.testing.assert_close(fusion.answer_logits(model, some, image, there), expected.logits, atol=1e-5, rtol=0)
    found = fusion.Terms()
    fusion.answered(model, some, image, there, found)
    torch.testing.assert_close(found.losses().total, expected.loss, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (ViltForMaskedLM, {}),
        (ViltForQuestionAnswering, {"num_labels": 5}),
        (ViltForImageAndTextRetrieval, {}),
        (ViltForImagesAndTextClassification, {"num_images": 2, "num_labels": 2}),
    ],
)
def test_back(kind: Any, more: dict[str, int], tmp_path: Path) -> None:
    theirs = _theirs(kind, **more)
    model = _ours(theirs, tmp_path / "theirs")
    save_hf(model, tmp_path / "ours")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    kind.from_pretrained(tmp_path / "ours")
