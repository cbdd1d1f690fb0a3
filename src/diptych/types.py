"""The words that every part of Diptych shares: the record, the batch, the losses, what a model says.

Shape letters, used in every tensor annotation of the project:

| letter | meaning                                 | letter | meaning                              |
|--------|-----------------------------------------|--------|--------------------------------------|
| B      | samples in a batch                      | T      | text tokens, padding included        |
| C      | colour channels (3, RGB)                | S      | any sequence (tokens or patches)     |
| H, W   | height and width in pixels, or cells    | P      | image patches or grid cells          |
| D      | width of an embedding or a hidden state | V      | vocabulary                           |
| N, M   | images and texts that are compared      | K      | kept entries, neighbours, classes    |
| R      | texts that are being written            | L      | layers                               |

A mask is boolean and `True` means "keep". This module imports no torch, so that reading data stays light.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch
    from jaxtyping import Bool, Float, Int, Shaped
    from torch import Tensor


class InputError(ValueError):
    """Bad input: one sentence that names the file, the field and what was expected. The CLI exits with 2."""


# ---------------------------------------------------------------- the record


@dataclass(slots=True)
class EncodedImage:
    """A picture as it lies on disk: its encoded bytes, or the path (or URL) where they are."""

    data: bytes | None = None
    path: str | None = None


@dataclass(slots=True)
class Mask:
    """A binary mask in COCO's compressed run-length encoding, column by column."""

    height: int
    width: int
    counts: bytes


@dataclass(slots=True)
class Object:
    """A thing in the picture. `box` is (x0, y0, x1, y1) in absolute pixels.

    Attributes:
        name: its class.
        box: corners; x1 and y1 are exclusive.
        mask: the visible part, pixel by pixel.
        attributes: "red", "striped".
        id: as the source names it; "" where it does not.
        kind: "thing"; "stuff" (grass, sky: no single things); "crowd" (a group that was not told apart).
        depth: distance of its visible part from the camera, the nearest point, in the source's unit.
    """

    name: str
    box: tuple[float, float, float, float] | None = None
    mask: Mask | None = None
    attributes: list[str] = field(default_factory=list)
    id: str = ""
    kind: str = "thing"
    depth: float | None = None


@dataclass(slots=True)
class Relation:
    """`objects[subject] predicate objects[object]`, by position in the sample's list of objects."""

    subject: int
    predicate: str
    object: int


@dataclass(slots=True)
class Region:
    """A phrase for a part of the picture: a region description, or an expression that refers to one object.

    `box` is as in `Object`; `object` is a position in the sample's list of objects.
    """

    phrase: str
    box: tuple[float, float, float, float] | None = None
    object: int | None = None


@dataclass(slots=True)
class Question:
    """A question about the picture, or a statement to be judged, and the answers people gave.

    Attributes:
        answers: each annotator's, in order, repeats included; empty where they are held back.
        kind: the question type, e.g. "count".
        id: as the source names it.
        choices: the options of a multiple-choice question.
        answerable: False where the picture does not tell, or the question presupposes what is not there; None where
            nobody said.
        program: the functional program behind it as JSON text, "" if there is none.
    """

    question: str
    answers: list[str] = field(default_factory=list)
    kind: str = ""
    id: str = ""
    choices: list[str] = field(default_factory=list)
    answerable: bool | None = None
    program: str = ""


@dataclass(slots=True)
class Negative:
    """A text that is close to `captions[of]` and wrong for the picture. `kind` says how: "attributes swapped", ..."""

    text: str
    kind: str = ""
    of: int = 0


@dataclass(slots=True)
class Message:
    """One turn of a conversation or document. Each `<image>` in `text` stands for the sample's next picture."""

    role: str  # "system", "user", "assistant"; "document" for running text
    text: str


@dataclass(slots=True)
class Sample:
    """One record for every kind of label: pairs, annotations and web scrapes differ only in which fields are full.

    Every field but `id` may be empty. `texts` holds named side texts as the source had them ("title", "description",
    "file_name"); `captions` holds what a model is trained and judged on. `scores` holds what filters measured. `group`
    names what belongs together: the two halves of a Winoground item, a question and its nonsense twin.
    """

    id: str
    images: list[EncodedImage] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    label: str | None = None
    tags: list[str] = field(default_factory=list)
    objects: list[Object] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    negatives: list[Negative] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    source: str | None = None
    license: str | None = None
    url: str | None = None
    creator: str | None = None
    split: str | None = None
    group: str | None = None
    scores: dict[str, float] = field(default_factory=dict)


class Rejected(NamedTuple):
    """A row that could not be read: where it came from and the reason, in words. Counted, never dropped in silence."""

    id: str
    reason: str  # one of a few short kinds, e.g. "image truncated", so that reasons can be counted
    detail: str = ""


# ---------------------------------------------------------------- the batch and the losses

UNLISTED, NOT_ASKED, UNKNOWN = -1, -2, -3  # in `Batch.answers`

# fields with any number of rows a sample, by the field that says which sample a row belongs to
_RAGGED = {
    "picture_of": ("pixels", "picture_sizes"),
    "text_of": ("tokens", "token_mask", "fits", "answers"),
    "box_of": ("boxes", "names"),
}


