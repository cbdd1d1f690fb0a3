"""Our VisualBERT against transformers' on a tiny random checkpoint, through a saved folder and back."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import VisualBertConfig, VisualBertForPreTraining

import diptych
from diptych.models import fusion
from diptych.models.visualbert import VisualBERT
from diptych.models.visualbert_hf import save_hf
from diptych.objectives.matching import matching
from diptych.towers.regions import Regions


def _theirs() -> Any:
    torch.manual_seed(0)
    config = VisualBertConfig(
        vocab_size=99,
        hidden_size=32,
        visual_embedding_dim=20,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=37,
        max_position_embeddings=24,
        initializer_range=0.2,
    )
    model = VisualBertForPreTraining(config).eval()
    for name, parameter in model.named_parameters():  # what starts at zero or one, or as a copy, would hide a mistake
        if "norm" in name.lower() or name.endswith("bias") or "visual" in name.rsplit(".", 2)[-2]:
            torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.3)
    return model


def test_states_logits_and_losses(tmp_path: Path) -> None:
    theirs = _theirs()
    theirs.save_pretrained(tmp_path)
    model = diptych.load(tmp_path)
    assert isinstance(model, VisualBERT)
    torch.manual_seed(1)
    tokens, features = torch.randint(99, (2, 7)), torch.randn(2, 5, 20)
    words, regions = torch.ones(2, 7, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool)
    words[1, 5:], regions[0, 3:] = False, False
    hidden = torch.zeros(2, 7, dtype=torch.bool)
    hidden[:, 1:4] = True
    labels = torch.full((2, 12), -100)
    labels[:, :7][hidden] = tokens[hidden]
    fits = torch.tensor([True, False])
    expected = theirs(
        input_ids=tokens,
        attention_mask=words.long(),
        visual_embeds=features,
        visual_attention_mask=regions.long(),
        labels=labels,
        sentence_image_labels=(~fits).long(),
        output_hidden_states=True,
    )
    image = model.read_regions(Regions(features, torch.zeros(2, 5, 4), regions))
    fused = model.join(tokens, words, image, regions)
    last = expected.hidden_states[-1]
    torch.testing.assert_close(fused.text[words], last[:, :7][words], atol=1e-5, rtol=0)
    torch.testing.assert_close(fused.image[regions], last[:, 7:][regions], atol=1e-5, rtol=0)
    logits = model.heads.of("words")(fused.text[words], model.word_embedding())
    torch.testing.assert_close(logits, expected.prediction_logits[:, :7][words], atol=3e-5, rtol=0)
    told = model.heads.of("fits")(fused.pooled)
    torch.testing.assert_close(told, expected.seq_relationship_logits.flip(1), atol=1e-5, rtol=0)
    found = fusion.Terms()
    fusion.guessed(model, fused.text, tokens, hidden, found)
    found.add("itm", matching(told, fits))
    torch.testing.assert_close(found.losses().total, expected.loss, atol=1e-5, rtol=1e-6)


def test_back(tmp_path: Path) -> None:
    _theirs().save_pretrained(tmp_path / "theirs")
    save_hf(diptych.load(tmp_path / "theirs"), tmp_path / "ours")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    VisualBertForPreTraining.from_pretrained(tmp_path / "ours")
