"""A map over the picture for each word of a caption: by attention to the grid, or by gradient times input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from diptych.capabilities import WritesCaptions
from diptych.tasks.running import name_of, ready
from diptych.types import Batch, InputError

How = Literal["attention", "gradient"]
Floats = NDArray[np.float32]

CELLS = 16  # along a side of a map made from gradients


class WordMap(NamedTuple):
    """One word of a caption: the text, where it came from, and ln p(word | picture, words before it).

    `map` is float32 over a grid, row by row from the top; no value is negative and they add up to 1.
    """

    word: str
    map: Floats
    log_prob: float


class Text(NamedTuple):
    """A caption beside its picture as the model reads them, and its words with their token places.

    `pixels` (1 C H W) are normalised; `tokens` and `mask` are 1 T.
    """

    pixels: Tensor
    tokens: Tensor
    mask: Tensor
    words: list[str]
    places: list[list[int]]

    def asked(self, word: int, pixels: Tensor | None = None) -> Batch:
        """A batch of one that asks for one word, perhaps beside other pixels."""
        target = torch.zeros_like(self.mask)
        target[:, self.places[word]] = True
        shown = self.pixels if pixels is None else pixels
        return Batch([""], shown, tokens=self.tokens, token_mask=self.mask, target_mask=target)


def attribute(
    model: Any, picture: Any, caption: str, how: How = "gradient", *, cells: int = CELLS, device: str = "auto"
) -> list[WordMap]:
    """Where each word of `caption` came from.

    "gradient" is for any family of ours that writes: |gradient x input| of ln p(word) on the normalised pixels, added
    over channels and pooled (Shrikumar et al. 2017, section 2). "attention" is for families that say
    `attends_to_grid = True`, whose `cross` modules look at a vector for each cell of the vision tower's grid and at
    nothing else: the mean of their weights over layers, heads and levels at the state that predicts the word. Neither
    is proof: `evaluate_attribution` says what a map is worth.

    Args:
        picture: as `processor.decode_image` takes it.
        cells: along a side of a map from gradients; attention has the model's own grid.

    Raises:
        InputError: an unknown way, a model that is no family of ours that writes, or one without attention to its grid;
            a caption without words.
    """
    check(model, how)
    with ready(model, device) as place:
        text = read(model, picture, caption, place)
        if how == "attention":
            maps = by_attention(model, text)
        else:
            maps = by_gradient(model, text, cells)
        logs = [log_prob(model, text, i) for i in range(len(text.words))]
    return [WordMap(word, map, log) for word, map, log in zip(text.words, maps, logs)]


def check(model: Any, how: str) -> None:
    """Raises `InputError` where a model cannot be looked into in this way."""
    if how not in ("attention", "gradient"):
        raise InputError(f"how: expected attention or gradient, got {how!r}")
    ours = isinstance(model, nn.Module) and hasattr(model, "processor") and hasattr(model, "normalize")
    if not ours or not isinstance(model, WritesCaptions):
        raise InputError(f"model {name_of(model)}: expected a family of ours that writes, to look into")
    if how == "attention" and not getattr(model, "attends_to_grid", False):
        raise InputError(f"model {name_of(model)}: its words do not attend to the grid alone; use how='gradient'")


def read(model: Any, picture: Any, caption: str, device: torch.device) -> Text:
    """A caption beside its picture. Words are what the tokenizer splits at, without punctuation."""
    decoded = np.asarray(model.processor.decode_image(picture))
    batch = model.processor.collate([""], [decoded], [caption]).to(device)
    encoding = model.processor.text.tokenizer.encode(caption)
    places: dict[int, list[int]] = {}
    for place, word in enumerate(encoding.word_ids):
        if word is not None:
            places.setdefault(word, []).append(place)
    words, kept = [], []
    for some in places.values():
        start, end = encoding.offsets[some[0]][0], encoding.offsets[some[-1]][1]
        word = caption[start:end].strip()
        if any(letter.isalnum() for letter in word):
            words.append(word)
            kept.append(some)
    if not words:
        raise InputError(f"caption: expected words, got {caption!r}")
    assert batch.tokens is not None and batch.token_mask is not None
    return Text(model.normalize(batch.pixels), batch.tokens, batch.token_mask, words, kept)


def log_prob(model: Any, text: Text, word: int, pixels: Tensor | None = None) -> float:
    """ln p(word | picture, words before it), perhaps beside other normalised pixels 1 C H W."""
    with torch.no_grad():
        loss = model(text.asked(word, pixels)).total
    return -float(loss) * len(text.places[word])


# ---------------------------------------------------------------- gradient times input


def by_gradient(model: Any, text: Text, cells: int) -> list[Floats]:
    """One map for each word; a row of the batch asks for one word, and no row sees another's."""
    count = len(text.words)
    asked = torch.cat([text.asked(word).target_mask for word in range(count)])  # type: ignore[misc]
    with torch.enable_grad():
        pixels = text.pixels.detach().expand(count, -1, -1, -1).clone().requires_grad_()
        tokens, mask = text.tokens.expand(count, -1), text.mask.expand(count, -1)
        loss = model(Batch([""] * count, pixels, tokens=tokens, token_mask=mask, target_mask=asked)).total
        (grad,) = torch.autograd.grad(loss, pixels)
    pooled = F.adaptive_avg_pool2d((grad * pixels.detach()).abs().sum(dim=1)[:, None], cells)
    return [shares(map) for map in pooled[:, 0]]


