"""Llama's and GPT-2's checkpoints as our `Decoder`: configs and weights, there and back.

Names on the Hugging Face side are those inside a `LlamaForCausalLM` or a `GPT2LMHeadModel`.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diptych.towers.configs import DecoderConfig
from diptych.types import InputError

_LLAMA = {
    "model.embed_tokens.weight": "token_embedding.weight",
    "model.norm.weight": "final_norm.weight",
    "lm_head.weight": "output.weight",
}
_LLAMA_LAYER = {
    "self_attn.q_proj": "attention.q_proj",
    "self_attn.k_proj": "attention.k_proj",
    "self_attn.v_proj": "attention.v_proj",
    "self_attn.o_proj": "attention.out_proj",
    "input_layernorm": "norm1",
    "post_attention_layernorm": "norm2",
    "mlp.gate_proj": "mlp.gate",
    "mlp.up_proj": "mlp.fc1",
    "mlp.down_proj": "mlp.fc2",
}
_GPT2 = {
    "transformer.wte.weight": "token_embedding.weight",
    "transformer.wpe.weight": "positions",
    "transformer.ln_f.weight": "final_norm.weight",
    "transformer.ln_f.bias": "final_norm.bias",
    "lm_head.weight": "output.weight",
}
_GPT2_LAYER = {
    "attn.c_proj": "attention.out_proj",
    "ln_1": "norm1",
    "ln_2": "norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_QKV = ("attention.q_proj", "attention.k_proj", "attention.v_proj")
_GPT2_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}


def decoder_config_from_hf(config: Any) -> DecoderConfig | None:
    """The `DecoderConfig` of a transformers config object; None where our decoder would compute something else.

    Dropout is not taken over: it is 0 until a family asks for some.
    """
    if config.model_type == "llama":
        return _llama_config(config)
    if config.model_type == "gpt2":
        return _gpt2_config(config)
    return None


def _llama_config(config: Any) -> DecoderConfig | None:
    rope = config.rope_parameters or {}
    width, heads, hidden = config.hidden_size, config.num_attention_heads, config.intermediate_size
    fits = (
        rope.get("rope_type", "default") == "default"
        and rope.get("partial_rotary_factor", 1.0) == 1.0
        and config.hidden_act in ("silu", "swish")
        and config.attention_bias == config.mlp_bias
        and (config.head_dim or width // heads) * heads == width
        and round(width * (hidden / width)) == hidden
    )
    if not fits:
        return None
    return DecoderConfig(
        vocab_size=config.vocab_size,
        context_length=config.max_position_embeddings,
        width=width,
        layers=config.num_hidden_layers,
        heads=heads,
        kv_heads=config.num_key_value_heads,
        mlp_ratio=hidden / width,
        activation="swiglu",
        positions="rotary",
        rope_theta=float(rope.get("rope_theta", 10_000.0)),
        normalization="rms",
        norm_eps=config.rms_norm_eps,
        bias=config.attention_bias,
        tied=config.tie_word_embeddings,
    )


def _gpt2_config(config: Any) -> DecoderConfig | None:
    width = config.n_embd
    hidden = config.n_inner or 4 * width
    activation: Any = _GPT2_ACTIVATIONS.get(config.activation_function)
    fits = (
        activation is not None
        and config.scale_attn_weights
        and not config.scale_attn_by_inverse_layer_idx
        and not config.add_cross_attention
        and round(width * (hidden / width)) == hidden
    )
    if not fits:
        return None
    return DecoderConfig(
        vocab_size=config.vocab_size,
        context_length=config.n_positions,
        width=width,
        layers=config.n_layer,
        heads=config.n_head,
        mlp_ratio=hidden / width,
        activation=activation,
        norm_eps=config.layer_norm_epsilon,
        tied=config.tie_word_embeddings,
    )


def decoder_config_to_hf(config: DecoderConfig) -> dict[str, Any]:
    """The other way: a `config.json` of Llama or GPT-2. Raises `InputError` where neither is such a decoder."""
    shared = {"vocab_size": config.vocab_size, "tie_word_embeddings": config.tied}
    hidden = round(config.width * config.mlp_ratio)
    if (config.positions, config.activation, config.normalization, config.norm) == ("rotary", "swiglu", "rms", "pre"):
        return shared | {
            "model_type": "llama",
            "max_position_embeddings": config.context_length,
            "hidden_size": config.width,
            "intermediate_size": hidden,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.kv_heads or config.heads,
            "rms_norm_eps": config.norm_eps,
            "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
            "attention_bias": config.bias,
            "mlp_bias": config.bias,
        }
    names = {"gelu_tanh": "gelu_new", "gelu": "gelu"}
    plain = (config.positions, config.normalization, config.norm, config.bias) == ("learned", "layer", "pre", True)
    if not plain or config.activation not in names or config.kv_heads not in (None, config.heads):
        raise InputError(
            "DecoderConfig: expected Llama (rotary, swiglu, rms) or GPT-2 (learned, gelu, layer, bias), pre-norm both, "
            f"got {config.positions}, {config.activation}, {config.normalization}, {config.norm}, bias {config.bias}"
        )
    return shared | {
        "model_type": "gpt2",
        "n_positions": config.context_length,
        "n_embd": config.width,
        "n_inner": hidden,
        "n_layer": config.layers,
        "n_head": config.heads,
        "activation_function": names[config.activation],
        "layer_norm_epsilon": config.norm_eps,
    }


def decoder_state_from_hf(state: Mapping[str, Tensor], config: DecoderConfig) -> dict[str, Tensor]:
    """The state dict of our `Decoder` from that of a `LlamaForCausalLM` or a `GPT2LMHeadModel`."""
    gpt2 = config.positions == "learned"
    names, layer_names = (_GPT2, _GPT2_LAYER) if gpt2 else (_LLAMA, _LLAMA_LAYER)
    mapped = {}
    for key, value in state.items():
        if key == "lm_head.weight" and config.tied:
            continue
        match = re.fullmatch(r"(?:model\.layers|transformer\.h)\.(\d+)\.(.+)\.(\w+)", key)
        if match is None:
            mapped[names[key]] = value
            continue
        number, part, leaf = match.groups()
        if gpt2 and leaf == "weight" and part.startswith(("attn", "mlp")):
            value = value.t()  # GPT-2's linear layers are kept the other way round
        if part == "attn.c_attn":
            for name, third in zip(_QKV, value.chunk(3)):
                mapped[f"layers.{number}.{name}.{leaf}"] = third.contiguous()
        else:
            mapped[f"layers.{number}.{layer_names[part]}.{leaf}"] = value.contiguous()
    return mapped


def decoder_state_to_hf(state: Mapping[str, Tensor], config: DecoderConfig) -> dict[str, Tensor]:
    """The other way, `lm_head` included where it is tied."""
    gpt2 = config.positions == "learned"
    names = {ours: theirs for theirs, ours in (_GPT2 if gpt2 else _LLAMA).items()}
    layer_names = {ours: theirs for theirs, ours in (_GPT2_LAYER if gpt2 else _LLAMA_LAYER).items()}
    prefix = "transformer.h" if gpt2 else "model.layers"
    mapped = {}
    for key, value in state.items():
        match = re.fullmatch(r"layers\.(\d+)\.(.+)\.(\w+)", key)
        if match is None:
            mapped[names[key]] = value
            continue
        number, part, leaf = match.groups()
        theirs = layer_names.get(part, "attn.c_attn")
        if gpt2 and part in _QKV:
            if part != _QKV[0]:
                continue
            value = torch.cat([state[f"layers.{number}.{name}.{leaf}"] for name in _QKV])
        if gpt2 and leaf == "weight" and theirs.startswith(("attn", "mlp")):
            value = value.t()
        mapped[f"{prefix}.{number}.{theirs}.{leaf}"] = value.contiguous()
    if config.tied:
        mapped["lm_head.weight"] = state["token_embedding.weight"]
    return mapped
