"""Captions to token ids through Rust's `tokenizers`, trimmed to the longest caption of the batch."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from diptych.capabilities import MASK
from diptych.config import read_file
from diptych.types import InputError

# <eos> is 1 and not 2: Hugging Face's CLIP takes eos_token_id == 2 as a sign of old checkpoints and pools elsewhere
SPECIAL = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>"}
_SMALLEST_VOCABULARY = len(SPECIAL) + 256
# the pattern of the published tokenizer
_CLIP_WORDS = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""

QUESTION = "Question: {} Answer:"
"""How a question is put to a language model; the answer goes on from here."""


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A lower-casing byte-level BPE with <pad>, <eos> and <bos>, learnt from `texts`.

    It has at most `vocab_size` entries, fewer where `texts` has fewer pairs to merge, and at least 259 (every byte and
    three special tokens), so that no text is out of its vocabulary.
    """
    if vocab_size < _SMALLEST_VOCABULARY:
        raise InputError(
            f"vocab_size: expected at least {_SMALLEST_VOCABULARY} (bytes and special tokens), got {vocab_size}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = _lower_case()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator((_well_formed(text) for text in texts), trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("<bos>", "<eos>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=ends)
    return tokenizer


def clip_tokenizer(vocab: Mapping[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """CLIP's own BPE from its `vocab.json` and `merges.txt`."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    model = models.BPE(
        vocab=dict(vocab),
        merges=merges,
        continuing_subword_prefix="",
        end_of_word_suffix="</w>",
        fuse_unk=False,
        unk_token=end,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = _lower_case()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([start, end])
    tokenizer.post_processor = processors.RobertaProcessing((end, vocab[end]), (start, vocab[start]), False, False)
    return tokenizer


class TextProcessor:
    """Texts to (tokens, mask). Special tokens come from the tokenizer's own post-processor.

    A text longer than `context_length` tokens loses its end, and the end token stays last. Special tokens that are
    spelt out in a caption are read as ordinary text, so that no caption can end itself early.

    Args:
        tokenizer: owned by this object from here on.
        context_length: most tokens of one text, special tokens included.
        pad_id: fills up short texts; `token_mask` is False there.
        pad: "longest" trims to the longest text of a batch, "max" always pads to `context_length`.
        settings: further entries of `tokenizer_config.json`, kept when saving.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        context_length: int,
        *,
        pad_id: int = 0,
        pad: Literal["longest", "max"] = "longest",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        special = tokenizer.num_special_tokens_to_add(is_pair=False)
        if context_length <= special:
            raise InputError(f"context_length: expected more than {special} tokens, got {context_length}")
        tokenizer.no_padding()
        tokenizer.enable_truncation(context_length)
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer
        self.context_length = context_length
        self.pad_id = pad_id
        self.pad: Literal["longest", "max"] = pad
        self.settings = dict(settings or {})

    @classmethod
    def train(
        cls, captions: Iterable[str], vocab_size: int, context_length: int, *, mask: bool = False
    ) -> "TextProcessor":
        """A new tokenizer learnt from `captions`; with `mask` it has the token `MASK`, its last, too."""
        tokenizer = train_tokenizer(captions, vocab_size - mask)
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", **SPECIAL}
        if mask:
            tokenizer.add_special_tokens([MASK])
            settings["mask_token"] = MASK
        return cls(tokenizer, context_length, pad_id=_pad_id(tokenizer, SPECIAL), settings=settings)

    @classmethod
    def for_language(cls, tokenizer_file: str | Path, context_length: int, bos: str, eos: str) -> "TextProcessor":
        """The tokenizer of a pretrained language model; every row is `bos`, the text, `eos`.

        Short rows are filled with the end token where the tokenizer has none for it: only the mask tells them apart.
        Raises `InputError` where `bos` or `eos` is no token.
        """
        tokenizer = _read_tokenizer(Path(tokenizer_file).parent)
        ends = [(token, tokenizer.token_to_id(token)) for token in dict.fromkeys((bos, eos))]
        for token, number in ends:
            if number is None:
                raise InputError(f"{tokenizer_file}: expected the token {token!r}, the start or end of a text")
        tokenizer.add_special_tokens([token for token, _ in ends])  # so that `decode` leaves them out
        tokenizer.post_processor = processors.TemplateProcessing(single=[bos, "$A", eos], special_tokens=ends)
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": eos}
        return cls(tokenizer, context_length, pad_id=_pad_id(tokenizer, {}), settings=settings)

    @property
    def vocab_size(self) -> int:
        """Number of entries, added special tokens included."""
        return int(self.tokenizer.get_vocab_size())

    @property
    def eos_id(self) -> int:
        """The token that ends every text."""
        return int(self.tokenizer.encode("").ids[-1])

    @property
    def bos_id(self) -> int:
        """The token that starts every text."""
        return int(self.tokenizer.encode("").ids[0])

    @property
    def mask_id(self) -> int:
        """The token that stands where a word is hidden. Raises `InputError` for a tokenizer without one."""
        named = self.settings.get("mask_token", "[MASK]")
        number = self.tokenizer.token_to_id(named["content"] if isinstance(named, Mapping) else named)
        if number is None:
            raise InputError("tokenizer: expected a token that hides words, e.g. [MASK]; it has none")
        return int(number)

    @cached_property
    def word_starts(self) -> Bool[Tensor, "V"]:
        """Which entries begin a word: those with a space before them, or in WordPiece those without "##"."""
        entries = [self.tokenizer.id_to_token(i) or "" for i in range(self.vocab_size)]
        if any(entry.startswith("##") for entry in entries):
            return torch.tensor([not entry.startswith("##") for entry in entries])
        return torch.tensor([entry.startswith(("\u0120", "\u2581")) for entry in entries])

    @cached_property
    def special(self) -> Bool[Tensor, "V"]:
        """Which entries are special tokens."""
        added = self.tokenizer.get_added_tokens_decoder()
        return torch.tensor([i in added and added[i].special for i in range(self.vocab_size)])

    def __call__(self, texts: list[str]) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """Token ids (int64) padded on the right, and a mask that is True on real tokens."""
        try:
            encoded = self.tokenizer.encode_batch_fast(texts)
        except TypeError:  # a text with half a surrogate pair, as broken scrapes have
            encoded = self.tokenizer.encode_batch_fast([_well_formed(text) for text in texts])
        return self.padded([encoding.ids for encoding in encoded])

    def answers(
        self,
        questions: list[str],
        texts: list[str],
        more: Sequence[Sequence[tuple[str, str]]] | None = None,
    ) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """(tokens, mask, target mask) of texts that are each to be said after a question, "" for none.

        A row is the start token, the question put as `QUESTION` says, the text and the end token; the target mask is
        True at the last two. What is too long loses the question's beginning, and a long text its end.

        Args:
            more: (question, answer) pairs that go on each row in the same way, as many as have room; "" asks nothing.
        """
        rows, said = [], []
        for prompt, target in zip(self.prompts(questions), self._continuations(questions, texts)):
            target = [*target[: self.context_length - 2], self.eos_id]
            room = self.context_length - len(target)  # the start token included
            prompt = [prompt[0], *prompt[max(1, len(prompt) - room + 1) :]]
            rows.append(prompt + target)
            said.append([False] * len(prompt) + [True] * len(target))
        if more is not None:
            turns = [turn for some in more for turn in some]
            asked = iter(self.prompts([question for question, _ in turns]))
            told = iter(self._continuations([question for question, _ in turns], [answer for _, answer in turns]))
            for row, own, some in zip(rows, said, more, strict=True):
                for (_, *prompt), target in [(next(asked), next(told)) for _ in some]:
                    if len(row) + len(prompt) + len(target) >= self.context_length:
                        break
                    row += [*prompt, *target, self.eos_id]
                    own += [False] * len(prompt) + [True] * (len(target) + 1)
        tokens, mask = self.padded(rows)
        target_mask = torch.zeros_like(mask)
        target_mask[mask] = torch.tensor([one for own in said for one in own])
        return tokens, mask, target_mask

    def prompts(self, questions: list[str]) -> list[list[int]]:
        """The tokens that come before the answer to each question: the start token alone where the question is ""."""
        asked = [QUESTION.format(question) if question else "" for question in questions]
        return [[self.bos_id, *ids] for ids in self.plain(asked)]

    def _continuations(self, questions: list[str], texts: list[str]) -> list[list[int]]:
        return self.plain([f" {text}" if question else text for question, text in zip(questions, texts)])

    def plain(self, texts: list[str]) -> list[list[int]]:
        """Token ids without start and end, however many."""
        encoded = self._whole.encode_batch_fast([_well_formed(text) for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in encoded]

    @cached_property
    def _whole(self) -> Tokenizer:
        """The same tokenizer, which cuts nothing."""
        whole = Tokenizer.from_str(self.tokenizer.to_str())
        whole.no_truncation()
        whole.encode_special_tokens = True
        return whole

    def masked(self, texts: list[str]) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """As a call, but each `MASK` in a text is the token that hides a word."""
        rows = []
        for text in texts:
            first, *rest = self.plain([part.strip() for part in text.split(MASK)])
            row = first + [token for part in rest for token in (self.mask_id, *part)]
            rows.append([self.bos_id, *row[: self.context_length - 2], self.eos_id])
        return self.padded(rows)

    def decode(self, tokens: list[int]) -> str:
        """The text of some tokens, special ones left out."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def padded(self, rows: list[list[int]]) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """Rows of token ids (int64) padded on the right, and a mask that is True on real tokens."""
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        width = self.context_length if self.pad == "max" else int(lengths.max(initial=0))
        mask = np.arange(width) < lengths[:, None]
        tokens = np.full((len(rows), width), self.pad_id, dtype=np.int64)
        tokens[mask] = np.fromiter((token for row in rows for token in row), dtype=np.int64, count=int(lengths.sum()))
        return torch.from_numpy(tokens), torch.from_numpy(mask)

    def fingerprint(self) -> str:
        """A short hash of everything that changes the tokens a model sees."""
        state = f"{self.tokenizer.to_str()} {self.context_length} {self.pad_id} {self.pad}"
        return hashlib.sha256(state.encode()).hexdigest()[:16]

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, which `transformers.AutoTokenizer` reads too."""
        settings = self.settings | {
            "model_max_length": self.context_length,
            "pad_token": self.tokenizer.id_to_token(self.pad_id),
            "diptych_pad": self.pad,
        }
        (Path(folder) / "tokenizer.json").write_text(self.tokenizer.to_str(pretty=True), encoding="utf-8")
        (Path(folder) / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, context_length: int | None = None) -> "TextProcessor":
        """Read what `save` wrote, or a Hugging Face folder: `tokenizer.json`, or CLIP's `vocab.json` and `merges.txt`.

        `context_length` overrides the folder's `model_max_length`. Raises `InputError`.
        """
        folder = Path(folder)
        config_file = folder / "tokenizer_config.json"
        settings = read_file(config_file) if config_file.is_file() else {}
        pad = settings.pop("diptych_pad", "longest")
        if pad not in ("longest", "max"):
            raise InputError(f"{config_file}: diptych_pad: expected 'longest' or 'max', got {pad!r}")
        tokenizer = _read_tokenizer(folder)
        length = context_length or settings.get("model_max_length")
        if not isinstance(length, int) or length > 1_000_000:  # transformers writes 10^30 for "not known"
            raise InputError(
                f"{config_file}: model_max_length: expected the number of tokens the model takes, got {length!r}"
            )
        return cls(tokenizer, length, pad_id=_pad_id(tokenizer, settings), pad=pad, settings=settings)

    @classmethod
    def from_file(cls, tokenizer_file: str | Path, context_length: int) -> "TextProcessor":
        """From a `tokenizer.json` (or any file of a folder that `load` reads), e.g. of a pretrained text tower."""
        return cls.load(Path(tokenizer_file).parent, context_length)


def _lower_case() -> Any:
    return normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])


def _well_formed(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _read_tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if path.is_file():
        try:
            return Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # the Rust side raises bare Exception
            raise InputError(f"{path}: cannot be read as a tokenizer: {error}") from None
    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    if not (vocab.is_file() and merges.is_file()):
        raise InputError(f"{folder}: expected tokenizer.json, or vocab.json and merges.txt, found neither")
    entries = read_file(vocab)
    missing = [token for token in ("<|startoftext|>", "<|endoftext|>") if token not in entries]
    if missing:
        raise InputError(
            f"{vocab}: expected CLIP's vocabulary, but {missing[0]} is missing; save tokenizer.json instead"
        )
    lines = merges.read_text(encoding="utf-8").split("\n")
    pairs = [tuple(line.split()) for line in lines if line.strip() and not line.startswith("#version")]
    bad = next((pair for pair in pairs if len(pair) != 2), None)
    if bad is not None:
        raise InputError(f"{merges}: expected two tokens on a line, got {' '.join(bad)!r}")
    return clip_tokenizer(entries, [(pair[0], pair[1]) for pair in pairs])


def _pad_id(tokenizer: Tokenizer, settings: Mapping[str, Any]) -> int:
    """The padding token: the config's, else what the tokenizer pads with, else a usual name, else the end token."""
    named = settings.get("pad_token")
    named = named.get("content") if isinstance(named, Mapping) else named
    padding = tokenizer.padding or {}
    for token in (named, padding.get("pad_token"), "<pad>", "[PAD]"):
        number = tokenizer.token_to_id(token) if isinstance(token, str) else None
        if number is not None:
            return int(number)
    return int(tokenizer.encode("").ids[-1])
