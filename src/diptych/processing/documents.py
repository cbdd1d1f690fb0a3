"""Texts with pictures among them: conversations, running text, and questions with solved examples."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Bool, Int
from tokenizers import processors
from torch import Tensor

from diptych.processing.text import QUESTION, TextProcessor
from diptych.types import InputError, Message

IMAGE, CHUNK_END = "<image>", "<|endofchunk|>"

_FIRST_PLACES = re.compile(rf"((?:\s*{IMAGE})*)(.*)", re.DOTALL)


class Piece(NamedTuple):
    """Part of a document: `said` tells whether the model is to say it itself. `IMAGE` in its text is a picture."""

    text: str
    said: bool


class Rows(NamedTuple):
    """Documents as tokens; see `Batch`.

    Attributes:
        pictures: how many each row has a place for. Fewer than the document where it was too long.
    """

    tokens: Int[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]
    target_mask: Bool[Tensor, "B T"]
    pictures: list[int]


def add_places(words: TextProcessor, *, chunk_end: bool, taken: int = 1) -> TextProcessor:
    """The same tokenizer with `IMAGE`; with `chunk_end` also `CHUNK_END`, which from then on ends every text.

    The new tokens are the last ones, `IMAGE` the very last. Texts are shorter by `taken` positions: those of a picture.
    """
    start = str(words.tokenizer.id_to_token(words.bos_id))
    words.tokenizer.add_special_tokens([CHUNK_END, IMAGE] if chunk_end else [IMAGE])
    settings = dict(words.settings)
    if chunk_end:
        ends = [(token, words.tokenizer.token_to_id(token)) for token in (start, CHUNK_END)]
        words.tokenizer.post_processor = processors.TemplateProcessing(
            single=[start, "$A", CHUNK_END], special_tokens=ends
        )
        settings["eos_token"] = CHUNK_END
    return TextProcessor(
        words.tokenizer, words.context_length - taken, pad_id=words.pad_id, pad=words.pad, settings=settings
    )


def place(words: TextProcessor) -> int:
    """The number of the token `IMAGE`. Raises `InputError` for a tokenizer without it."""
    number = words.tokenizer.token_to_id(IMAGE)
    if number is None:
        raise InputError(f"tokenizer: expected the token {IMAGE}, so that pictures have a place; it has none")
    return int(number)


def pieces(messages: Sequence[Message]) -> list[Piece]:
    """What a model reads and says of a conversation or a document, in order.

    A user's turn is a question, put as `QUESTION` says after the pictures that it begins with; an assistant's turn and
    running text are said by the model; a system's turn is given to it.
    """
    found = []
    for message in messages:
        if message.role == "user":
            match = _FIRST_PLACES.fullmatch(message.text)
            assert match is not None
            places, question = "".join(match[1].split()), match[2].strip()
            found.append(Piece(places + (QUESTION.format(question) if question else ""), False))
        else:
            found.append(Piece(message.text, message.role != "system"))
    return found


def rows(words: TextProcessor, documents: Sequence[Sequence[Message]]) -> Rows:
    """Documents as tokens, cut at `context_length`. The model is to say what `pieces` tells, and the end of each chunk.

    With `CHUNK_END` in the tokenizer, text ends with it before each picture and at the end (Alayrac et al. 2022,
    section 3.1); without, the end token stands at the very end only.
    """
    made = _assemble(words, [pieces(messages) for messages in documents], ended=True)
    image, most = place(words), words.context_length
    tokens, mask = words.padded([ids[:most] for ids, _ in made])
    target, _ = words.padded([[int(one) for one in said[:most]] for _, said in made])
    counts = [ids[:most].count(image) for ids, _ in made]
    return Rows(tokens, mask, target.bool() & mask, counts)


def prompts(words: TextProcessor, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of texts with `IMAGE` in them, from the start token on, that the model is to go on with."""
    return [ids for ids, _ in _assemble(words, [[Piece(text, False)] for text in texts], ended=False)]


class FewShot(NamedTuple):
    """A question with solved examples before it.

    Attributes:
        prompt: to be asked as it is.
        pictures: which of the sample's pictures it has places for, in order.
        answer: what the conversation says next.
    """

    prompt: str
    pictures: list[int]
    answer: str


def few_shot(messages: Sequence[Message], shots: int | None = None) -> FewShot:
    """The last question of a conversation after its last `shots` solved ones; None: after all of them.

    Raises `InputError` for a conversation that does not end with a question and its answer.
    """
    if len(messages) < 2 or [message.role for message in messages[-2:]] != ["user", "assistant"]:
        raise InputError("messages: expected a question and its answer at the end, from 'user' and 'assistant'")
    asked = [i for i, message in enumerate(messages) if message.role == "user"]
    first = 0 if shots is None else asked[max(0, len(asked) - 1 - shots)]
    before = sum(message.text.count(IMAGE) for message in messages[:first])
    prompt = " ".join(piece.text.strip() for piece in pieces(messages[first:-1]))
    pictures = list(range(before, before + prompt.count(IMAGE)))
    return FewShot(prompt, pictures, messages[-1].text)


def _assemble(words: TextProcessor, documents: list[list[Piece]], *, ended: bool) -> list[tuple[list[int], list[bool]]]:
    """Each document's tokens and which of them the model is to say."""
    image, chunk_end = place(words), words.tokenizer.token_to_id(CHUNK_END)
    plan: list[list[tuple[str, bool]]] = []  # IMAGE, or text as it is to be tokenized, with what stands before it
    for some in documents:
        parts: list[tuple[str, bool]] = []
        for piece in some:
            for number, text in enumerate(piece.text.split(IMAGE)):
                if number:
                    parts.append((IMAGE, False))
                if text := " ".join(text.split()):
                    joined = bool(parts) and parts[-1][0] != IMAGE
                    parts.append((" " + text if joined else text, piece.said))
        plan.append(parts)
    encoded = iter(words.plain([text for parts in plan for text, _ in parts if text != IMAGE]))
    made = []
    for parts in plan:
        ids, said, last = [words.bos_id], [False], False
        for number, (text, own) in enumerate(parts):
            if text == IMAGE:
                if chunk_end is not None and number and parts[number - 1][0] != IMAGE:
                    ids.append(chunk_end)
                    said.append(last)
                ids.append(image)
                said.append(False)
            else:
                new = next(encoded)
                ids += new
                said += [own] * len(new)
                last = own
        if ended:
            ids.append(words.eos_id)
            said.append(bool(parts) and parts[-1][0] != IMAGE and last)
        made.append((ids, said))
    return made
