"""What the families that read picture and text together share: rows of a batch, heads, and what can be asked of them.

A family has a `processor` (`FusionProcessor`), `heads` (`Heads`) and

    see(pixels, sizes) -> (vectors of each picture N P D, which of them there are N P),
    join(tokens, token_mask, image, image_mask) -> Fused,
    asked(rows, image, image_mask), asked_of_two(...) -> what its heads answer questions from.

It takes `match`, `answer` and `fill` from here as its methods.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from diptych.blocks.bert import WordHead
from diptych.config import strict
from diptych.models.dual_encoder import field_of
from diptych.objectives.masked import RATE, hidden_words, with_masks
from diptych.objectives.matching import matching, replaced, same_rows
from diptych.processing.fusion import FusionProcessor
from diptych.types import NOT_ASKED, UNKNOWN, UNLISTED, Batch, InputError, Losses, Rejected, Reply

Picture = np.ndarray
"""uint8 H W 3."""


class Fused(NamedTuple):
    """What a model makes of texts with their pictures.

    Attributes:
        text: the state at each token.
        image: the state at each vector of the picture.
        pooled: one vector for the pair.
    """

    text: Float[Tensor, "R T D"]
    image: Float[Tensor, "R P D2"]
    pooled: Float[Tensor, "R D3"]


@runtime_checkable
class Fuses(Protocol):
    """A family that reads picture and text together."""

    processor: FusionProcessor
    heads: "Heads"

    def word_embedding(self) -> Float[Tensor, "V D"]: ...

    def see(self, pixels: Shaped[Tensor, "N C H W"]) -> tuple[Float[Tensor, "N P D"], Bool[Tensor, "N P"]]: ...

    def join(
        self,
        tokens: Int[Tensor, "R T"],
        token_mask: Bool[Tensor, "R T"],
        image: Float[Tensor, "R P D"],
        image_mask: Bool[Tensor, "R P"],
    ) -> Fused: ...

    def asked(self, some: "Rows", image: Tensor, image_mask: Tensor) -> Float[Tensor, "R D"]: ...

    def asked_of_two(self, some: "Rows", image: Tensor, image_mask: Tensor) -> Float[Tensor, "R D"]: ...


@strict
@dataclass(frozen=True)
class HeadsConfig:
    """What stands on a fusion encoder; a model can do what it has a head for.

    Attributes:
        words: guesses hidden words.
        fits: tells pairs that fit from others.
        answers, answers_of_two: entries of the list that questions about one picture, or about two, are answered from;
            0: no such head.
    """

    words: bool = True
    fits: bool = True
    answers: int = 0
    answers_of_two: int = 0


class Heads(nn.Module):
    """See `HeadsConfig`; `width` is that of a state at a token, `pooled` that of `Fused.pooled`.

    `of_two` is that of `asked_of_two`, where it is not twice `pooled`; `own_words` as `own` of `WordHead`.
    """

    def __init__(
        self,
        config: HeadsConfig,
        width: int,
        pooled: int,
        vocab_size: int,
        *,
        of_two: int | None = None,
        own_words: bool = False,
        norm_eps: float = 1e-12,
    ) -> None:
        super().__init__()
        self.words = WordHead(width, vocab_size, own=own_words, norm_eps=norm_eps) if config.words else None
        self.fits: nn.Module | None = nn.Linear(pooled, 2) if config.fits else None
        self.answers = _classifier(pooled, 2 * pooled, config.answers)
        self.answers_of_two = _classifier(of_two or 2 * pooled, 2 * pooled, config.answers_of_two)

    def of(self, name: str) -> Any:
        """The head. Raises `InputError` where the model has none."""
        head = getattr(self, name)
        if head is None:
            raise InputError(f"model: expected one with a head for {_HEADS[name]}; this one was not trained with any")
        return head


_HEADS = {
    "words": "hidden words",
    "fits": "matching",
    "answers": "questions about a picture",
    "answers_of_two": "questions about two pictures",
}


def _classifier(width: int, hidden: int, classes: int) -> nn.Sequential | None:
    """Two layers, as ViLT's heads of VQA and NLVR2 (Kim et al. 2021, section 4.2, and code)."""
    if not classes:
        return None
    return nn.Sequential(nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, classes))


