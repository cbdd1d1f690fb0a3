"""The convolutional trunks: published sizes, shapes, pooling, and what training alone does."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from diptych.blocks.efficientnet import EfficientNet, conv_norm, scale_width
from diptych.blocks.modified_resnet import AttentionPool, ModifiedResNet
from diptych.blocks.resnet import ResNet


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("trunk", "published", "classifier"),
    [
        (lambda: EfficientNet(), 5_288_548, 1_281_000),  # B0
        (lambda: EfficientNet(width_multiplier=1.2, depth_multiplier=1.4), 12_233_232, 1_537_000),  # B3
        (lambda: EfficientNet(lite=True), 4_652_008, 1_281_000),  # Lite0
        (lambda: EfficientNet(lite=True, width_multiplier=1.2, depth_multiplier=1.4), 8_197_096, 1_281_000),  # Lite3
        (lambda: ResNet(), 25_557_032, 2_049_000),  # ResNet-50
        (lambda: ResNet((2, 2, 2, 2), block="basic"), 11_689_512, 513_000),  # ResNet-18
        (lambda: ModifiedResNet(), 38_316_896, 0),  # the visual part of CLIP's RN50
    ],
)
def test_parameters_are_as_many_as_published(trunk: object, published: int, classifier: int) -> None:
    with torch.device("meta"):
        assert parameters(trunk()) == published - classifier


@pytest.mark.parametrize(
    ("trunk", "map_width"),
    [
        (EfficientNet(lite=True, width_multiplier=0.25, depth_multiplier=0.5), 1280),
        (ResNet((1, 1, 1, 1), stem_width=8), 256),
        (ModifiedResNet((1, 1, 1, 1), stem_width=8, heads=4, output_width=24, image_size=64), 256),
    ],
)
def test_map_is_a_32nd_of_the_picture(trunk: nn.Module, map_width: int) -> None:
    output = trunk.eval()(torch.randn(2, 3, 64, 96))
    assert output.map.shape == (2, map_width, 2, 3)
    assert output.pooled.shape == (2, trunk.width)
    if not isinstance(trunk, ModifiedResNet):
        torch.testing.assert_close(output.pooled, output.map.flatten(2).mean(dim=2))


def test_a_short_training_reaches_the_statistics_that_evaluation_uses() -> None:
    torch.manual_seed(0)
    layer, pixels = conv_norm(3, 8, 3, stride=2).train(), 5 + torch.randn(16, 3, 32, 32)
    with torch.no_grad():
        for _ in range(60):
            trained = layer(pixels)
        torch.testing.assert_close(layer.eval()(pixels), trained, rtol=0.02, atol=0.02)


def test_attention_pool_equals_multi_head_attention_with_the_mean_as_query() -> None:
    """As CLIP's code calls it: one query, the mean; keys and values are the mean and every cell, all with positions."""
    torch.manual_seed(0)
    pool, map = AttentionPool(16, 4, 6, side=3), torch.randn(2, 16, 3, 3)
    cells = map.flatten(2).permute(2, 0, 1)
    cells = torch.cat([cells.mean(dim=0, keepdim=True), cells]) + pool.positions[:, None]
    reference = nn.MultiheadAttention(16, 4)
    attention = pool.attention
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    reference.load_state_dict(
        {
            "in_proj_weight": torch.cat([p.weight for p in projections]),
            "in_proj_bias": torch.cat([p.bias for p in projections]),
            "out_proj.weight": torch.eye(16),
            "out_proj.bias": torch.zeros(16),
        }
    )
    heads, _ = reference(cells[:1], cells, cells)
    expected = F.linear(heads[0], attention.out_proj.weight, attention.out_proj.bias)
    torch.testing.assert_close(pool(map), expected, rtol=0, atol=1e-5)
    assert pool(torch.randn(2, 16, 4, 2)).shape == (2, 6)


def test_residual_branches_of_clips_resnet_start_at_zero() -> None:
    torch.manual_seed(0)
    trunk = ModifiedResNet((2, 1), stem_width=8, heads=4, output_width=8, image_size=32).eval()
    second = trunk.stages[0][1]
    x = torch.rand(1, 32, 4, 4)
    torch.testing.assert_close(second(x), x)


def test_drop_connect_skips_whole_samples_in_training() -> None:
    torch.manual_seed(0)
    trunk = EfficientNet(lite=True, width_multiplier=0.25, drop_connect=0.9)
    assert [block.drop for block in trunk.blocks][0] == 0
    last = [block for block in trunk.blocks if block.residual][-1]
    x = torch.randn(64, last.project.conv.out_channels, 4, 4)
    last.train()
    skipped = [torch.equal(out, row) for out, row in zip(last(x), x, strict=True)]
    assert 0 < sum(skipped) < 64
    last.eval()
    assert not any(torch.equal(out, row) for out, row in zip(last(x), x, strict=True))


def test_widths_scale_in_steps_of_eight() -> None:
    assert [scale_width(32, m) for m in (1.0, 1.2, 1.4, 0.3)] == [32, 40, 48, 16]
