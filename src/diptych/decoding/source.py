"""What the decoding engine drives, and what it gives."""

import math
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from diptych.types import InputError


@runtime_checkable
class Source(Protocol):
    """Rows of text that are being written, as a model sees them. R is the number of rows, which `select` may change."""

    @property
    def hidden(self) -> Float[Tensor, "R D"]:
        """The last hidden state of each row."""
        ...

    def logits(self) -> Float[Tensor, "R V"]:
        """Scores of each row's next token before the softmax, in float32."""
        ...

    def advance(self, tokens: Int[Tensor, "R"]) -> None:
        """Write one more token in each row."""
        ...

    def select(self, rows: Int[Tensor, "N"]) -> None:
        """Go on with these rows, in this order, repeats allowed."""
        ...


@runtime_checkable
class SourceWithStates(Source, Protocol):
    """A source that also shows how it read its prompts, as contrastive search needs."""

    @property
    def prompt(self) -> tuple[Float[Tensor, "R S D"], Bool[Tensor, "R S"]] | None:
        """The hidden states of the prompts and which of them are no padding; None from the first `advance` on."""
        ...


class Written(NamedTuple):
    """A text that was written, in tokens.

    Attributes:
        tokens: without the end token.
        log_probs: of each token, and of the end token where there is one: ln p(token | what came before), as the model
            has it, before temperature and other rules.
        ended: whether the end token, or what else ends a text, came before the limit.
    """

    tokens: list[int]
    log_probs: list[float]
    ended: bool

    @property
    def confidence(self) -> float:
        """exp of the mean log-probability, in [0, 1]: the geometric mean of the tokens' probabilities."""
        return math.exp(sum(self.log_probs) / max(len(self.log_probs), 1))


def expect_room(most: int) -> None:
    """Raises `InputError` where nothing may be written."""
    if most < 1:
        raise InputError(f"most: expected at least 1 token, got {most}")