class Rows(NamedTuple):
    """The texts of a batch, each with its picture.

    Attributes:
        sample: the number of each text's sample in the batch.
        picture: of its picture in `Batch.pixels`.
        second: of its second picture; None where no text has two.
        fits: False at texts that are known to be wrong.
        answers: as in `Batch`.
    """

    tokens: Int[Tensor, "R T"]
    mask: Bool[Tensor, "R T"]
    sample: Int[Tensor, "R"]
    picture: Int[Tensor, "R"]
    second: Int[Tensor, "R"] | None
    fits: Bool[Tensor, "R"]
    answers: Int[Tensor, "R"]

    def take(self, which: Bool[Tensor, "R"]) -> "Rows":
        """Some of them."""
        second = None if self.second is None else self.second[which]
        tokens, mask, sample = self.tokens[which], self.mask[which], self.sample[which]
        return Rows(tokens, mask, sample, self.picture[which], second, self.fits[which], self.answers[which])


def texts(batch: Batch) -> Rows:
    """The texts of a batch, which may have no pictures; `picture` is the sample's number then."""
    tokens, mask = field_of(batch, "tokens"), field_of(batch, "token_mask")
    sample = torch.arange(len(tokens), device=tokens.device) if batch.text_of is None else batch.text_of
    fits = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device) if batch.fits is None else batch.fits
    answers = torch.full_like(sample, NOT_ASKED) if batch.answers is None else batch.answers
    return Rows(tokens, mask, sample, sample, None, fits, answers)


def rows(batch: Batch) -> Rows:
    """The texts of a batch with their pictures, one for each sample, or two.

    Raises `InputError` for a batch without pictures or texts, or with another number of pictures a sample.
    """
    if batch.image_features is None:
        field_of(batch, "pixels")
    some = texts(batch)
    if batch.picture_of is None:
        return some
    counts = torch.bincount(batch.picture_of, minlength=len(batch))
    if not (counts == 2).all():
        raise InputError(f"batch: expected one picture a sample, or two, got {counts.tolist()[:5]}")
    return some._replace(picture=2 * some.sample, second=2 * some.sample + 1)


# ---------------------------------------------------------------- training


def hide(model: Fuses, some: Rows, *, rate: float = RATE) -> tuple[Int[Tensor, "R T"], Bool[Tensor, "R T"]]:
    """(the tokens with some words hidden, where something is to be guessed); whole words, see `hidden_words`."""
    words = model.processor.text
    starts, special = (table.to(some.tokens.device)[some.tokens] for table in (words.word_starts, words.special))
    where = hidden_words(starts, some.mask & ~special, rate)
    return with_masks(some.tokens, where, words.mask_id, words.vocab_size), where


def exchanged(some: Rows, drawn: Int[Tensor, "N"] | None = None) -> tuple[Int[Tensor, "R"], Bool[Tensor, "R"]]:
    """(the picture that each text gets, whether it fits): half of the true texts get the picture of another.

    Args:
        drawn: for each true text the number of the one whose picture it gets, its own for itself; evenly drawn if None.
    """
    true = some.take(some.fits)
    others = replaced(same_rows(true.tokens)) if drawn is None else drawn
    given = some.picture.clone()
    given[some.fits] = true.picture[others]
    fits = some.fits.clone()
    fits[some.fits] = others == torch.arange(len(others), device=others.device)
    return given, fits


class Terms:
    """The terms of a loss as they come up."""

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self.parts: dict[str, Tensor] = {}
        self.chance: dict[str, float] = {}
        self.stats: dict[str, Tensor | float] = {}
        self.outputs: dict[str, Tensor] = {}

    def add(self, name: str, loss: Float[Tensor, ""], *, weight: float = 1.0, chance: float | None = None) -> None:
        """One more: "loss/NAME". `chance` is its value for a model that has learnt nothing."""
        self.total = weight * loss if self.total is None else self.total + weight * loss
        self.parts[f"loss/{name}"] = loss.detach()
        if chance is not None:
            self.chance[f"loss/{name}"] = chance

    def losses(self) -> Losses:
        """Raises `InputError` where nothing came up."""
        if self.total is None:
            raise InputError("batch: expected captions or questions with pictures")
        return Losses(self.total, self.parts, self.chance, self.stats, outputs=self.outputs)


def guessed(
    model: Fuses, text: Float[Tensor, "R T D"], tokens: Int[Tensor, "R T"], where: Bool[Tensor, "R T"], found: Terms
) -> None:
    """The mean of -ln p(hidden token), "loss/mlm"; 0 where nothing is hidden."""
    guessed_by(model.heads.of("words"), text, model.word_embedding(), tokens, where, "mlm", found)


