"""Causal language models against transformers' own: logits, padding, cached decoding, blocks between layers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from diptych.blocks import masks
from diptych.processing import TextProcessor
from diptych.towers import DecoderConfig, HFLanguageConfig, build_language, load_language
from diptych.towers.hf_decoder import decoder_config_to_hf, decoder_state_to_hf
from diptych.types import InputError

VOCABULARY = 40
SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
SMALL |= {"intermediate_size": 48, "max_position_embeddings": 64}
LLAMA = SMALL | {"num_key_value_heads": 2, "rms_norm_eps": 1e-5, "tie_word_embeddings": False}
LLAMA |= {"rope_parameters": {"rope_type": "default", "rope_theta": 50_000.0}}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
OURS: dict[str, Any] = {
    "llama": LLAMA,
    "llama, tied with biases": LLAMA | {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    "gpt2": GPT2,
    "gpt2, erf": GPT2 | {"activation_function": "gelu", "n_inner": 40, "layer_norm_epsilon": 1e-3},
}
OTHERS: dict[str, Any] = {
    "gpt_neox": SMALL,
    "opt": SMALL | {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "qwen2": SMALL | {"num_key_value_heads": 2},
    "llama": LLAMA | {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
    "gpt2": GPT2 | {"scale_attn_by_inverse_layer_idx": True},
    "mistral": LLAMA,
}


def checkpoint(folder: Path, name: str, fields: dict[str, Any]) -> Any:
    """A tiny model of transformers with large random weights, saved with a tokenizer."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(name, bos_token_id=1, eos_token_id=2, pad_token_id=0, **fields)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    model.save_pretrained(folder)
    words = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    return model


def loaded(folder: Path) -> Any:
    found = load_language(folder)
    lm = build_language(found.config).eval()
    lm.load_state_dict(found.state_dict)
    return lm