# ---------------------------------------------------------------- attention


def by_attention(model: Any, text: Text) -> list[Floats]:
    """One map for each word, from the weights of attention between the text's states and a square grid."""
    with torch.no_grad(), _watching(model) as seen:
        model(text.asked(0))
    length = text.tokens.shape[1]
    from_text = [weights for weights in seen() if weights.shape[0] == length]
    found = [weights for weights in from_text if math.isqrt(weights.shape[1]) ** 2 == weights.shape[1]]
    if not found:
        raise InputError(f"model {name_of(model)}: no attention between its words and a square grid was seen")
    mean = torch.stack(found).mean(dim=0)
    side = math.isqrt(mean.shape[1])
    return [shares(mean[[place - 1 for place in some]].mean(dim=0).view(side, side)) for some in text.places]


@contextmanager
def _watching(model: nn.Module) -> Iterator[Any]:
    """Notes queries and keys of all attention that is called inside; gives a function to ask for the weights T M."""
    calls: dict[nn.Module, tuple[list[Any], list[Any]]] = {}
    handles = []
    for module in model.modules():
        if hasattr(module, "q_proj") and hasattr(module, "k_proj"):
            own: tuple[list[Any], list[Any]] = ([], [])
            calls[module] = own
            for projection, into in zip((module.q_proj, module.k_proj), own):
                assert isinstance(projection, nn.Module)
                handles.append(
                    projection.register_forward_hook(lambda _, args, out, into=into: into.append((args[0], out)))
                )

    def weights() -> list[Tensor]:
        return [
            _weights(module, q, k)
            for module, (queries, keys) in calls.items()
            for (asked, q), (looked, k) in zip(queries, keys)
            if asked is not looked  # self-attention
        ]

    try:
        yield weights
    finally:
        for handle in handles:
            handle.remove()


def _weights(attention: Any, queries: Tensor, keys: Tensor) -> Tensor:
    """The mean over heads of softmax(Q K^T / sqrt(d)), T M, from what the projections gave of a batch of one."""
    heads, kv_heads = attention.heads, attention.kv_heads
    q = queries[0].float().reshape(len(queries[0]), heads, -1).transpose(0, 1)
    k = keys[0].float().reshape(len(keys[0]), kv_heads, -1).transpose(0, 1)
    scores = q @ k.repeat_interleave(heads // kv_heads, dim=0).transpose(1, 2) / q.shape[2] ** 0.5
    mean: Tensor = scores.softmax(dim=-1).mean(dim=0)
    return mean


# ---------------------------------------------------------------- maps as numbers


def shares(map: Tensor) -> Floats:
    """A map whose values add up to 1; even, where there is nothing in it."""
    values = map.detach().float().cpu().numpy()
    total = float(values.sum())
    return (values / total if total > 0 else np.full_like(values, 1 / values.size)).astype(np.float32)


def enlarged(map: Floats, height: int, width: int) -> Floats:
    """The map at the size of a picture, bilinear."""
    tensor = torch.from_numpy(np.ascontiguousarray(map))[None, None]
    large: Floats = F.interpolate(tensor, size=(height, width), mode="bilinear", align_corners=False)[0, 0].numpy()
    return large


def best_window(map: Floats, side: int) -> tuple[int, int]:
    """(top, left) of the square of `side` with the most of the map in it."""
    sums = np.pad(map.astype(np.float64), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(top), int(left)
