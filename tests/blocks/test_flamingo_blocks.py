"""The Perceiver Resampler and gated cross-attention against their equations, and public checkpoints' names."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from diptych.blocks import masks
from diptych.blocks.gated_cross_attention import GatedCrossAttention
from diptych.blocks.resampler import PerceiverResampler
from diptych.models.flamingo import from_open_flamingo

WIDTH, MEDIA, HEADS, HEAD_WIDTH, LATENTS = 12, 8, 2, 6, 3
INNER = HEADS * HEAD_WIDTH


def _random(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * 0.5 for name, shape in shapes.items()}


def _feed_forward(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{prefix}.0.weight": (width,),
        f"{prefix}.0.bias": (width,),
        f"{prefix}.1.weight": (4 * width, width),
        f"{prefix}.3.weight": (width, 4 * width),
    }


def _public_resampler(layers: int) -> dict[str, Tensor]:
    """A state dict with the public reimplementation's names and shapes."""
    shapes: dict[str, tuple[int, ...]] = {"perceiver.latents": (LATENTS, MEDIA)}
    for i in range(layers):
        own = f"perceiver.layers.{i}"
        for norm in ("norm_media", "norm_latents"):
            shapes |= {f"{own}.0.{norm}.weight": (MEDIA,), f"{own}.0.{norm}.bias": (MEDIA,)}
        shapes |= {f"{own}.0.to_q.weight": (INNER, MEDIA), f"{own}.0.to_kv.weight": (2 * INNER, MEDIA)}
        shapes |= {f"{own}.0.to_out.weight": (MEDIA, INNER), **_feed_forward(f"{own}.1", MEDIA)}
    return _random(shapes | {"perceiver.norm.weight": (MEDIA,), "perceiver.norm.bias": (MEDIA,)})


def _public_gated(number: int) -> dict[str, Tensor]:
    own = f"lang_encoder.gated_cross_attn_layers.{number}"
    shapes = {f"{own}.attn.norm.weight": (WIDTH,), f"{own}.attn.norm.bias": (WIDTH,)}
    shapes |= {f"{own}.attn.to_q.weight": (INNER, WIDTH), f"{own}.attn.to_kv.weight": (2 * INNER, MEDIA)}
    shapes |= {f"{own}.attn.to_out.weight": (WIDTH, INNER), **_feed_forward(f"{own}.ff", WIDTH)}
    return _random(shapes | {f"{own}.attn_gate": (1,), f"{own}.ff_gate": (1,)})


