import torch
import torch.nn.functional as F

from diptych.blocks import masks
from diptych.blocks.co_attention import CoAttention


def _layer() -> CoAttention:
    torch.manual_seed(0)
    layer = CoAttention(8, 12, 6, 2, mlp_ratio=2.0, image_mlp_ratio=1.0).eval()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def _by_hand(own: torch.Tensor, other: torch.Tensor, part: torch.nn.Module) -> torch.Tensor:
    """The equations, one head after the other, with plain products."""
    weights = dict(part.named_parameters())

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(dim=-1, keepdim=True) + 1e-12).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    q, k, v = linear(own, "attention.q_proj"), linear(other, "attention.k_proj"), linear(other, "attention.v_proj")
    heads = []
    for head in range(2):
        part_of = slice(3 * head, 3 * head + 3)
        scores = q[..., part_of] @ k[..., part_of].transpose(1, 2) / 3**0.5
        heads.append(scores.softmax(dim=-1) @ v[..., part_of])
    x = norm(own + linear(torch.cat(heads, dim=-1), "attention.out_proj"), "norm1")
    return norm(x + linear(F.gelu(linear(x, "mlp.fc1")), "mlp.fc2"), "norm2")


def test_each_stream_gets_what_the_other_shows() -> None:
    layer = _layer()
    text, image = torch.randn(2, 5, 8), torch.randn(2, 4, 12)
    with torch.no_grad():
        found = layer(text, image)
        torch.testing.assert_close(found.text, _by_hand(text, image, layer.text), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.image, _by_hand(image, text, layer.image), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_masked_positions_of_the_other_stream_are_not_seen() -> None:
    layer = _layer()
    text, image = torch.randn(1, 5, 8), torch.randn(1, 4, 12)
    words, regions = torch.tensor([[True, True, True, False, False]]), torch.tensor([[True, False, True, True]])
    seen = {"text_mask": masks.padding(words), "image_mask": masks.padding(regions)}
    before = layer(text, image, **seen)
    other_text, other_image = text.clone(), image.clone()
    other_text[:, 3:] += 1
    other_image[:, 1] += 1
    after = layer(other_text, other_image, **seen)
    assert torch.equal(before.text[:, :3], after.text[:, :3])
    assert torch.equal(before.image[:, [0, 2, 3]], after.image[:, [0, 2, 3]])
    shown = layer(text, other_image, text_mask=masks.padding(words))
    assert not torch.allclose(before.text, shown.text)


def test_a_position_looks_at_the_other_stream_and_not_at_its_own() -> None:
    layer = _layer()
    text, image = torch.randn(1, 5, 8), torch.randn(1, 4, 12)
    other = text.clone()
    other[:, 4] += 1
    with torch.no_grad():
        before, after = layer(text, image), layer(other, image)
    assert torch.equal(before.text[:, :4], after.text[:, :4])
    assert not torch.allclose(before.image, after.image)
