"""Writing token by token: one loop for every rule that looks at one next token at a time."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diptych.decoding.source import Source, Written, expect_room

Rule = Callable[[Float[Tensor, "R V"], Sequence[int], int], Int[Tensor, "R"]]
"""rule(log_probs, texts, step) chooses the next token of each row. Row i is text number texts[i], counted before any
text was done; step counts the tokens that are written already."""


def greedy(log_probs: Float[Tensor, "R V"], texts: Sequence[int] = (), step: int = 0) -> Int[Tensor, "R"]:
    """The likeliest token."""
    return log_probs.argmax(dim=-1)


@torch.no_grad()
def write(
    source: Source,
    *,
    end: int,
    most: int,
    rule: Rule = greedy,
    until: Callable[[list[int]], bool] | None = None,
) -> list[Written]:
    """Write each row until its end token or `most` tokens; rows that are done are no longer computed.

    Args:
        source: with its prompts read.
        end: the end token.
        most: tokens of a row, the end token included.
        rule: chooses each next token.
        until: asked after each token of a row, with all that was written in it; True ends it. See `stop_at`.
    """
    expect_room(most)
    rows: list[list[int]] = []
    logs: list[list[float]] = []
    ended: list[bool] = []
    active: list[int] = []  # which text each row of the source is
    for step in range(most):
        log_probs = source.logits().log_softmax(dim=-1)
        if step == 0:
            active = list(range(len(log_probs)))
            rows, logs, ended = [[] for _ in active], [[] for _ in active], [False for _ in active]
        chosen = rule(log_probs, active, step)
        going = []
        for place, (text, token, log) in enumerate(zip(active, *pulled(log_probs, chosen))):
            logs[text].append(log)
            ended[text] = token == end
            if token != end:
                rows[text].append(token)
                ended[text] = until is not None and until(rows[text])
            if not ended[text]:
                going.append(place)
        if not going or step + 1 == most:
            break
        if len(going) < len(active):
            kept = torch.tensor(going, device=chosen.device)
            source.select(kept)
            chosen, active = chosen[kept], [active[place] for place in going]
        source.advance(chosen)
    return [Written(*text) for text in zip(rows, logs, ended)]


def pulled(log_probs: Float[Tensor, "R V"], chosen: Int[Tensor, "R"]) -> tuple[list[int], list[float]]:
    """The chosen tokens and their log-probabilities as lists, brought from the device in one piece."""
    picked = log_probs.gather(1, chosen[:, None])[:, 0]
    tokens, logs = torch.stack([chosen.float(), picked.float()]).tolist()  # float32 holds every number below 2^24
    return [int(token) for token in tokens], logs
