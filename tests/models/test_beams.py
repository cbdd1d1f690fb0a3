"""Beam search through the families whose texts have one picture: with a cache, in a batch, and by reading it all again.

Frozen and Flamingo are in test_interleaved_families.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from uncached import Uncached

from diptych.decoding import beam_search
from diptych.models import family
from diptych.models.simvlm import SimVLMConfig
from diptych.models.virtex import VirTexConfig
from diptych.models.visualgpt import VisualGPTConfig
from diptych.processing import ImageConfig
from diptych.tasks import caption
from diptych.towers import DecoderConfig, ResNetConfig
from diptych.types import Batch, InputError

VISION = ResNetConfig(depths=(1, 1), stem_width=16, block="basic")
WORDS = DecoderConfig(vocab_size=300, context_length=64, width=32, layers=2, heads=4)
IMAGE = ImageConfig(size=32)
CONFIGS: dict[str, Any] = {
    "virtex": VirTexConfig(VISION, WORDS, IMAGE),
    "simvlm": SimVLMConfig(VISION, WORDS, IMAGE, grid=4, encoder_layers=1),
    "visualgpt": VisualGPTConfig(VISION, WORDS, image=IMAGE, encoder_layers=2),
}
TEXTS = ["a red cube stands on the grass", "two blue balls", "what is behind the cone?"] * 3


@pytest.fixture(params=list(CONFIGS))
def model(request: pytest.FixtureRequest) -> Any:
    """A fresh model whose weights are large enough for its words to depend on picture and text."""
    made = family(request.param).new(CONFIGS[request.param], TEXTS, seed=3).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3 if parameter.ndim == 2 else 1)
    return made


def whole(model: Any, picture: Tensor, prompt: list[int], tokens: Tensor) -> Tensor:
    """The states of a text that is read at once: what the family's equations say, without its way to write."""
    pixels, name = picture[None], type(model).__name__
    if name == "VirTex":
        return model.decoder(model.decoder.embed(tokens[None]), memory=model.grid(pixels))[0]
    if name == "VisualGPT":
        return model.states(Batch([""], pixels, tokens=tokens[None]))[0]
    memory, _ = model.encode(pixels, torch.tensor([prompt]), torch.ones(1, len(prompt), dtype=torch.bool))
    written = torch.cat([tokens[:1], tokens[len(prompt) :]])
    places = torch.arange(len(written))[None] + len(prompt) - 1
    hidden = model.decoder(model.decoder.embed(written[None]), positions=places, memory=memory)[0]
    return torch.cat([hidden[:1].expand(len(prompt) - 1, -1), hidden])  # as many states as tokens


def test_beams_with_a_cache_and_in_a_batch_find_what_reading_again_finds(model: Any) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    pictures = torch.from_numpy(drawn).permute(0, 3, 1, 2)
    prompts = model.processor.text.prompts([""] * 4)
    if type(model).__name__ != "VirTex":
        prompts = model.processor.text.prompts(["", "two blue balls", "a", "what is behind?"])
    lm = model.lm if type(model).__name__ == "VisualGPT" else model.decoder

    def forward(row: int, tokens: Tensor) -> tuple[Tensor, Tensor]:
        hidden = whole(model, pictures[row], prompts[row], tokens)
        return hidden, lm.logits(hidden)

    for end in (model.processor.text.eos_id, 40):
        how = {"end": end, "most": 9, "beams": 3, "best": 2}
        with torch.no_grad():
            together = beam_search(model.read([[one] for one in drawn], prompts), **how)
            slow = beam_search(Uncached(forward, prompts), **how)
            alone = [beam_search(model.read([[one]], [prompt]), **how)[0] for one, prompt in zip(drawn, prompts)]
        tokens = [[[text.tokens for text in row] for row in found] for found in (together, slow, alone)]
        assert tokens[0] == tokens[1] == tokens[2]
        for one, other in zip(together, slow):
            for text, same in zip(one, other):
                assert text.log_probs == pytest.approx(same.log_probs, abs=1e-4)
    assert len({tuple(row[0]) for row in tokens[0]}) > 1  # not all say the same


def test_captions_by_beams_are_likelier(model: Any) -> None:
    pictures = list(np.random.default_rng(1).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8))
    words = model.processor.text
    how = {"end": words.eos_id, "most": min(64, words.context_length - 1), "beams": 4}
    found = beam_search(model.read([[one] for one in pictures], words.prompts([""] * 6)), **how)
    wanted = [" ".join(words.decode(texts[0].tokens).split()) for texts in found]
    assert [reply.text for reply in model.caption(pictures, beams=4)] == wanted
    assert [reply.text for reply in model.caption(pictures)] != wanted


def test_beams_where_there_can_be_none(tmp_path: Any) -> None:
    class Says:
        def caption(self, pictures: Any) -> list[Any]:
            raise AssertionError("never asked")

    with pytest.raises(InputError, match="cannot follow several beams"):
        caption(Says(), [], beams=2)
    with pytest.raises(InputError, match="expected 1 or more, got 0"):
        caption(Says(), [], beams=0)
