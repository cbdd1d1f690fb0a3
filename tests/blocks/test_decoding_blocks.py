"""Rotary positions against transformers', grouped heads against repeated ones, and the cache of keys and values."""

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb, repeat_kv

from diptych.blocks import masks
from diptych.blocks.attention import Attention
from diptych.blocks.cache import KVCache, LayerCache
from diptych.blocks.rotary import rotate, rotation


def test_rotary_positions_are_those_of_transformers() -> None:
    from transformers import LlamaConfig

    rope = {"rope_type": "default", "rope_theta": 50_000.0}
    config = LlamaConfig(hidden_size=32, num_attention_heads=2, rope_parameters=rope)
    queries, keys, positions = (
        torch.randn(2, 2, 5, 16),
        torch.randn(2, 2, 5, 16),
        torch.tensor([[0, 1, 2, 3, 4], [7] * 5]),
    )
    cos, sin = LlamaRotaryEmbedding(config)(queries, positions)
    expected = apply_rotary_pos_emb(queries, keys, cos, sin)
    by = rotation(positions, 16, 50_000.0)
    torch.testing.assert_close((rotate(queries, by), rotate(keys, by)), expected, rtol=0, atol=1e-6)


def test_only_distances_count() -> None:
    """Products of rotated vectors depend on the difference of their positions."""
    query, key = torch.randn(1, 1, 1, 8, dtype=torch.float64), torch.randn(1, 1, 1, 8, dtype=torch.float64)
    products = [
        (rotate(query, rotation(torch.tensor([[a]]), 8)) * rotate(key, rotation(torch.tensor([[b]]), 8))).sum()
        for a, b in ((3, 1), (12, 10))
    ]
    assert products[0].item() == pytest.approx(products[1].item(), rel=1e-5)


@pytest.mark.parametrize("length", [1, 4])
def test_heads_that_share_keys_are_repeated_ones(length: int) -> None:
    torch.manual_seed(0)
    grouped, whole = Attention(24, 6, kv_heads=2), Attention(24, 6)
    state = grouped.state_dict()
    for name in ("k_proj", "v_proj"):
        state[f"{name}.weight"] = repeat_kv(state[f"{name}.weight"].view(1, 2, 4, 24), 3).reshape(24, 24)
        state[f"{name}.bias"] = repeat_kv(state[f"{name}.bias"].view(1, 2, 4, 1), 3).reshape(24)
    whole.load_state_dict(state)
    x, memory = torch.randn(2, length, 24), torch.randn(2, 5, 24)
    mask = masks.padding(torch.tensor([[1, 1, 1, 0, 0], [1] * 5]).bool())
    torch.testing.assert_close(grouped(x, memory, mask=mask), whole(x, memory, mask=mask), rtol=0, atol=1e-6)
    torch.testing.assert_close(grouped(x, causal=True), whole(x, causal=True), rtol=0, atol=1e-6)


def test_a_cache_grows_and_keeps_what_it_has() -> None:
    keys, values = torch.randn(2, 3, 11, 4), torch.randn(2, 3, 11, 4)
    cache = LayerCache(2)
    for start, end in ((0, 1), (1, 4), (4, 5), (5, 11)):
        kept = cache.append(keys[:, :, start:end], values[:, :, start:end])
        assert torch.equal(kept[0], keys[:, :, :end]) and torch.equal(kept[1], values[:, :, :end])
    assert (cache.length, cache.capacity) == (11, 16)


def test_rows_of_a_cache_are_chosen_dropped_and_repeated() -> None:
    cache, rows = KVCache(2, 4), torch.tensor([2, 0, 2])
    cache.select(rows)  # an empty one has none
    keys = torch.randn(3, 1, 3, 4)
    for layer in cache:
        layer.append(keys, -keys)
    cache.select(rows)
    more = torch.randn(3, 1, 2, 4)
    for layer in cache:
        kept = layer.append(more, -more)
        assert torch.equal(kept[0], torch.cat([keys[rows], more], dim=2)) and torch.equal(kept[1], -kept[0])
    assert cache.length == 5


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_attention_learns_in_any_precision(dtype: torch.dtype) -> None:
    attention, x = Attention(8, 2).to(dtype), torch.randn(2, 3, 8, dtype=dtype, requires_grad=True)
    attention(x).square().sum().backward()
    assert x.grad is not None and x.grad.dtype == dtype and attention.q_proj.weight.grad is not None
