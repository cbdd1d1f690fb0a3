"""Reading pretrained towers from folders, made here with transformers on tiny random weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models

from diptych.towers import EfficientNetConfig, build_text, build_vision, fingerprint, load_text, load_vision
from diptych.types import InputError

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
PATCHES = {"image_size": 32, "patch_size": 8, **SMALL}
IMAGES = {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}}
IMAGES |= {"resample": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}


def save(model: Any, folder: Path, **files: dict[str, Any] | list[Any]) -> Path:
    """A Hugging Face folder: the model, a preprocessor, a tokenizer, and further JSON files."""
    model.save_pretrained(folder)
    Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a")).save(str(folder / "tokenizer.json"))
    for name, content in {"preprocessor_config": IMAGES, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def vision_tower(folder: Path, **options: Any) -> Any:
    pretrained = load_vision(folder, **options)
    tower = build_vision(pretrained.config).eval()
    tower.load_state_dict(pretrained.state_dict)
    return tower


def text_tower(folder: Path, **options: Any) -> Any:
    pretrained = load_text(folder, **options)
    tower = build_text(pretrained.config).eval()
    tower.load_state_dict(pretrained.state_dict)
    return tower


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def words() -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randint(2, 40, (2, 6), generator=torch.Generator().manual_seed(0))
    return tokens, torch.arange(6) < torch.tensor([6, 4])[:, None]


def test_vision_folder(tmp_path: Path, pixels: torch.Tensor) -> None:
    theirs = transformers.Dinov2Model(transformers.Dinov2Config(**PATCHES)).eval()
    folder = save(theirs, tmp_path)
    assert torch.equal(vision_tower(folder)(pixels).pooled, theirs(pixels).pooler_output)
    assert torch.equal(vision_tower(folder, pooling="mean")(pixels).tokens, theirs(pixels).last_hidden_state[:, 1:])
    assert load_vision(folder).image == {
        "size": 32,
        "resize": "crop",
        "interpolation": "bilinear",
        "short_side": 40,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
    }


def test_without_weights_for_its_pooler_the_class_token_is_taken(tmp_path: Path, pixels: torch.Tensor) -> None:
    """A classifier's checkpoint has none; a fresh random one would be used in silence otherwise."""
    theirs = transformers.ViTForImageClassification(transformers.ViTConfig(**PATCHES)).eval()
    folder = save(theirs, tmp_path / "classifier")
    assert load_vision(folder).config.pooling == "cls"
    assert torch.equal(vision_tower(folder)(pixels).pooled, theirs.vit(pixels).last_hidden_state[:, 0])
    with_pooler = transformers.ViTModel(transformers.ViTConfig(**PATCHES)).eval()
    folder = save(with_pooler, tmp_path / "pooler")
    assert torch.equal(vision_tower(folder)(pixels).pooled, with_pooler(pixels).pooler_output)


def test_one_tower_of_a_clip_folder(
    tmp_path: Path, pixels: torch.Tensor, words: tuple[torch.Tensor, torch.Tensor]
) -> None:
    ids = {"vocab_size": 41, "eos_token_id": 40, "bos_token_id": 0, "pad_token_id": 1}
    config = transformers.CLIPConfig(text_config={**SMALL, **ids}, vision_config=PATCHES)
    theirs = transformers.CLIPModel(config).eval()
    folder = save(theirs, tmp_path)
    assert torch.equal(vision_tower(folder)(pixels).pooled, theirs.vision_model(pixels).pooler_output)
    tokens, mask = words
    expected = theirs.text_model(tokens, attention_mask=mask.long()).pooler_output
    assert torch.equal(text_tower(folder, pooling="pooler")(tokens, mask).pooled, expected)


