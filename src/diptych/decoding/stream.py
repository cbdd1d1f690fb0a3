"""Text as it comes, and strings that end it."""

from collections.abc import Callable, Iterator, Sequence

import torch

from diptych.decoding.source import Source, expect_room
from diptych.decoding.step import Rule, greedy

BROKEN = "\ufffd"
"""What a decoder puts for bytes that are no whole character."""


class Pieces:
    """Tokens to pieces of text that, put together, are the text of all tokens up to a stop string.

    Text waits while its last character may be half there (a token of a byte-level tokenizer can be part of one), or
    while it may be the beginning of a stop string.

    Args:
        decode: tokens to text; more tokens make the text longer and do not change what is whole in it.
        stops: strings that end the text; they are left out of it.
    """

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str] = ()) -> None:
        self.decode, self.stops = decode, [stop for stop in stops if stop]
        self.tokens: list[int] = []
        self.stopped = False
        self._given = 0

    def push(self, token: int) -> str:
        """The text that is certain with one more token; may be empty."""
        self.tokens.append(token)
        text = self.decode(self.tokens).rstrip(BROKEN)
        cut = _first_stop(text, self.stops)
        if cut is not None:
            self.stopped = True
            return self._give(text[:cut])
        return self._give(text[: len(text) - _begun(text, self.stops)])

    def finish(self) -> str:
        """What still waits, when no more tokens come; also a broken end as the decoder has it."""
        return "" if self.stopped else self._give(self.decode(self.tokens))

    def _give(self, text: str) -> str:
        piece = text[self._given :]
        self._given = max(self._given, len(text))
        return piece


def stream(
    source: Source,
    decode: Callable[[list[int]], str],
    *,
    end: int,
    most: int,
    rule: Rule = greedy,
    stops: Sequence[str] = (),
) -> Iterator[str]:
    """Pieces of the text of a source's only row, as soon as they are certain: put together, what `write` writes.

    Args:
        source: with its prompt read.
        decode, stops: see `Pieces`.
        end, most, rule: see `write`.
    """
    expect_room(most)
    pieces = Pieces(decode, stops)
    for step in range(most):
        with torch.no_grad():  # not around `yield`: the caller's own code may want gradients
            if pieces.tokens:
                source.advance(torch.tensor(pieces.tokens[-1:], device=source.hidden.device))
            token = int(rule(source.logits().log_softmax(dim=-1), [0], step))
        if token == end:
            break
        piece = pieces.push(token)
        if piece:
            yield piece
        if pieces.stopped:
            return
    rest = pieces.finish()
    if rest:
        yield rest


def stop_at(stops: Sequence[str], decode: Callable[[list[int]], str]) -> Callable[[list[int]], bool]:
    """For `write(until=)`: a text ends as soon as one of these strings stands in it; `before_stop` cuts it off."""
    return lambda tokens: _first_stop(decode(tokens), stops) is not None


def before_stop(text: str, stops: Sequence[str]) -> str:
    """The text up to the first stop string in it."""
    return text[: _first_stop(text, stops)]


def _first_stop(text: str, stops: Sequence[str]) -> int | None:
    found = [text.find(stop) for stop in stops if stop and stop in text]
    return min(found, default=None)


def _begun(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of `text` that is the beginning of a stop string."""
    lengths = [n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])]
    return max(lengths, default=0)