def _norm(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def _ff(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    hidden = _norm(x, state, f"{name}.0") @ state[f"{name}.1.weight"].T
    gelu = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    return gelu @ state[f"{name}.3.weight"].T


def _attend(q: Tensor, kv: Tensor, mask: Tensor | None = None) -> Tensor:
    """One row's queries (S, inner) and keys beside values (M, 2 inner), head by head."""
    k, v = kv[:, :INNER], kv[:, INNER:]
    heads = []
    for h in range(HEADS):
        own = slice(h * HEAD_WIDTH, (h + 1) * HEAD_WIDTH)
        scores = q[:, own] @ k[:, own].T / math.sqrt(HEAD_WIDTH)
        weights = scores.exp() if mask is None else scores.exp() * mask
        heads.append(weights @ v[:, own] / weights.sum(1, keepdim=True).clamp(min=1e-30))
    return torch.cat(heads, dim=1)


def test_resampler_is_its_equations() -> None:
    state = _public_resampler(layers=2)
    module = PerceiverResampler(MEDIA, latents=LATENTS, layers=2, heads=HEADS, head_width=HEAD_WIDTH)
    mapped = from_open_flamingo(state)
    module.load_state_dict({name.removeprefix("perceiver."): value for name, value in mapped.items()})
    x = torch.randn(2, 1, 5, MEDIA, generator=torch.Generator().manual_seed(1))
    expected = []
    for picture in x[:, 0]:
        latents = state["perceiver.latents"]
        for i in range(2):
            own = f"perceiver.layers.{i}"
            normed = _norm(latents, state, f"{own}.0.norm_latents")
            seen = torch.cat([_norm(picture, state, f"{own}.0.norm_media"), normed])
            looked = _attend(normed @ state[f"{own}.0.to_q.weight"].T, seen @ state[f"{own}.0.to_kv.weight"].T)
            latents = latents + looked @ state[f"{own}.0.to_out.weight"].T
            latents = latents + _ff(latents, state, f"{own}.1")
        expected.append(_norm(latents, state, "perceiver.norm"))
    torch.testing.assert_close(module(x), torch.stack(expected), atol=1e-5, rtol=1e-4)


def test_resampler_adds_embeddings_of_frames_and_of_pictures() -> None:
    torch.manual_seed(0)
    sizes = {"latents": LATENTS, "layers": 1, "heads": HEADS, "head_width": HEAD_WIDTH}
    plain = PerceiverResampler(MEDIA, **sizes)
    timed = PerceiverResampler(MEDIA, **sizes, frames=2, media=4)
    timed.load_state_dict(plain.state_dict(), strict=False)
    assert timed.frame_embs is not None and timed.media_time_embs is not None
    x, number = torch.randn(3, 2, 5, MEDIA), torch.tensor([0, 3, 1])
    added = x + timed.frame_embs[None, :, None] + timed.media_time_embs[number][:, None]
    torch.testing.assert_close(timed(x, number), plain(added))
    assert not torch.allclose(timed(x, number), plain(x))


def test_gated_layer_is_its_equations_and_a_token_sees_the_last_picture_before_it_only() -> None:
    state = _public_gated(3)
    own = "lang_encoder.gated_cross_attn_layers.3"
    module = GatedCrossAttention(WIDTH, MEDIA, heads=HEADS, head_width=HEAD_WIDTH)
    mapped = from_open_flamingo(state)
    module.load_state_dict({name.removeprefix("gated_cross_attn_layers.3."): value for name, value in mapped.items()})
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, WIDTH, generator=generator)
    media = torch.randn(2, 2, LATENTS, MEDIA, generator=generator)  # two pictures of each row
    times = torch.tensor([[0, 1, 1, 2], [0, 0, 0, 1]])
    mask = masks.media(times, 2, LATENTS)
    out = module(x, module.key_values(media.flatten(1, 2)), mask)
    for row in range(2):
        for token in range(4):
            state_in = x[row, token : token + 1]
            looked = torch.zeros(1, WIDTH)
            if (time := int(times[row, token])) > 0:
                q = _norm(state_in, state, f"{own}.attn.norm") @ state[f"{own}.attn.to_q.weight"].T
                kv = media[row, time - 1] @ state[f"{own}.attn.to_kv.weight"].T
                looked = _attend(q, kv) @ state[f"{own}.attn.to_out.weight"].T
            expected = state_in + torch.tanh(state[f"{own}.attn_gate"]) * looked
            expected = expected + torch.tanh(state[f"{own}.ff_gate"]) * _ff(expected, state, f"{own}.ff")
            torch.testing.assert_close(out[row, token : token + 1], expected, atol=1e-5, rtol=1e-4)


def test_shut_gates_change_no_bit_and_get_a_gradient() -> None:
    torch.manual_seed(0)
    module = GatedCrossAttention(WIDTH, MEDIA, heads=HEADS, head_width=HEAD_WIDTH)
    x, media = torch.randn(2, 4, WIDTH), torch.randn(2, 6, MEDIA)
    mask = masks.media(torch.tensor([[0, 1, 1, 2], [0, 0, 0, 0]]), 2, LATENTS)
    out = module(x, module.key_values(media), mask)
    assert torch.equal(out, x)
    F.mse_loss(out, torch.zeros_like(out)).backward()
    assert module.attn_gate.grad is not None and module.ff_gate.grad is not None
    assert module.attn_gate.grad.abs() > 0 and module.ff_gate.grad.abs() > 0
    assert all(bool(torch.isfinite(p.grad).all()) for p in module.parameters() if p.grad is not None)


def test_media_mask() -> None:
    expected = [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]
    assert masks.media(torch.tensor([[0, 1, 1, 2]]), 2, 2)[0, 0].int().tolist() == expected


def test_what_does_not_train_is_left_out_of_a_public_checkpoint() -> None:
    state = {"lang_encoder.transformer.wte.weight": torch.zeros(2), "vision_encoder.proj": torch.zeros(2)}
    assert from_open_flamingo(state) == {}