def guessed_by(
    head: nn.Module,
    text: Float[Tensor, "R T D"],
    words: Float[Tensor, "V D"],
    tokens: Int[Tensor, "R T"],
    where: Bool[Tensor, "R T"],
    name: str,
    found: Terms,
) -> None:
    """`guessed` by any head (`WordHead`) and under any name."""
    logits, wanted = head(text[where], words), tokens[where]
    loss = F.cross_entropy(logits.float(), wanted) if len(wanted) else logits.sum()
    found.add(name, loss, chance=math.log(logits.shape[1]))
    if len(wanted):
        found.stats[f"right/{name}"] = (logits.argmax(dim=1) == wanted).float().mean()


def answered(model: Fuses, some: Rows, image: Tensor, image_mask: Tensor, found: Terms) -> None:
    """Binary cross-entropy over the list of answers, summed over it and averaged over questions, "loss/vqa".

    (Kim et al. 2021, ViLT, section 4.2, and code.) An answer that is not in the list makes all of the list wrong. Of
    questions about two pictures it is cross-entropy, "loss/nlvr2", and unlisted answers are left out. A question whose
    answer nobody said costs nothing, so that every other question weighs as much in whatever batch it comes.
    """
    logits = answer_logits(model, some, image, image_mask)
    found.outputs |= {"answers": logits, "sure": sureness(logits.detach(), some).amax(dim=1)}
    known = some.answers != UNKNOWN
    share = float(known.float().mean())
    logits, some = logits[known], some.take(known)
    if some.second is not None:
        listed = some.answers != UNLISTED
        loss = F.cross_entropy(logits[listed].float(), some.answers[listed]) if listed.any() else logits.sum() * 0
        found.add("nlvr2", loss, weight=share, chance=math.log(logits.shape[1]))
        if len(logits):
            found.stats["right/nlvr2"] = (logits.argmax(dim=1) == some.answers).float().mean()
        return
    wanted = F.one_hot(some.answers.clamp(min=0), logits.shape[1]).float() * (some.answers != UNLISTED)[:, None]
    loss = F.binary_cross_entropy_with_logits(logits.float(), wanted, reduction="sum") / max(1, len(wanted))
    found.add("vqa", loss, weight=share, chance=logits.shape[1] * math.log(2))
    if len(wanted):
        found.stats["right/vqa"] = (logits.argmax(dim=1) == some.answers).float().mean()


def read_losses(model: Any, batch: Batch, seen: tuple[Tensor, Tensor] | None = None) -> Losses:
    """The objective of a model that learns captions in one pass, and questions by their answers.

    `seen` is what `see` gives of the batch's pictures, where that is known.
    """
    some = rows(batch)
    image, there = seen or model.see(field_of(batch, "pixels"), batch.picture_sizes)
    asked = some.answers != NOT_ASKED
    found = Terms()
    if not asked.all():
        told(model, some.take(~asked), image, there, found)
    if asked.any():
        answered(model, some.take(asked), image, there, found)
    return found.losses()


def told(
    model: Any, some: Rows, image: Tensor, there: Tensor, found: Terms
) -> tuple[Fused, Int[Tensor, "R"], Bool[Tensor, "R"]]:
    """Hidden words and matching of captions: (the states, the picture that each text got, whether it fits).

    Half of the captions get another picture; what is hidden is guessed in the others, because a wrong picture is no
    help to guess.
    """
    given, fits = exchanged(some) if model.heads.fits is not None else (some.picture, some.fits)
    seen, where = hide(model, some)
    fused = model.join(seen, some.mask, image[given], there[given])
    if model.heads.words is not None:
        guessed(model, fused.text, some.tokens, where & fits[:, None], found)
    if model.heads.fits is not None:
        found.add("itm", matching(model.heads.fits(fused.pooled), fits), chance=share_entropy(fits))
    return fused, given, fits


def share_entropy(fits: Bool[Tensor, "R"]) -> float:
    """The matching loss of a model that knows the share of pairs that fit and nothing else, in nats."""
    share = fits.float().mean().item()
    return -sum(p * math.log(p) for p in (share, 1 - share) if p > 0)


def ends(model: Fuses, tokens: Int[Tensor, "R T"]) -> Bool[Tensor, "R T"]:
    """Which tokens are special: the start and the end of a text."""
    return model.processor.text.special.to(tokens.device)[tokens]


def answer_logits(model: Fuses, some: Rows, image: Tensor, image_mask: Tensor) -> Float[Tensor, "R K"]:
    """Of questions about one picture, or about two."""
    if some.second is None:
        one: Tensor = model.heads.of("answers")(model.asked(some, image, image_mask))
        return one
    two: Tensor = model.heads.of("answers_of_two")(model.asked_of_two(some, image, image_mask))
    return two


