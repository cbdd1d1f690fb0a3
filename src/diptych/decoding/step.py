"""Writing token by token: one loop for every rule that looks at one next token at a time."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diptych.decoding.source import Source, Written

Rule = Callable[[Float[Tensor, "R V"]], Int[Tensor, "R"]]
"""Chooses the next token of each row by its log-probabilities."""


def greedy(log_probs: Float[Tensor, "R V"]) -> Int[Tensor, "R"]:
    """The likeliest token."""
    return log_probs.argmax(dim=-1)


@torch.no_grad()
def write(source: Source, *, end: int, most: int, rule: Rule = greedy) -> list[Written]:
    """Write each row until its end token or `most` tokens; rows that are done are no longer computed.

    Args:
        source: with its prompts read.
        end: the end token.
        most: tokens of a row, the end token included.
        rule: chooses each next token.
    """
    rows: list[list[int]] = []
    logs: list[list[float]] = []
    ended: list[bool] = []
    active: list[int] = []  # which text each row of the source is
    for _ in range(most):
        log_probs = source.logits().log_softmax(dim=-1)
        if not rows:
            active = list(range(len(log_probs)))
            rows, logs, ended = [[] for _ in active], [[] for _ in active], [False for _ in active]
        chosen = rule(log_probs)
        picked = log_probs.gather(1, chosen[:, None])[:, 0].tolist()
        going = []
        for place, (text, token, log) in enumerate(zip(active, chosen.tolist(), picked)):
            logs[text].append(log)
            if token == end:
                ended[text] = True
            else:
                rows[text].append(token)
                going.append(place)
        if not going or len(rows[active[going[0]]]) == most:
            break
        if len(going) < len(active):
            kept = torch.tensor(going, device=chosen.device)
            source.select(kept)
            chosen, active = chosen[kept], [active[place] for place in going]
        source.advance(chosen)
    return [Written(*text) for text in zip(rows, logs, ended)]
