"""Finding families and models by name, model folders that are wrong, and the card."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diptych import models
from diptych.models.clip import CLIP, CLIPConfig
from diptych.processing import ImageConfig
from diptych.towers import TextTransformerConfig, ViTConfig
from diptych.types import Estimate, InputError

CONFIG = CLIPConfig(
    ViTConfig(image_size=16, patch_size=8, width=16, layers=1, heads=2),
    TextTransformerConfig(vocab_size=300, context_length=8, width=16, layers=1, heads=2),
    ImageConfig(size=16),
    embed_dim=8,
)


class Outside(CLIP):
    """A family that Diptych does not know."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return models.save(CLIP.new(CONFIG, ["a car"]), tmp_path / "model")


def test_every_family_keeps_its_promises() -> None:
    for name in models.FAMILIES:
        cls = models.family(name)
        assert issubclass(cls, nn.Module) and models.family_name(cls) == name
        assert all(isinstance(preset, cls.Config) for preset in cls.PRESETS.values()) and cls.PRESETS
        assert isinstance(cls.VERSION, int) and callable(cls.new)


def test_a_family_from_outside_works_where_a_name_does(tmp_path: Path) -> None:
    address = f"{__name__}:Outside"
    assert models.family(address) is Outside and models.family_name(Outside) == address
    outside = Outside.new(CONFIG, ["a car"]).eval()
    models.save(outside, tmp_path / "m")
    loaded = models.load(tmp_path / "m")
    assert type(loaded) is Outside
    pixels = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    assert torch.equal(loaded.encode_image(pixels), outside.encode_image(pixels))


def test_a_folder_from_the_network_may_not_name_code(tmp_path: Path) -> None:
    from diptych.models import folder

    models.save(Outside.new(CONFIG, ["a car"]), tmp_path / "m")
    with pytest.raises(InputError, match="family from outside"):
        folder.load(tmp_path / "m", trusted=False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "clap",
            f"unknown family 'clap'; expected {', '.join(models.FAMILIES)} (did you mean 'clip'?), or 'module:Class'",
        ),
        ("no.such.module:Thing", "cannot import no"),
        ("diptych.models.clip:Clap", "has no 'Clap'"),
        ("json:JSONDecoder", "it has no Config"),
    ],
)
def test_unknown_families(name: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        models.family(name)


def test_unknown_models() -> None:
    with pytest.raises(InputError, match=r"no such folder.*pocket \(did you mean 'pocket'\?\)"):
        models.load("pockett")


def test_a_ready_made_name_is_resolved_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, "small", f"{__name__}:ready_made")
    model = models.load("small")
    assert isinstance(model, CLIP) and not model.training


def ready_made(progress: object) -> CLIP:
    return CLIP.new(CONFIG, ["a car"])


def test_folder_holds_what_was_promised(folder: Path) -> None:
    names = {file.name for file in folder.iterdir()}
    assert names == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "preprocessor_config.json",
        "README.md",
    }
    data = json.loads((folder / "config.json").read_text())
    assert (data["family"], data["version"]) == ("clip", 1)
    assert data["config"]["vision"]["kind"] == "vit" and data["config"]["embed_dim"] == 8


def test_saving_over_a_folder_keeps_other_files(folder: Path) -> None:
    (folder / "metrics.jsonl").write_text("{}\n")
    other = CLIP.new(CONFIG, ["a car"], seed=1)
    models.save(other, folder)
    assert (folder / "metrics.jsonl").is_file()
    assert torch.equal(models.load(folder).text_projection.weight, other.text_projection.weight)
    assert [file.name for file in folder.parent.iterdir()] == ["model"]  # nothing half-written is left


def _edit(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    data = json.loads(file.read_text())
    data.update(changes)
    file.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "clop"}, "unknown family 'clop'"),
        ({"family": 3}, f"family: expected one of {', '.join(models.FAMILIES)}, got 3"),
        ({"family": None}, "expected 'family' (a Diptych model) or 'model_type' (a Hugging Face model)"),
        ({"family": None, "model_type": "bert"}, "image-text-to-text model, got 'bert'"),
        ({"version": 99}, "version: expected 1 for family 'clip', got 99"),
        ({"config": {"embed_dims": 3}}, "unknown key 'embed_dims'"),
        ({"config": []}, "config: expected an object"),
        ({"config": {}}, "does not fit its config"),
    ],
)
def test_wrong_configs_name_file_and_field(changes: dict[str, object], message: str, folder: Path) -> None:
    _edit(folder, **changes)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        models.load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value) or "unknown family" in message


def test_broken_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"model\.safetensors: cannot be read as safetensors"):
        models.load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: cannot be read as safetensors"):
        models.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"has no config\.json"):
        models.load(folder)


def test_a_run_folder_stands_for_the_model_in_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"train": {"steps": 3}, "family": "clip", "model": {}}')
    loaded = models.load(tmp_path)
    assert torch.equal(loaded.text_projection.weight, models.load(folder).text_projection.weight)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="expected a run that is finished; this one has not saved a model in"):
        models.load(tmp_path)


def test_shared_tensors_are_saved_apart(tmp_path: Path) -> None:
    from diptych.models.folder import separate

    weight: Tensor = torch.ones(2, 2)
    apart = separate({"a": weight, "b": weight, "c": weight.t()[:1]})
    assert len({tensor.data_ptr() for tensor in apart.values()}) == 3
    assert all(tensor.is_contiguous() for tensor in apart.values())


def test_card_is_filled_in(tmp_path: Path) -> None:
    model = CLIP.new(CONFIG, ["a car"])
    card = {
        "data": "clipart, 4,000 pairs",
        "license": "cc0-1.0",
        "command": "diptych train clip --data clipart --out run",
        "metrics": {"retrieval/i2t_r@10": Estimate(0.5, 0.45, 0.551234, 400, 0.025), "loss": 1.5},
        "Seconds": 12,
    }
    models.save(model, tmp_path / "m", card)
    text = (tmp_path / "m" / "README.md").read_text()
    count = sum(parameter.numel() for parameter in model.parameters())
    for expected in (
        'license: "cc0-1.0"',
        "tags: [diptych, clip]",
        f"Parameters: {count:,}",
        "clipart, 4,000 pairs",
        "diptych train clip --data clipart --out run",
        "| `retrieval/i2t_r@10` | 0.5 | 0.45 to 0.5512 | 400 | 0.025 |",
        "| `loss` | 1.5 |",
        "- Seconds: 12",
        '"embed_dim": 8',
    ):
        assert expected in text
    models.save(model, tmp_path / "m", "whole text")
    assert (tmp_path / "m" / "README.md").read_text() == "whole text"
    models.save(model, tmp_path / "m")
    assert "Data: not recorded" in (tmp_path / "m" / "README.md").read_text()