def sureness(logits: Float[Tensor, "R K"], some: Rows) -> Float[Tensor, "R K"]:
    """How sure the model is of each answer, in [0, 1], by what its head was trained with (see `answered`)."""
    return logits.float().sigmoid() if some.second is None else logits.float().softmax(dim=1)


def pooled(model: Fuses, some: Rows, image: Tensor, image_mask: Tensor) -> Float[Tensor, "R D"]:
    """The pair of question and picture as one vector."""
    return model.join(some.tokens, some.mask, image[some.picture], image_mask[some.picture]).pooled


def pooled_of_two(model: Any, some: Rows, image: Tensor, image_mask: Tensor) -> Float[Tensor, "R D"]:
    """Both pictures are read with the statement, one after the other, the second as `second`; their vectors joined."""
    assert some.second is not None
    one = pooled(model, some, image, image_mask)
    two = model.join(some.tokens, some.mask, image[some.second], image_mask[some.second], second=True).pooled
    return torch.cat([one, two], dim=1)


# ---------------------------------------------------------------- what it can be asked


@torch.no_grad()
def match(model: Fuses, pictures: Sequence[Picture], texts: Sequence[str]) -> np.ndarray:
    """For each pair the logit of "fits" over "does not fit", float32."""
    image, image_mask = _seen(model, pictures)
    tokens, mask = _read(model, texts)
    logits = model.heads.of("fits")(model.join(tokens, mask, image, image_mask).pooled).float()
    scores: np.ndarray = (logits[:, 1] - logits[:, 0]).cpu().numpy()
    return scores


@torch.no_grad()
def fill(model: Fuses, pictures: Sequence[Picture], texts: Sequence[str]) -> list[list[str]]:
    """For each text the likeliest token at each of its masks ("a <mask> cube"), guessed independently."""
    image, image_mask = _seen(model, pictures)
    words = model.processor.text
    tokens, mask = (tensor.to(image.device) for tensor in words.masked(list(texts)))
    fused = model.join(tokens, mask, image, image_mask)
    guessed = model.heads.of("words")(fused.text.flatten(0, 1), model.word_embedding()).argmax(dim=1).view_as(tokens)
    where = (tokens == words.mask_id) & mask
    return [[words.decode([number]) for number in row[own].tolist()] for row, own in zip(guessed, where)]


@torch.no_grad()
def answer(
    model: Fuses,
    pictures: Sequence[Sequence[Picture]],
    questions: Sequence[str],
    choices: Sequence[Sequence[str]] | None = None,
) -> list[Reply | Rejected]:
    """The likeliest answer of the model's list, or of a question's choices, with its `sureness`.

    A choice that is not in the list has the confidence 0; a question of whose choices none is listed is rejected.
    """
    known = model.processor.answers
    number = {one: i for i, one in enumerate(known)}
    replies: list[Reply | Rejected] = [Reply("")] * len(questions)
    for count in (1, 2):
        own = [i for i, some in enumerate(pictures) if len(some) == count]
        if not own:
            continue
        image, image_mask = _seen(model, [picture for i in own for picture in pictures[i]])
        tokens, mask = _read(model, [questions[i] for i in own])
        first = torch.arange(len(own), device=tokens.device) * count
        none = torch.full_like(first, NOT_ASKED)
        second = first + 1 if count == 2 else None
        some = Rows(tokens, mask, first, first, second, torch.ones_like(first).bool(), none)
        logits = answer_logits(model, some, image, image_mask).cpu()
        for i, row, sure in zip(own, logits, sureness(logits, some)):
            listed = (
                [number[one] for one in choices[i] if one in number] if choices and choices[i] else range(len(known))
            )
            if not listed:
                replies[i] = Rejected("", "answer not listed", "none of the choices is in the list")
                continue
            best = max(listed, key=lambda one: float(row[one]))
            replies[i] = Reply(known[best], float(sure[best]))
    for i, shown in enumerate(pictures):
        if not shown:
            replies[i] = Rejected("", "no picture", "expected a picture to ask about")
        elif len(shown) > 2:
            replies[i] = Rejected("", "too many pictures", f"the model takes one or two, got {len(shown)}")
    return replies


def _seen(model: Any, pictures: Sequence[Picture]) -> tuple[Tensor, Tensor]:
    device = next(model.parameters()).device
    batch = model.processor.collate([""] * len(pictures), [np.asarray(picture) for picture in pictures], None)
    batch = batch.to(device)
    seen: tuple[Tensor, Tensor] = model.see(batch.pixels, batch.picture_sizes)
    return seen


def _read(model: Any, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    device = next(model.parameters()).device
    tokens, mask = model.processor.text(list(texts))
    return tokens.to(device), mask.to(device)
