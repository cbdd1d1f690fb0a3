"""How likely a model finds given answers."""

from collections.abc import Sequence

import torch

from diptych.decoding.source import Source


@torch.no_grad()
def likelihoods(source: Source, choices: Sequence[Sequence[Sequence[int]]], *, end: int) -> list[list[float]]:
    """ln p(choice and then the end token | prompt) of each of a row's choices.

    With the end token no choice is the beginning of another, so that the probabilities of all texts add up to 1.
    Choices of a row that begin alike are computed once up to where they part.

    Args:
        source: with its prompts read.
        choices: for each row, its choices in tokens, as many as one likes.
        end: the end token.
    """
    totals = [[0.0] * len(some) for some in choices]
    reading = [  # (row, number of the choice, its tokens, row of the source that has read it so far)
        (row, number, [*tokens, end], row) for row, some in enumerate(choices) for number, tokens in enumerate(some)
    ]
    depth = 0
    while reading:
        log_probs = source.logits().log_softmax(dim=-1)
        at = torch.tensor([(place, tokens[depth]) for _, _, tokens, place in reading], device=log_probs.device)
        for (row, number, _, _), log in zip(reading, log_probs[at[:, 0], at[:, 1]].tolist()):
            totals[row][number] += log
        places: dict[tuple[int, int], int] = {}  # by where it comes from and its token, a new row of the source
        reading = [
            (row, number, tokens, places.setdefault((place, tokens[depth]), len(places)))
            for row, number, tokens, place in reading
            if len(tokens) > depth + 1
        ]
        if places:
            parents, steps = torch.tensor(list(places), device=log_probs.device).unbind(dim=1)
            source.select(parents)
            source.advance(steps)
        depth += 1
    return totals
