"""Gated cross-attention: values by hand, gates that never shut both ways, and what a shut gate still learns."""

import math

import pytest
import torch

from diptych.blocks.srau import SRAU, AttentionOnAttention, MeshedSRAU, gates
from diptych.blocks.transformer import TransformerLayer

WIDTH = 4


def constant(unit, value):
    """The unit with an attention that gives `value` whatever it looks at."""
    attention = unit.attention
    torch.nn.init.zeros_(attention.out_proj.weight)
    attention.out_proj.bias.data = torch.as_tensor(value, dtype=torch.float32)
    return unit


def test_gates_by_hand():
    visual, language = gates(torch.tensor([0.1, 0.2, 0.3, 0.7, 0.8, 0.9]), 0.25)
    assert visual.tolist() == pytest.approx([0, 0, 0.3, 0.7, 0.8, 0.9])
    assert language.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.3, 0, 0])
    assert gates(torch.tensor([0.5]), 0.5) == (torch.tensor([0.0]), torch.tensor([0.0])), "not above the threshold"


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.49])
def test_no_unit_has_both_gates_shut(threshold):
    shares = torch.cat([torch.linspace(0, 1, 10001), torch.tensor([threshold, 1 - threshold])])
    visual, language = gates(shares, threshold)
    assert ((visual > 0) | (language > 0)).all()
    assert threshold == 0 or ((visual == 0).any() and (language == 0).any()), "each of them shuts somewhere"


def test_the_papers_unit_by_hand():
    unit = constant(SRAU(WIDTH, 2, threshold=0.2), [10.0, 10, 10, 10])
    h = torch.tensor([[[0.0, 2.0, -2.0, 1.0]]])
    s = [1 / (1 + math.exp(-value)) for value in h.flatten().tolist()]
    assert s[1] > 0.8 and s[2] < 0.2, "one unit has its language gate shut, one its visual gate"
    wanted = [s[0] * 10, s[1] * 10, (1 - s[2]) * -2, s[3] * 10 + (1 - s[3])]
    assert unit(h, torch.randn(1, 3, WIDTH)).flatten().tolist() == pytest.approx(wanted, abs=1e-5)


def test_the_released_codes_unit_by_hand():
    unit = constant(MeshedSRAU(WIDTH, 2, levels=3, threshold=0.2), [1.0, 2, 3, 4])
    biases = [0.0, 3.0, -3.0]  # alpha = 0.5, above 0.8 (the visual gate is shut), below 0.2 (the language gate is)
    for alpha, bias in zip(unit.alphas, biases):
        torch.nn.init.zeros_(alpha.weight)
        torch.nn.init.constant_(alpha.bias, bias)
    h = torch.tensor([[[8.0, 6.0, 4.0, 2.0]]])
    high = 1 / (1 + math.exp(-3))
    wanted = [(0.5 * x + 0.5 * a + high * x + high * a) / math.sqrt(3) for x, a in zip([8.0, 6, 4, 2], [1.0, 2, 3, 4])]
    levels = tuple(torch.randn(1, 5, WIDTH) for _ in range(3))
    assert unit(h, levels).flatten().tolist() == pytest.approx(wanted, abs=1e-5)
    assert unit.seen["visual_open"] == pytest.approx(2 / 3) and unit.seen["language_open"] == pytest.approx(2 / 3)
    assert float(unit.seen["visual"]) == pytest.approx((0.5 + 0 + high) / 3)


def test_alphas_see_the_state_and_what_each_level_gave():
    torch.manual_seed(0)
    unit, h = MeshedSRAU(WIDTH, 2, levels=2).eval(), torch.randn(1, 3, WIDTH)
    levels = (torch.randn(1, 5, WIDTH), torch.randn(1, 5, WIDTH))
    total = torch.zeros_like(h)
    for alpha, level in zip(unit.alphas, levels):
        attended = unit.attention(unit.norm(h), unit.norm(level))
        share = torch.sigmoid(torch.cat([h, attended], -1) @ alpha.weight.t() + alpha.bias)
        total += torch.where(share > 0.2, share, 0) * h + torch.where(share < 0.8, 1 - share, 0) * attended
    assert torch.allclose(unit(h, levels), total / math.sqrt(2), atol=1e-6)
    with pytest.raises(ValueError, match="shorter"):
        unit(h, levels[:1])


def test_attention_on_attention_by_hand():
    unit = constant(AttentionOnAttention(WIDTH, 2), [1.0, 2, 3, 4])
    weight = torch.zeros(2 * WIDTH, 2 * WIDTH)
    weight[:WIDTH, :WIDTH] = torch.eye(WIDTH)  # i = A + normalised x, g = 0
    weight[:WIDTH, WIDTH:] = torch.eye(WIDTH)
    unit.information.weight.data, unit.information.bias.data = weight, torch.zeros(2 * WIDTH)
    x = torch.tensor([[[1.0, -1.0, 1.0, -1.0]]])  # its norm is itself
    wanted = [1 + 0.5 * 2, -1 + 0.5 * 1, 1 + 0.5 * 4, -1 + 0.5 * 3]
    assert unit(x, torch.randn(1, 3, WIDTH)).flatten().tolist() == pytest.approx(wanted, abs=1e-4)


def test_a_unit_whose_visual_gate_is_shut_still_learns_from_its_language_gate():
    unit = SRAU(WIDTH, 2)
    h = torch.full((1, 1, WIDTH), -5.0, requires_grad=True)
    unit(h, torch.randn(1, 3, WIDTH)).sum().backward()
    assert unit.seen["visual_open"] == 0 and (h.grad != 0).all()


@pytest.mark.parametrize("kind", [SRAU, MeshedSRAU, AttentionOnAttention])
def test_a_projected_memory_gives_the_same_in_a_layer(kind):
    torch.manual_seed(0)
    layer = TransformerLayer(WIDTH, 2).eval()
    layer.cross = kind(WIDTH, 2).eval()
    memory = tuple(torch.randn(2, 5, WIDTH) for _ in range(3)) if kind is MeshedSRAU else torch.randn(2, 5, WIDTH)
    x, mask = (
        torch.randn(2, 3, WIDTH),
        torch.tensor([True, True, False, True, True]).view(1, 1, 1, 5).expand(2, 1, 1, 5),
    )
    plain = layer(x, memory=memory, memory_mask=mask)
    assert torch.allclose(layer(x, memory=layer.cross.key_values(memory), memory_mask=mask), plain, atol=1e-6)
    assert not torch.allclose(layer(x, memory=memory), plain), "the mask counts"