def test_half_precision_checkpoints_load_as_float32(tmp_path: Path) -> None:
    theirs = transformers.Dinov2Model(transformers.Dinov2Config(**PATCHES)).half()
    state = load_vision(save(theirs, tmp_path)).state_dict
    assert {value.dtype for value in state.values()} == {torch.float32}


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("nested", [False, True])
def test_sentence_transformers_folder(
    tmp_path: Path, words: tuple[torch.Tensor, torch.Tensor], pooling: str, nested: bool
) -> None:
    theirs = transformers.BertModel(transformers.BertConfig(vocab_size=40, **SMALL)).eval()
    path = "0_Transformer" if nested else ""
    modules = [{"path": path, "type": "sentence_transformers.models.Transformer"}]
    modules += [{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]
    modules += [{"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]
    modes = {"pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_cls_token": pooling == "cls"}
    save(theirs, tmp_path / path, sentence_bert_config={"max_seq_length": 77})
    for name, content in {"modules.json": modules, "1_Pooling/config.json": modes}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    pretrained = load_text(tmp_path)
    assert pretrained.config.pooling == pooling
    assert pretrained.max_length == 77
    assert pretrained.tokenizer_file == tmp_path / path / "tokenizer.json"
    tokens, mask = words
    states = theirs(tokens, attention_mask=mask.long()).last_hidden_state
    expected = states[:, 0] if pooling == "cls" else torch.stack([s[m].mean(dim=0) for s, m in zip(states, mask)])
    torch.testing.assert_close(text_tower(tmp_path)(tokens, mask).pooled, expected, rtol=0, atol=1e-6)


def test_plain_text_folder_is_averaged_and_its_length_is_found(tmp_path: Path) -> None:
    model = transformers.BertModel(transformers.BertConfig(vocab_size=40, max_position_embeddings=64, **SMALL))
    folder = save(model, tmp_path)
    assert (load_text(folder).config.pooling, load_text(folder).max_length) == ("mean", 64)
    save(model, tmp_path, tokenizer_config={"model_max_length": 50})
    assert load_text(folder).max_length == 50
    save(model, tmp_path, tokenizer_config={"model_max_length": int(1e30)})
    assert load_text(folder).max_length == 64


def port_state() -> dict[str, torch.Tensor]:
    """Random weights under the names of the EfficientNet-PyTorch port, written out from its layout."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}

    def conv(name: str, *shape: int) -> None:
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) / torch.Size(shape[1:]).numel() ** 0.5

    def norm(name: str, width: int) -> None:
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{leaf}"] = torch.rand(width, generator=generator) + 0.5
        state[f"{name}.num_batches_tracked"] = torch.tensor(0)

    conv("_conv_stem", 32, 3, 3, 3)
    norm("_bn0", 32)
    stages = [
        (1, 16, 1, 3),
        (6, 24, 2, 3),
        (6, 40, 2, 5),
        (6, 80, 3, 3),
        (6, 112, 3, 5),
        (6, 192, 4, 5),
        (6, 320, 1, 3),
    ]
    inputs, number = 32, 0
    for expand, outputs, depth, kernel in stages:
        for _ in range(depth):
            hidden, block = inputs * expand, f"_blocks.{number}."
            if expand > 1:
                conv(f"{block}_expand_conv", hidden, inputs, 1, 1)
                norm(f"{block}_bn0", hidden)
            conv(f"{block}_depthwise_conv", hidden, 1, kernel, kernel)
            norm(f"{block}_bn1", hidden)
            conv(f"{block}_project_conv", outputs, hidden, 1, 1)
            norm(f"{block}_bn2", outputs)
            inputs, number = outputs, number + 1
    conv("_conv_head", 1280, 320, 1, 1)
    norm("_bn1", 1280)
    state["_fc.weight"], state["_fc.bias"] = torch.randn(10, 1280, generator=generator), torch.zeros(10)
    return state


def test_efficientnet_checkpoint_of_the_port(tmp_path: Path) -> None:
    state = port_state()
    torch.save(state, tmp_path / "lite0.pth")
    pretrained = load_vision(tmp_path)
    assert pretrained.config == EfficientNetConfig(lite=True)
    assert torch.equal(pretrained.classifier, state["_fc.weight"])
    assert pretrained.image["size"] == 224
    assert pretrained.image["mean"] == pytest.approx([127 / 255] * 3)
    tower = build_vision(pretrained.config)
    tower.load_state_dict(pretrained.state_dict)
    first, second = tower.trunk.blocks[0], tower.trunk.blocks[1]
    assert torch.equal(first.depthwise.norm.running_mean, state["_blocks.0._bn1.running_mean"])
    assert torch.equal(second.expand.norm.weight, state["_blocks.1._bn0.weight"])
    assert torch.equal(second.project.norm.bias, state["_blocks.1._bn2.bias"])
    assert torch.equal(tower.trunk.head.norm.running_var, state["_bn1.running_var"])


def test_folders_that_hold_no_tower_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a folder with config.json"):
        load_vision(tmp_path)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="found neither"):
        load_vision(tmp_path)
    (tmp_path / "other.pth").write_bytes(b"cut short")
    with pytest.raises(InputError, match=r"other\.pth: cannot be read as a PyTorch checkpoint"):
        load_vision(tmp_path)
    with pytest.raises(InputError, match="config.json"):
        load_text(tmp_path)
    model = transformers.BertModel(transformers.BertConfig(vocab_size=40, **SMALL))
    folder = save(model, tmp_path / "bert", modules=[{"path": "", "type": "sentence_transformers.models.Dense"}])
    with pytest.raises(InputError, match="got Dense"):
        load_text(folder)
    (folder / "modules.json").write_text("[{}]")
    with pytest.raises(InputError, match=r"modules\.json: expected a list of modules"):
        load_text(folder)
    (folder / "modules.json").unlink()
    with pytest.raises(InputError, match="lacks 2 tensors of the model, e.g. pooler.dense.bias"):
        load_text(save(transformers.BertModel(model.config, add_pooling_layer=False), folder), pooling="pooler")
    (folder / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(InputError, match="transformers cannot load it"):
        load_text(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="expected a tokenizer.json"):
        load_text(folder)


def test_fingerprint_sees_values_names_and_types() -> None:
    linear = torch.nn.Linear(2, 2)
    first = fingerprint(linear)
    assert fingerprint(torch.nn.Sequential(linear)) != first
    assert fingerprint(linear.double()) != first
    linear.float()
    assert fingerprint(linear) == first
    with torch.no_grad():
        linear.bias[0] += 1
    assert fingerprint(linear) != first
