"""Attention and the layer: against torch's own modules, and by what they must not see."""

import pytest
import torch
import torch.nn.functional as F

from diptych.blocks import masks
from diptych.blocks.attention import Attention
from diptych.blocks.transformer import QuickGELU, Transformer, TransformerLayer

CLOSE = {"rtol": 0, "atol": 1e-5}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_cross_attention_equals_multi_head_attention() -> None:
    torch.manual_seed(0)
    ours = Attention(16, 4, memory_width=24, output_width=20)
    x, memory = random(2, 3, 16), random(2, 5, 24, seed=1)
    keep = torch.tensor([[True] * 5, [True, True, False, True, False]])
    expected, _ = F.multi_head_attention_forward(
        x.transpose(0, 1),
        memory.transpose(0, 1),
        memory.transpose(0, 1),
        embed_dim_to_check=16,
        num_heads=4,
        in_proj_weight=None,
        in_proj_bias=torch.cat([ours.q_proj.bias, ours.k_proj.bias, ours.v_proj.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=ours.out_proj.weight,
        out_proj_bias=ours.out_proj.bias,
        training=False,
        key_padding_mask=~keep,
        need_weights=False,
        use_separate_proj_weight=True,
        q_proj_weight=ours.q_proj.weight,
        k_proj_weight=ours.k_proj.weight,
        v_proj_weight=ours.v_proj.weight,
    )
    assert expected.shape == (3, 2, 20)
    torch.testing.assert_close(ours(x, memory, mask=masks.padding(keep)), expected.transpose(0, 1), **CLOSE)


def test_causal_flag_equals_causal_mask() -> None:
    torch.manual_seed(0)
    attention, x = Attention(16, 2), random(2, 6, 16)
    torch.testing.assert_close(attention(x, causal=True), attention(x, mask=masks.causal(6)), **CLOSE)
    assert not torch.allclose(attention(x, causal=True), attention(x))


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_layer_equals_torch_encoder_layer(norm: str) -> None:
    torch.manual_seed(0)
    ours = TransformerLayer(16, 4, mlp_ratio=3.0, norm=norm).eval()
    theirs = torch.nn.TransformerEncoderLayer(
        16, 4, 48, activation="gelu", batch_first=True, norm_first=norm == "pre"
    ).eval()
    attention, state = ours.attention, ours.state_dict()
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": torch.cat([p.weight for p in projections]),
            "self_attn.in_proj_bias": torch.cat([p.bias for p in projections]),
            "self_attn.out_proj.weight": state["attention.out_proj.weight"],
            "self_attn.out_proj.bias": state["attention.out_proj.bias"],
            "linear1.weight": state["mlp.fc1.weight"],
            "linear1.bias": state["mlp.fc1.bias"],
            "linear2.weight": state["mlp.fc2.weight"],
            "linear2.bias": state["mlp.fc2.bias"],
            **{f"norm{i}.{leaf}": state[f"norm{i}.{leaf}"] for i in (1, 2) for leaf in ("weight", "bias")},
        }
    )
    x = random(2, 5, 16)
    torch.testing.assert_close(ours(x), theirs(x), **CLOSE)


def test_causal_stack_does_not_see_ahead() -> None:
    torch.manual_seed(0)
    stack = Transformer(16, 2, 2)
    x = random(1, 6, 16)
    changed = x.clone()
    changed[:, 4] = random(16, seed=1)
    before, after = stack(x, causal=True), stack(changed, causal=True)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])
    assert not torch.allclose(stack(x)[:, :4], stack(changed)[:, :4])


def test_quick_gelu_by_hand() -> None:
    assert QuickGELU()(torch.tensor([1.0])).item() == pytest.approx(1 / (1 + 2.718281828**-1.702), abs=1e-6)


def test_weights_start_as_in_clip() -> None:
    torch.manual_seed(0)
    stack = Transformer(128, 8, 4)
    layer = stack.layers[3]
    expected = {
        "attention.q_proj": 128**-0.5,
        "attention.v_proj": 128**-0.5,
        "attention.out_proj": 128**-0.5 * 16**-0.5,
        "mlp.fc1": 256**-0.5,
        "mlp.fc2": 128**-0.5 * 16**-0.5,
    }
    for name, std in expected.items():
        linear = layer.get_submodule(name)
        assert linear.weight.std().item() == pytest.approx(std, rel=0.05), name
        assert not linear.bias.any()


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    layer, x = TransformerLayer(16, 2, dropout=0.5), random(1, 4, 16)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
