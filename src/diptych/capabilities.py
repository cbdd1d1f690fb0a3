"""What a model can do, as Protocols: a family, a checkpoint of another library or a server has what it has methods for.

Shape letters are those of `diptych.types`. This module imports no torch, so that reading data stays light.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from jaxtyping import Bool, Float, Int, Shaped
    from torch import Tensor

    from diptych.types import Batch, Detection, Losses, Message, Rejected, Reply

    Picture = np.ndarray[Any, np.dtype[np.uint8]]
    Scores = np.ndarray[Any, np.dtype[np.float32]]


class Processor(Protocol):
    """Turns samples into the batch that one model wants; saved with the model.

    The loader calls `decode_image` on worker threads, one sample at a time, and `collate` once a batch.
    """

    def decode_image(self, data: bytes | Path | Any) -> Any:
        """One picture (encoded bytes, a path, a PIL image, an array) as uint8 H x W x 3 at the model's size."""
        ...

    def collate(
        self,
        ids: list[str],
        images: list[Any] | None,
        texts: list[str] | None,
        *,
        prompts: list[str] | None = None,
        more: Sequence[Sequence[tuple[str, str]]] | None = None,
        documents: Sequence[Sequence[Message]] | None = None,
    ) -> Batch:
        """Stack decoded pictures (a list, or one array of them) and tokenize texts, padded to the batch's longest.

        With `prompts`, each text is what is to be said after its prompt (see `Batch.target_mask`), and `more` prompts
        with their texts follow in its row. With `documents` there are no texts, and `images` are the pictures of all
        documents, in order (see `Batch.picture_of`).
        """
        ...

    def fingerprint(self) -> str:
        """A short hash of everything that changes what a model sees."""
        ...

    def image_fingerprint(self) -> str:
        """The part of `fingerprint` that concerns pictures."""
        ...


@runtime_checkable
class EncodesImages(Protocol):
    """Has a joint space for images: rows are L2-normalised float32."""

    processor: Processor

    def encode_image(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B D"]: ...


@runtime_checkable
class EncodesTexts(Protocol):
    """Has a joint space for texts: rows are L2-normalised float32."""

    processor: Processor

    def encode_text(self, tokens: Int[Tensor, "B T"], token_mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]: ...


@runtime_checkable
class DualEncoder(EncodesImages, EncodesTexts, Protocol):
    """Images and texts in one space, compared by dot product: CLIP, ALIGN, SigLIP, LiT, ASIF."""


# The capabilities below take pictures decoded, as uint8 H x W x 3 (RGB) of any size, one or several for each text, and
# leave it to the model what to make of them. So a checkpoint of another library, or a model behind an HTTP address, has
# them as well as a family of ours. A model with a `processor` gets pictures that went through its `decode_image`; only
# to detect and to segment, where answers are in the picture's own pixels, it gets them as they are. A reply that a
# model could not give (a server that fails) is a `Rejected` in its place: counted, and not taken for a wrong one.


@runtime_checkable
class MatchesPairs(Protocol):
    """Scores whether a text is true of a picture, pair by pair: higher is likelier, on any scale."""

    def match(self, pictures: Sequence[Picture], texts: Sequence[str]) -> Scores: ...


MASK = "<mask>"
"""Stands in a text where a word is hidden."""


@runtime_checkable
class FillsWords(Protocol):
    """Guesses the word at each `MASK` of a text about a picture."""

    def fill(self, pictures: Sequence[Picture], texts: Sequence[str]) -> list[list[str]]: ...


@runtime_checkable
class WritesCaptions(Protocol):
    """Says in a sentence what a picture shows."""

    def caption(self, pictures: Sequence[Picture]) -> Sequence[Reply | Rejected]: ...


@runtime_checkable
class AnswersQuestions(Protocol):
    """Answers a question about one or several pictures; with `choices`, by one of these, word for word.

    A question whose choices are empty is answered in the model's own words.
    """

    def answer(
        self,
        pictures: Sequence[Sequence[Picture]],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]] | None = None,
    ) -> Sequence[Reply | Rejected]: ...


@runtime_checkable
class DetectsObjects(Protocol):
    """Finds things of the classes `names`, or of these phrases, in each picture; its own, if fixed, are `names`."""

    def detect(self, pictures: Sequence[Picture], names: Sequence[str]) -> list[list[Detection]]: ...


@runtime_checkable
class ProposesRegions(Protocol):
    """Finds where things are, whatever they are: at most `count` boxes in each picture, the surest first."""

    def propose(self, pictures: Sequence[Picture], count: int) -> list[list[Detection]]: ...


@runtime_checkable
class SegmentsPhrases(Protocol):
    """For each picture the probability, pixel by pixel (float32 H x W), that it belongs to what the phrase names."""

    def segment(self, pictures: Sequence[Picture], phrases: Sequence[str]) -> list[Scores]: ...


@runtime_checkable
class DrawsPictures(Protocol):
    """Draws a picture for each text, which depends on that text and the seed alone."""

    def draw(self, texts: Sequence[str], seed: int = 0) -> list[Picture]: ...


@runtime_checkable
class HasFrozenImageTower(Protocol):
    """The image tower never changes, so that its features can be computed once and cached."""

    processor: Processor

    def image_features(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B D"]: ...

    def image_tower_fingerprint(self) -> str: ...


@runtime_checkable
class HasFrozenTextTower(Protocol):
    """The text tower never changes; `text_features` is what it gives before any rule or head (ASIF)."""

    processor: Processor

    def text_features(self, tokens: Int[Tensor, "B T"], token_mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]: ...


@runtime_checkable
class StoresPairs(Protocol):
    """Learns by keeping pairs and not by training (ASIF)."""

    def add_pairs(self, image_features: Any, text_features: Any, names: Any) -> None: ...

    def remove_pairs(self, names: Any) -> None: ...


@runtime_checkable
class ExplainsSimilarity(Protocol):
    """Can say why an image and a text are similar, by the stored pairs behind the score (ASIF)."""

    def explain(self, image: Float[Tensor, "D"], text: Float[Tensor, "D"], k: int = 5) -> list[tuple[str, float]]: ...


@runtime_checkable
class TwoStage(Protocol):
    """`forward(batch) == objective(*encode(batch))`, where only the objective looks across samples.

    The loop then accumulates gradients exactly: micro-batches are encoded one by one, the objective sees them all.
    """

    def encode(self, batch: Batch) -> tuple[Tensor, ...]: ...

    def objective(self, *features: Tensor) -> Losses: ...
