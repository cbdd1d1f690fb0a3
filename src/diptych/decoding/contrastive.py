"""Contrastive search: likely tokens that do not repeat what the model has in mind already."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from diptych.decoding.source import SourceWithStates, Written, expect_room
from diptych.decoding.step import pulled
from diptych.types import InputError

Bonus = Callable[[Sequence[int], Sequence[list[int]], Int[Tensor, "R K"]], Float[Tensor, "R K"]]
"""bonus(texts, written, candidates): what to add to the score of each candidate; row i is text number texts[i]."""


@torch.no_grad()
def contrastive(
    source: SourceWithStates,
    *,
    end: int,
    most: int,
    k: int = 5,
    alpha: float = 0.6,
    bonus: Bonus | None = None,
) -> list[Written]:
    """Write each row by contrastive search (Su et al. 2022, "A contrastive framework", equation 5).

    Of the k likeliest tokens v each step takes the one with the largest
    (1 - alpha) p(v) - alpha max_j cos(h_v, h_j), where h_v is the model's state after v and h_j are its states at all
    that came before, the prompt and pictures in it included. `alpha` 0 or `k` 1 is greedy.

    Args:
        source: with its prompts read.
        end: the end token.
        most: tokens of a row, the end token included.
        k: candidates; every step costs as much as writing k rows.
        alpha: in [0, 1], weight of the penalty.
        bonus: added to the score; see `magic`.
    """
    expect_room(most)
    if not 0 <= alpha <= 1:
        raise InputError(f"contrastive: alpha: expected a number in [0, 1], got {alpha}")
    if k < 1:
        raise InputError(f"contrastive: k: expected at least 1, got {k}")
    if source.prompt is None:
        raise InputError("contrastive: expected a source whose prompts were read and nothing written yet")
    states, there = source.prompt
    states = normalize(states.float(), dim=-1)
    active = list(range(len(states)))
    texts = [Written([], [], False) for _ in active]
    for step in range(most):
        log_probs = source.logits().log_softmax(dim=-1)
        likely, candidates = log_probs.topk(min(k, log_probs.shape[1]), dim=-1)
        rows, width = candidates.shape
        source.select(torch.arange(rows, device=candidates.device).repeat_interleave(width))
        source.advance(candidates.flatten())
        new = normalize(source.hidden.float(), dim=-1).view(rows, width, -1)
        alike = (new @ states.transpose(1, 2)).masked_fill(~there[:, None], -2.0).amax(dim=-1)
        scores = (1 - alpha) * likely.exp() - alpha * alike
        if bonus is not None:
            scores = scores + bonus(active, [texts[text].tokens for text in active], candidates)
        best = scores.argmax(dim=-1)
        place = torch.arange(rows, device=best.device)
        going = []
        for row, (text, token, log) in enumerate(zip(active, *pulled(log_probs, candidates[place, best]))):
            texts[text].log_probs.append(log)
            if token == end:
                texts[text] = texts[text]._replace(ended=True)
            else:
                texts[text].tokens.append(token)
                going.append(row)
        if not going or step + 1 == most:
            break
        kept = torch.tensor(going, device=best.device)
        source.select((place * width + best)[kept])
        states = torch.cat([states, new[place, best][:, None]], dim=1)[kept]
        there = torch.cat([there, there.new_ones(rows, 1)], dim=1)[kept]
        active = [active[row] for row in going]
    return texts
