"""Sources for tests: tiny language models with sharp opinions, and one whose probabilities are written down."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diptych.towers import DecoderConfig
from diptych.towers.decoder import Decoder
from diptych.towers.prompted import Prompted

VOCABULARY = 24
GPT2 = DecoderConfig(vocab_size=VOCABULARY, context_length=32, width=16, layers=2, heads=4, activation="gelu")
LLAMA = DecoderConfig(
    vocab_size=VOCABULARY,
    context_length=32,
    width=16,
    layers=2,
    heads=4,
    kv_heads=2,
    mlp_ratio=2.0,
    activation="swiglu",
    positions="rotary",
    normalization="rms",
    bias=False,
)


def sharp(config: DecoderConfig, seed: int = 0) -> Decoder:
    """Random weights that are large enough for clear preferences."""
    torch.manual_seed(seed)
    lm = Decoder(config).eval()
    with torch.no_grad():
        for weight in lm.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.5)
    return lm


@torch.no_grad()
def prompted(lm: Decoder, prompts: Sequence[Sequence[int]], *, left: bool = False) -> Prompted:
    """The prompts read in one batch, padded on the right or the left."""
    longest = max(map(len, prompts))
    tokens = torch.zeros(len(prompts), longest, dtype=torch.long)
    keep = torch.zeros(len(prompts), longest, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        place = slice(longest - len(prompt), longest) if left else slice(len(prompt))
        tokens[row, place] = torch.tensor(prompt)
        keep[row, place] = True
    return Prompted(lm, lm.embed(tokens), keep)


class Told:
    """A source whose next probabilities, and states, are a function of the text so far."""

    def __init__(
        self,
        probabilities: Callable[[tuple[int, ...]], Sequence[float]],
        state: Callable[[tuple[int, ...]], Sequence[float]] = lambda text: [1.0],
        prompts: Sequence[tuple[int, ...]] = ((),),
        prompt: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.probabilities, self.state, self.texts, self.prompt = probabilities, state, list(prompts), prompt
        self.computed: list[int] = []  # rows of each advance

    @property
    def hidden(self) -> Tensor:
        return torch.tensor([self.state(text) for text in self.texts])

    def logits(self) -> Tensor:
        return torch.tensor([self.probabilities(text) for text in self.texts]).log()

    def advance(self, tokens: Tensor) -> None:
        self.computed.append(len(tokens))
        self.texts = [(*text, int(token)) for text, token in zip(self.texts, tokens, strict=True)]
        self.prompt = None

    def select(self, rows: Tensor) -> None:
        self.texts = [self.texts[int(row)] for row in rows]
        if self.prompt is not None:
            self.prompt = (self.prompt[0][rows], self.prompt[1][rows])
