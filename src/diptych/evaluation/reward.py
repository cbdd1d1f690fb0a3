"""What a caption is worth while a model is trained on it: for `training.self_critical`."""

from collections.abc import Callable, Iterable, Sequence

from numpy.typing import NDArray

from diptych.evaluation.metrics.cider import cider_d, document_frequencies
from diptych.evaluation.metrics.tokenizer import tokenize


def cider_reward(corpus: Iterable[Sequence[str]]) -> Callable[[Sequence[str], Sequence[Sequence[str]]], NDArray]:  # type: ignore[type-arg]
    """CIDEr-D of captions beside their references, words weighed by the captions of the pictures of `corpus`.

    Raises `InputError` for a corpus of fewer than two pictures.
    """
    frequencies = document_frequencies(list(corpus))

    def reward(captions: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray:  # type: ignore[type-arg]
        flat = iter(tokenize([text for texts in references for text in texts]))
        told = [[next(flat) for _ in texts] for texts in references]
        return cider_d(tokenize(captions), told, frequencies)

    return reward