@dataclass(slots=True)
class Batch:
    """What a model sees of some samples. A field that a model does not need may be absent.

    Attributes:
        ids: the samples' ids, for error messages and caches.
        pixels: uint8 in [0, 255] as decoded (the model normalises on its own device), or float, already normalised.
        image_features: features of a frozen image tower computed earlier; they stand in for `pixels`.
        tokens: token ids, padded on the right.
        token_mask: True where `tokens` is real text.
        target_mask: True at the tokens that a model is to say itself, its end token included; the others are given to
            it (a question). None: all of them but the first.
        picture_of: for documents: which row each of `pixels` belongs to, in ascending order. None: one picture a row.
        picture_sizes: height and width of what is real in each of `pixels`; below and right is padding. None: all is.
        has_image, has_text: which rows have that side, in batches that mix pairs with lone pictures and lone texts (see
            `Loader`'s `sides`); the other rows hold black pixels or the tokens of "". None: every row has what is here.
        text_of: which sample each row of `tokens` belongs to, in ascending order. None: one text a sample.
        fits: False at texts that are known to be wrong for their picture. None: all fit.
        answers: for each text the number of its answer in the model's list, `UNLISTED` for one that is not in it,
            `UNKNOWN` where nobody said, and `NOT_ASKED` where the text is no question. None: no text is one.
        boxes: (x0, y0, x1, y1) of things, as shares of the picture's width and height, in [0, 1]. None: nobody looked.
        box_of: which sample each of `boxes` belongs to, in ascending order.
        names: for each of `boxes` the number of its class in the model's list, `UNLISTED` for one that is not in it.
        view: the same samples and texts as somebody else sees them (see `Loader`'s `view`): a teacher.
    """

    ids: list[str]
    pixels: Shaped[Tensor, "B C H W"] | None = None
    image_features: Float[Tensor, "B D"] | None = None
    tokens: Int[Tensor, "B T"] | None = None
    token_mask: Bool[Tensor, "B T"] | None = None
    target_mask: Bool[Tensor, "B T"] | None = None
    picture_of: Int[Tensor, "N"] | None = None
    picture_sizes: Int[Tensor, "N 2"] | None = None
    has_image: Bool[Tensor, "B"] | None = None
    has_text: Bool[Tensor, "B"] | None = None
    text_of: Int[Tensor, "R"] | None = None
    fits: Bool[Tensor, "R"] | None = None
    answers: Int[Tensor, "R"] | None = None
    boxes: Float[Tensor, "M 4"] | None = None
    box_of: Int[Tensor, "M"] | None = None
    names: Int[Tensor, "M"] | None = None
    view: Batch | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on `device`."""
        moved = self._map(lambda tensor: tensor.to(device, non_blocking=True))
        moved.view = None if self.view is None else self.view.to(device)
        return moved

    def chunks(self, size: int) -> list[Batch]:
        """The batch cut into pieces of at most `size` samples, in order."""
        starts = range(0, len(self), size)
        pieces = [self._map(lambda tensor, a=a: tensor[a : a + size], self.ids[a : a + size]) for a in starts]
        for of, names in _RAGGED.items():
            owner = getattr(self, of)
            for start, piece in zip(starts, pieces if owner is not None else ()):
                own = (owner >= start) & (owner < start + size)
                setattr(piece, of, owner[own] - start)
                for name in names:
                    value = getattr(self, name)
                    setattr(piece, name, None if value is None else value[own])
        if self.view is not None:
            for piece, view in zip(pieces, self.view.chunks(size)):
                piece.view = view
        return pieces

    def _map(self, function: Any, ids: list[str] | None = None) -> Batch:
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("ids", "view")}
        mapped = {name: None if value is None else function(value) for name, value in values.items()}
        return Batch(ids=self.ids if ids is None else ids, **mapped)


class Losses(NamedTuple):
    """What `model(batch)` returns for every family.

    Attributes:
        total: the scalar to minimise.
        parts: its named terms, detached, e.g. {"loss/itc": ...}.
        chance: for some parts the value of a model that has learnt nothing, e.g. {"loss/itc": ln(batch)}.
        stats: anything else worth a curve, e.g. {"logit_scale": ..., "logit_scale_at_clamp": 0 or 1}.
        terms: how many `total` is a mean over, e.g. tokens to be said; None: the samples. The parts of a batch
            that is cut, or shared by processes, weigh as much.
        outputs: what the model said on the way, with gradient, for who teaches it (see `training.teaching`): "answers",
            logits R K of all questions over the model's list, and "sure", R, its confidence in the likeliest; "image"
            and "text", unit rows B D, and "scale", which makes logits of their products.
    """

    total: Tensor
    parts: dict[str, Tensor]
    chance: dict[str, float] = {}  # noqa: RUF012  (never mutated)
    stats: dict[str, Tensor | float] = {}  # noqa: RUF012
    terms: Tensor | None = None
    outputs: dict[str, Tensor] = {}  # noqa: RUF012


class Estimate(NamedTuple):
    """A number with its doubt: value, 95 % interval, number of samples, and what guessing would reach (or None)."""

    value: float
    low: float
    high: float
    n: int
    chance: float | None = None


# ---------------------------------------------------------------- what a model says


class Reply(NamedTuple):
    """A text that a model gave, and the probability in [0, 1] that it puts on being right; None if it does not tell."""

    text: str
    confidence: float | None = None


class Detection(NamedTuple):
    """A thing that a model found: its class, a score (higher is surer), its box as in `Object`, perhaps its mask."""

    name: str
    score: float
    box: tuple[float, float, float, float]
    mask: Mask | None = None
