"""What every family that writes text shares: captions and answers from `read`, which gives it pictures and prompts.

A family has a `processor` and

    read(pictures, prompts) -> a `decoding.Source` with one row for each prompt,

where `pictures[i]` are the pictures of prompt i, decoded by the processor, and `prompts[i]` its tokens, the start token
first. It takes `caption` and `answer` from here as its methods.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from diptych.decoding import Source, Written, beam_search, likelihoods, write
from diptych.models.dual_encoder import field_of
from diptych.processing import PairProcessor, TextProcessor, documents
from diptych.processing.documents import IMAGE
from diptych.types import Batch, Rejected, Reply

Picture = np.ndarray
"""uint8 H W 3."""

CAPTION_TOKENS, ANSWER_TOKENS = 64, 16  # the longest reply


@runtime_checkable
class Speaks(Protocol):
    """A family that writes text."""

    processor: PairProcessor
    takes_several: bool
    """Whether a text may be about several pictures."""

    def read(self, pictures: Sequence[Sequence[Picture]], prompts: Sequence[Sequence[int]]) -> Source: ...


def caption(model: Speaks, pictures: Sequence[Picture], beams: int = 1) -> list[Reply | Rejected]:
    """A sentence about each picture; the confidence is `Written.confidence`.

    Args:
        beams: texts that are followed at a time (`decoding.beam_search`); 1 writes greedily.
    """
    prompts = model.processor.text.prompts([""] * len(pictures))
    return _captions(model, pictures, prompts, beams)


def complete(
    model: Speaks, pictures: Sequence[Picture], beginnings: Sequence[str], read: Any = None
) -> list[Reply | Rejected]:
    """How the caption of each picture goes on after its beginning, written greedily; `read` is the model's if None."""
    tokens, keep = model.processor.text(list(beginnings))
    prompts = [row[kept][:-1].tolist() for row, kept in zip(tokens, keep)]  # without the end token
    return _captions(model, pictures, prompts, read=read)


def answer(
    model: Speaks,
    pictures: Sequence[Sequence[Picture]],
    questions: Sequence[str],
    choices: Sequence[Sequence[str]] | None = None,
) -> list[Reply | Rejected]:
    """An answer to each question: the likeliest of its choices, or where it has none the model's own words.

    Of choices the reply is the likeliest as a whole, word for word, and the confidence its likelihood divided by that
    of all its choices. Own words are written greedily and their confidence is `Written.confidence`.

    A model that takes several pictures takes a whole prompt too: a text with `<image>` for each of its pictures, e.g.
    with solved examples (see `processing.documents.few_shot`).
    """
    replies: list[Reply | Rejected] = [Reply("")] * len(questions)
    fine = []
    for i, some in enumerate(pictures):
        if len(some) == 1 or (some and model.takes_several):
            fine.append(i)
        elif not some:
            replies[i] = Rejected("", "no picture", "expected a picture to ask about")
        else:
            replies[i] = Rejected("", "too many pictures", f"the model takes one, got {len(some)}")
    options = [list(choices[i]) if choices else [] for i in range(len(questions))]
    free, choosing = [i for i in fine if not options[i]], [i for i in fine if options[i]]
    if free:
        prompts = _prompts(model.processor.text, [questions[i] for i in free], ANSWER_TOKENS)
        source = model.read([pictures[i] for i in free], prompts)
        for i, text in zip(free, _write(model, source, ANSWER_TOKENS)):
            replies[i] = _reply(model, text)
    if choosing:
        asked = [questions[i] for i in choosing]
        likeliest = _choose(model, [pictures[i] for i in choosing], asked, [options[i] for i in choosing])
        for i, reply in zip(choosing, likeliest):
            replies[i] = reply
    return replies


def stack(model: Any, pictures: Sequence[Picture]) -> Tensor:
    """Decoded pictures as uint8 B C H W on the model's device."""
    device = next(model.parameters()).device
    batch = model.processor.collate([""] * len(pictures), [np.asarray(picture) for picture in pictures], None)
    pixels: Tensor = batch.pixels.to(device)
    return pixels


def padded(model: Any, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """(tokens, mask) of prompts on the model's device."""
    device = next(model.parameters()).device
    tokens, mask = model.processor.text.padded([list(prompt) for prompt in prompts])
    return tokens.to(device), mask.to(device)


def targets(batch: Batch) -> Tensor:
    """Which tokens a batch asks for: its target mask, or all tokens but the first."""
    if batch.target_mask is not None:
        return batch.target_mask
    mask: Tensor = field_of(batch, "token_mask").clone()
    mask[:, 0] = False
    return mask


def _prompts(words: TextProcessor, questions: Sequence[str], room: int) -> list[list[int]]:
    """The tokens of questions; one with places for its pictures is a prompt that is taken as it is.

    Of a question that leaves no room for so many tokens the beginning is left out, as in training.
    """
    has_places = words.tokenizer.token_to_id(IMAGE) is not None
    placed = [has_places and IMAGE in question for question in questions]
    most = max(1, words.context_length - room - 1)
    plain = words.prompts([question for question, one in zip(questions, placed) if not one])
    cut = iter([[prompt[0], *prompt[1:][-most:]] for prompt in plain])
    if not any(placed):
        return list(cut)
    taken = iter(documents.prompts(words, [question for question, one in zip(questions, placed) if one]))
    return [next(taken if one else cut) for one in placed]


def _choose(
    model: Speaks,
    pictures: Sequence[Sequence[Picture]],
    questions: Sequence[str],
    choices: Sequence[Sequence[str]],
) -> list[Reply]:
    """The likeliest choice of each question; a choice is tokenized as an answer is in training."""
    words = model.processor.text
    told = [[f" {choice}" if question else choice for choice in some] for question, some in zip(questions, choices)]
    spelt = [[ids[: words.context_length - 2] for ids in words.plain(some)] for some in told]  # as in training
    longest = max(len(choice) for some in spelt for choice in some)
    source = model.read(pictures, _prompts(words, questions, max(ANSWER_TOKENS, longest + 1)))
    replies = []
    for some, logs in zip(choices, likelihoods(source, spelt, end=words.eos_id)):
        shares = np.exp(np.array(logs) - max(logs))
        best = int(shares.argmax())
        replies.append(Reply(some[best], float(shares[best] / shares.sum())))
    return replies


def _captions(
    model: Speaks, pictures: Sequence[Picture], prompts: list[list[int]], beams: int = 1, read: Any = None
) -> list[Reply | Rejected]:
    """Captions of at most `CAPTION_TOKENS`, and as long as the model has read any, their beginnings included."""
    longest = max(map(len, prompts), default=1)
    most = max(1, min(CAPTION_TOKENS, model.processor.text.context_length - longest))
    source = (read or model.read)([[picture] for picture in pictures], prompts)
    if beams == 1:
        return [_reply(model, text) for text in _write(model, source, most)]
    found = beam_search(source, end=model.processor.text.eos_id, most=most, beams=beams)
    return [_reply(model, texts[0]) for texts in found]


def _write(model: Speaks, source: Source, most: int) -> list[Written]:
    return write(source, end=model.processor.text.eos_id, most=most)


def _reply(model: Speaks, text: Written) -> Reply:
    return Reply(" ".join(model.processor.text.decode(text.tokens).split()), text.confidence)
