"""Beam search, several prompts at once."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diptych.decoding.source import Source, Written, expect_room
from diptych.types import InputError


class _Beam(NamedTuple):
    """A text on its way: its tokens, the log-probability of each, and their sum (-inf for a place that is empty)."""

    tokens: list[int]
    log_probs: list[float]
    total: float


@torch.no_grad()
def beam_search(
    source: Source, *, end: int, most: int, beams: int = 4, best: int = 1, length_penalty: float = 1.0
) -> list[list[Written]]:
    """The `best` texts of each row, best first, that a search with `beams` texts at a time finds.

    A text is worth the sum of its log-probabilities / length ** length_penalty, with the end token counted in both, as
    transformers has it (not the lp of Wu et al. 2016, equation 14). A row is done as soon as no text on its way could
    still be worth more than the `best` that have ended, whatever came next; then it leaves the batch. Ended texts take
    no beam. Texts that reach `most` count as they are.

    Args:
        source: with its prompts read.
        end: the end token.
        most: tokens of a text, the end token included.
        beams: texts of a row that are followed at a time.
        best: texts of a row to give, at most `beams`; fewer are given only where there are fewer texts.
        length_penalty: above 0 favours long texts, 0 compares bare sums.
    """
    expect_room(most)
    if not 1 <= best <= beams:
        raise InputError(f"beam_search: best: expected 1 to {beams} (beams), got {best}")
    log_probs = source.logits().log_softmax(dim=-1)
    rows, device = len(log_probs), log_probs.device
    found: list[list[tuple[float, Written]]] = [[] for _ in range(rows)]
    active = list(range(rows))
    live = [[_Beam([], [], 0.0)] + [_Beam([], [], -math.inf)] * (beams - 1) for _ in active]
    source.select(torch.arange(rows, device=device).repeat_interleave(beams))
    log_probs = log_probs.repeat_interleave(beams, dim=0)
    for step in range(most):
        last = step + 1 == most
        kept: list[int] = []
        next_live, next_active = [], []
        for place, (row, candidates) in enumerate(zip(active, _candidates(log_probs, live, beams))):
            going: list[tuple[int, _Beam]] = []
            for rank, (total, parent, token, log) in enumerate(candidates):
                before = live[place][parent]
                if token == end or last:
                    if rank < beams and total > -math.inf:
                        tokens = before.tokens if token == end else [*before.tokens, token]
                        text = Written(tokens, [*before.log_probs, log], token == end)
                        found[row].append((total / (step + 1) ** length_penalty, text))
                elif len(going) < beams:
                    going.append((parent, _Beam([*before.tokens, token], [*before.log_probs, log], total)))
            found[row] = sorted(found[row], key=lambda one: -one[0])[:best]
            if not last and not _settled(found[row], going, best, step + 1, most, length_penalty):
                going += [(0, _Beam([end], [], -math.inf))] * (beams - len(going))
                kept += [place * beams + parent for parent, _ in going]
                next_active.append(row)
                next_live.append([beam for _, beam in going])
        active, live = next_active, next_live
        if not active:
            break
        source.select(torch.tensor(kept, device=device))
        source.advance(torch.tensor([beam.tokens[-1] for some in live for beam in some], device=device))
        log_probs = source.logits().log_softmax(dim=-1)
    return [[text for _, text in texts] for texts in found]


def _candidates(log_probs: Tensor, live: list[list[_Beam]], beams: int) -> list[list[tuple[float, int, int, float]]]:
    """(sum, beam, token, its log-probability) of the likeliest ways to go on, for each active row.

    Twice as many as beams, so that enough are left where every beam may end.
    """
    vocabulary = log_probs.shape[-1]
    totals = torch.tensor([[beam.total for beam in some] for some in live], device=log_probs.device)
    sums = (log_probs.view(len(live), beams, vocabulary) + totals[:, :, None]).flatten(1)
    sums, places = sums.topk(min(2 * beams, sums.shape[1]))
    logs = log_probs.view(len(live), -1).gather(1, places)
    pulled = torch.stack([sums.cpu().double(), places.cpu().double(), logs.cpu().double()], dim=-1).tolist()
    return [[(total, *divmod(int(place), vocabulary), log) for total, place, log in some] for some in pulled]


def _settled(
    found: list[tuple[float, Written]],
    going: list[tuple[int, _Beam]],
    best: int,
    length: int,
    most: int,
    length_penalty: float,
) -> bool:
    """Whether nothing that goes on can be worth more than what was found: sums only fall from here on."""
    total = max((beam.total for _, beam in going), default=-math.inf)
    if total == -math.inf:
        return True
    reach = most if length_penalty > 0 else length + 1  # the length at which the same sum is worth most
    return len(found) == best and total / reach**length_penalty <= found[-1][0]
