"""Any image-text-to-text model that transformers loads: captions, answers, and which of some choices is likeliest."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn

from diptych.machine import best_device, uses_bf16
from diptych.models.hf_folder import processor_of, quietly, read_model
from diptych.types import InputError, Rejected, Reply

CAPTION_TOKENS, ANSWER_TOKENS = 48, 32  # the longest reply
_LONGEST = 300  # characters of a foreign message that are shown
_Pixels = Sequence[np.ndarray]


class HFWriter(nn.Module):
    """`WritesCaptions` and `AnswersQuestions` around a transformers model, held as `.model`; decoding is greedy.

    A model with a chat template is asked in it, others with a plain prompt. Nothing is ever padded: questions share a
    batch where their inputs have the same shape, so that no answer depends on what else is asked.

    Attributes:
        caption_prompt: what a caption is asked for with.
        question_prompt: what `{}`, the question, is put into.
    """

    def __init__(self, model: Any, processor: Any, address: str) -> None:
        super().__init__()
        self.model = model
        self.words = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.address = address
        self.chats = bool(getattr(processor, "chat_template", None))
        self.marks_pictures = self.takes_several = True
        self.caption_prompt = "Describe this picture in one short sentence." if self.chats else "a photo of"
        self.question_prompt = "{}" if self.chats else "Question: {} Answer:"
        settings = model.generation_config
        ends = settings.eos_token_id if settings.eos_token_id is not None else self.tokenizer.eos_token_id
        self._ends = set(ends if isinstance(ends, list) else [ends]) - {None}
        if settings.pad_token_id is None:  # what finished rows of a batch go on with
            settings.pad_token_id = next(iter(self._ends), 0)

    def caption(self, pictures: _Pixels) -> list[Reply | Rejected]:
        """A sentence about each picture; the confidence is as in `answer`."""
        return self._write([[one] for one in pictures], [self.caption_prompt] * len(pictures), CAPTION_TOKENS)

    def answer(
        self,
        pictures: Sequence[_Pixels],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]] | None = None,
    ) -> list[Reply | Rejected]:
        """An answer to each question about one or several pictures.

        In its own words the confidence is exp of the mean log-probability of the reply's tokens. With choices it is
        the likeliest of them, and the confidence its likelihood divided by the sum over the choices. A choice that
        another one begins with ("1" and "10") counts only what the longer one leaves of it.
        """
        prompts = [self.question_prompt.format(question) for question in questions]
        replies: list[Reply | Rejected] = [Reply("")] * len(prompts)
        free = [i for i in range(len(prompts)) if not (choices and choices[i])]
        written = self._write([pictures[i] for i in free], [prompts[i] for i in free], ANSWER_TOKENS)
        for i, reply in zip(free, written):
            replies[i] = reply
        for i in sorted(set(range(len(prompts))) - set(free)):
            assert choices is not None
            try:
                replies[i] = self._choose(pictures[i], prompts[i], choices[i])
            except _Unusable as error:
                replies[i] = error.rejected
        return replies

    def settle_prompt(self) -> None:
        """Find out whether a plain prompt must mark its pictures, and whether there can be several of them.

        Raises `InputError` for a model that takes not even one.
        """
        grey = np.full((64, 64, 3), 128, np.uint8)
        for marked in (True,) if self.chats else (True, False):
            self.marks_pictures = marked
            reason = self._fails([grey])
            if not reason:
                self.takes_several = not self._fails([grey, grey])
                return
        raise InputError(f"{self.address}: the model cannot be asked about a picture: {reason}")

    def _fails(self, pictures: _Pixels) -> str:
        """Why no token can be had for these pictures; "" if it can."""
        try:
            self._generate([self._inputs(pictures, self.caption_prompt)], _Surest(), 1)
        except Exception as error:  # whatever transformers' models raise where text and pictures do not fit together
            return " ".join(str(error).split())[:_LONGEST] or type(error).__name__
        return ""

    # ------------------------------------------------------------ asking

    def _write(self, pictures: Sequence[_Pixels], prompts: Sequence[str], most: int) -> list[Reply | Rejected]:
        replies: list[Reply | Rejected] = [Reply("")] * len(prompts)
        alike: dict[Any, list[tuple[int, dict[str, Tensor]]]] = {}
        for i, (some, prompt) in enumerate(zip(pictures, prompts)):
            try:
                inputs = self._inputs(some, prompt)
            except _Unusable as error:
                replies[i] = error.rejected
                continue
            shapes = tuple((name, tuple(value.shape)) for name, value in sorted(inputs.items()))
            alike.setdefault(shapes, []).append((i, inputs))
        for group in alike.values():
            surest = _Surest()
            rows = self._generate([inputs for _, inputs in group], surest, most)
            logs = torch.stack(surest.logs, dim=1)
            for (i, _), row, log in zip(group, rows, logs):
                replies[i] = self._reply(row.tolist(), log)
        return replies

    def _reply(self, row: list[int], logs: Float[Tensor, "T"]) -> Reply:
        length = next((i + 1 for i, token in enumerate(row) if token in self._ends), len(row))
        text = self.tokenizer.decode(row[:length], skip_special_tokens=True)
        return Reply(" ".join(text.split()), float(logs[:length].mean().exp()))

    def _choose(self, pictures: _Pixels, prompt: str, choices: Sequence[str]) -> Reply:
        tails = self._tails(prompt, choices)
        contexts = {tail[:-1] for tail in tails}
        contexts = {one for one in contexts if not any(one != other and _begins(other, one) for other in contexts)}
        forced = _Forced(sorted(contexts))
        self._generate([self._inputs(pictures, prompt)] * len(contexts), forced, max(map(len, tails)))
        logs = torch.tensor([forced.log_likelihood(tail) for tail in tails], dtype=torch.float64)
        mass = torch.exp(logs - logs.max())
        for i in sorted(range(len(tails)), key=lambda i: -len(tails[i])):  # what goes on into a longer choice is not it
            longer = [j for j, tail in enumerate(tails) if len(tail) > len(tails[i]) and _begins(tail, tails[i])]
            mass[i] = (mass[i] - mass[longer].sum()).clamp(min=0)
        best = int(mass.argmax())
        return Reply(choices[best], float(mass[best] / mass.sum()))

    def _tails(self, prompt: str, choices: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of each choice as they go on from the end of the prompt."""
        start = (self._text(prompt, 0).splitlines() or [""])[-1]
        space = "" if not start or start[-1].isspace() else " "

        def tokens(text: str) -> tuple[int, ...]:
            return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

        before = tokens(start) if start else ()
        tails = []
        for choice in choices:
            whole = tokens(start + space + choice)
            tail = whole[len(before) :] if _begins(whole, before) else ()
            tails.append(tail or tokens(choice))
            if not tails[-1]:
                raise _Unusable(Rejected("", "model cannot take it", f"the choice {choice!r} has no tokens"))
        return tails

    # ------------------------------------------------------------ the model

    def _text(self, prompt: str, count: int) -> str:
        """The whole text that the model is given, with marks for its pictures."""
        if self.chats:
            content = [{"type": "image"}] * count + [{"type": "text", "text": prompt}]
            message = {"role": "user", "content": content}
            return str(self.words.apply_chat_template([message], add_generation_prompt=True, tokenize=False))
        mark = getattr(self.words, "image_token", None) if self.marks_pictures else None
        return f"{mark}" * count + prompt if isinstance(mark, str) else prompt

    def _inputs(self, pictures: _Pixels, prompt: str) -> dict[str, Tensor]:
        """One question as the model wants it, a batch of one. Raises `_Unusable`."""
        if len(pictures) > 1 and not self.takes_several:
            raise _Unusable(Rejected("", "too many pictures", f"the model takes one, got {len(pictures)}"))
        images = [Image.fromarray(pixels) for pixels in pictures]
        text = self._text(prompt, len(images))
        special = {"add_special_tokens": False} if self.chats and self._starts(text) else {}
        try:
            try:
                found = self.words(text=[text], images=images, return_tensors="pt", **special)
            except (ValueError, TypeError):
                found = self.words(text=[text], images=[images], return_tensors="pt", **special)
        except Exception as error:  # processors raise what they like: too small, too many pictures, ...
            raise _Unusable(Rejected("", "model cannot take it", " ".join(str(error).split())[:_LONGEST])) from None
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def _starts(self, text: str) -> bool:
        """Whether the chat template wrote the token that the tokenizer would put first."""
        return bool(self.tokenizer.bos_token) and text.startswith(self.tokenizer.bos_token)

    def _generate(self, items: Sequence[dict[str, Tensor]], watcher: Any, most: int) -> Int[Tensor, "B T"]:
        """The new tokens of each item, chosen greedily; `watcher` sees the scores of each step."""
        weights = next(self.model.parameters())
        batch = {name: torch.cat([item[name] for item in items]).to(weights.device) for name in items[0]}
        batch = {name: x.to(weights.dtype) if x.is_floating_point() else x for name, x in batch.items()}
        rows: Tensor = self.model.generate(
            **batch,
            max_new_tokens=most,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            logits_processor=[watcher],
        )
        return rows[:, rows.shape[1] - len(watcher.logs) :].cpu()