def rows(batch: int = 2, length: int = 7) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("case", OURS)
@torch.no_grad()
def test_a_checkpoint_of_llama_or_gpt2_becomes_our_decoder(tmp_path: Path, case: str) -> None:
    theirs = checkpoint(tmp_path, case.partition(",")[0], OURS[case])
    lm, tokens = loaded(tmp_path), rows()
    assert isinstance(lm.config, DecoderConfig)
    torch.testing.assert_close(lm.logits(lm(lm.embed(tokens))), theirs(tokens).logits, rtol=0, atol=1e-5)
    # padded on the left, as transformers wants it
    keep = torch.tensor([[False, False, True, True, True, True, True], [True] * 7])
    positions = (keep.cumsum(dim=1) - 1).clamp(min=0)
    ours = lm.logits(lm(lm.embed(tokens), mask=masks.causal(7) & masks.padding(keep), positions=positions))
    expected = theirs(tokens, attention_mask=keep.long(), position_ids=positions).logits
    torch.testing.assert_close(ours[keep], expected[keep], rtol=0, atol=1e-5)
    # and back again
    back = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**decoder_config_to_hf(lm.config))
    ).eval()
    back.load_state_dict(decoder_state_to_hf(lm.state_dict(), lm.config))
    torch.testing.assert_close(back(tokens).logits, theirs(tokens).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", ["llama", "gpt2"])
@torch.no_grad()
def test_greedy_texts_are_those_of_transformers(tmp_path: Path, case: str) -> None:
    theirs = checkpoint(tmp_path, case, OURS[case])
    lm, tokens = loaded(tmp_path), rows(3, 4)
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = theirs.generate(tokens, attention_mask=torch.ones_like(tokens), **options)
    cache, said = lm.new_cache(4), tokens
    step = lm.embed(tokens)
    for _ in range(12):
        hidden = lm(step, cache=cache)[:, -1]
        chosen = lm.logits(hidden).argmax(dim=-1, keepdim=True)
        said = torch.cat([said, chosen], dim=1)
        step = lm.embed(chosen)
    assert torch.equal(said, expected)


@pytest.mark.parametrize("case", OTHERS)
@torch.no_grad()
def test_any_other_model_keeps_its_own_layers(tmp_path: Path, case: str) -> None:
    theirs = checkpoint(tmp_path, case, OTHERS[case])
    lm, tokens = loaded(tmp_path), rows()
    assert type(lm).__name__ == "HFLanguage"
    x = lm.embed(tokens)
    whole = lm(x)
    torch.testing.assert_close(lm.logits(whole), theirs(tokens).logits, rtol=0, atol=1e-5)
    assert torch.equal(lm(x, before=lambda i, state: state), whole)
    seen: list[int] = []
    moved = lm(x, before=lambda i, state: (seen.append(i), state + (i == 1))[1])
    assert seen == [0, 1, 2] and not torch.allclose(moved, whole)


KINDS: dict[str, Any] = {
    "llama": DecoderConfig(
        vocab_size=VOCABULARY, context_length=32, width=32, layers=3, heads=4, kv_heads=2, mlp_ratio=1.5,
        activation="swiglu", positions="rotary", normalization="rms", bias=False,
    ),
    "gpt2": DecoderConfig(vocab_size=VOCABULARY, context_length=32, width=32, layers=3, heads=4),
    "post": DecoderConfig(vocab_size=VOCABULARY, context_length=32, width=32, layers=3, heads=4, norm="post"),
    "gpt_neox": HFLanguageConfig(config={"model_type": "gpt_neox", **SMALL}),
    "qwen2": HFLanguageConfig(config={"model_type": "qwen2", **OTHERS["qwen2"]}),
    "opt": HFLanguageConfig(config={"model_type": "opt", **OTHERS["opt"]}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_cache_changes_nothing_and_follows_its_rows(kind: str) -> None:
    torch.manual_seed(0)
    lm, tokens = build_language(KINDS[kind]).eval(), rows(3, 9)
    x = lm.embed(tokens)
    whole = lm(x)
    cache = lm.new_cache(2)
    steps = [lm(x[:, :4], cache=cache), lm(x[:, 4:6], cache=cache), lm(x[:, 6:7], cache=cache)]
    torch.testing.assert_close(torch.cat(steps, dim=1), whole[:, :7], rtol=0, atol=1e-5)
    cache.select(torch.tensor([2, 0, 0, 1]))
    assert cache.length == 7
    rest = lm(x[[2, 0, 0, 1], 7:8], cache=cache)
    torch.testing.assert_close(rest, whole[[2, 0, 0, 1], 7:8], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_prefix_sees_itself_both_ways(kind: str) -> None:
    torch.manual_seed(0)
    lm, x = build_language(KINDS[kind]).eval(), torch.randn(2, 6, 32)
    mask = masks.prefix(torch.tensor([3, 1]), 6)
    changed = x.clone()
    changed[:, 2] = torch.randn(2, 32)
    moved = (lm(changed, mask=mask) - lm(x, mask=mask)).abs().amax(dim=2) > 1e-6
    assert moved.tolist() == [[True] * 6, [False, False, True, True, True, True]]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "post"])
def test_blocks_that_do_nothing_leave_every_bit(kind: str) -> None:
    torch.manual_seed(0)
    lm = build_language(KINDS[kind])
    plain, blocked = lm(lm.embed(rows())), lm(lm.embed(rows()), before=lambda i, state: state)
    assert torch.equal(plain, blocked)
    first = torch.autograd.grad(plain.square().sum(), list(lm.parameters()), allow_unused=True)
    second = torch.autograd.grad(blocked.square().sum(), list(lm.parameters()), allow_unused=True)
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(first, second))


def test_texts_of_a_pretrained_model_start_and_end_with_its_own_tokens(tmp_path: Path) -> None:
    checkpoint(tmp_path, "gpt2", GPT2)
    found = load_language(tmp_path)
    assert (found.bos, found.eos, found.max_length) == ("<s>", "</s>", 64)
    words = TextProcessor.for_language(found.tokenizer_file, 6, found.bos, found.eos)
    tokens, mask = words(["w7 w8", "w9 </s> w3 w4 w5 w6"])
    assert tokens[0].tolist() == [1, 7, 8, 2, 0, 0] and mask[0].sum() == 4
    assert (tokens[1, 0], tokens[1, -1], words.decode(tokens[0][mask[0]].tolist())) == (1, 2, "w7 w8")
    words.save(tmp_path / "..")
    again = TextProcessor.load(tmp_path / "..")
    assert again.fingerprint() == words.fingerprint() and again.eos_id == 2
    with pytest.raises(InputError, match="expected the token '<end>'"):
        TextProcessor.for_language(found.tokenizer_file, 6, "<s>", "<end>")


def test_what_lies_between_documents_is_both_ends(tmp_path: Path) -> None:
    """A model that was tuned to chat has an end of its own, which ends a turn and not a text."""
    checkpoint(tmp_path, "gpt2", GPT2)
    tokenizer = Tokenizer(models.WordLevel({"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}, unk_token=None))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = load_language(tmp_path)
    assert (found.bos, found.eos) == ("<|endoftext|>", "<|endoftext|>")


def test_folders_that_hold_no_language_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a folder with config.json or a \.gguf file"):
        load_language(tmp_path)
    checkpoint(tmp_path, "llama", LLAMA)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="transformers cannot load it"):
        load_language(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="tokenizer.json"):
        load_language(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"family": "clip", "config": {}}))
    with pytest.raises(InputError, match=r"config\.lm"):
        load_language(tmp_path)


def test_a_model_that_scales_its_logits_is_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path, "granite", LLAMA | {"logits_scaling": 3.0})
    with pytest.raises(InputError, match="other logits"):
        load_language(tmp_path)


def test_a_model_whose_head_has_a_bias_is_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path, "phi", SMALL)
    with pytest.raises(InputError, match="other logits"):
        load_language(tmp_path)


def test_texts_are_no_longer_than_a_sliding_window(tmp_path: Path) -> None:
    model = checkpoint(tmp_path, "mistral", LLAMA | {"sliding_window": 9})
    assert load_language(tmp_path).max_length == 9
    lm, tokens = loaded(tmp_path), torch.arange(3, 12)[None]
    with torch.no_grad():
        torch.testing.assert_close(lm.logits(lm(lm.embed(tokens))), model(tokens).logits, rtol=1e-4, atol=1e-4)


def test_a_gguf_file_needs_its_extra_and_is_told_when_broken(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF nonsense")
    with pytest.raises(InputError, match=r"broken\.gguf"):
        load_language(tmp_path)