class _Unusable(Exception):
    """A question that the model cannot be given."""

    def __init__(self, rejected: Rejected) -> None:
        super().__init__(rejected.detail)
        self.rejected = rejected


class _Surest:
    """Keeps the log-probability of the likeliest token of every step, which is the one that greedy decoding takes."""

    def __init__(self) -> None:
        self.logs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.logs.append(scores.float().log_softmax(dim=-1).amax(dim=-1).cpu())
        return scores


class _Forced:
    """Makes the model write given tokens, a row of them for each item, and keeps what it thought of every token."""

    def __init__(self, rows: Sequence[tuple[int, ...]]) -> None:
        self.rows = rows
        self.logs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = len(self.logs)
        self.logs.append(scores.float().log_softmax(dim=-1).cpu())
        forced = torch.full_like(scores, -torch.inf)
        for i, row in enumerate(self.rows):
            forced[i, row[step] if step < len(row) else 0] = 0
        return forced

    def log_likelihood(self, tokens: tuple[int, ...]) -> float:
        """Of `tokens`, all but the last of which begin one of the rows."""
        row = next(i for i, row in enumerate(self.rows) if _begins(row, tokens[:-1]))
        return float(sum(self.logs[step][row, token] for step, token in enumerate(tokens)))


def load(folder: Path, model_class: Any) -> HFWriter:
    """The image-text-to-text model in a Hugging Face folder, in eval mode.

    Weights in half precision are computed with in bfloat16 where the machine does that natively, else in float32.
    Raises `InputError` where it cannot be loaded or asked.
    """
    from transformers import AutoConfig

    with quietly(folder):
        stored = getattr(AutoConfig.from_pretrained(folder, local_files_only=True), "dtype", None)
    half = stored in (torch.float16, torch.bfloat16) and uses_bf16(best_device())
    net = read_model(folder, model_class, torch.bfloat16 if half else torch.float32)
    model = HFWriter(net, processor_of(folder), str(folder)).eval()
    with torch.no_grad():
        model.settle_prompt()
    return model


def _begins(tokens: Iterable[int], with_these: Sequence[int]) -> bool:
    return tuple(tokens)[: len(with_these)] == tuple(with_these)
