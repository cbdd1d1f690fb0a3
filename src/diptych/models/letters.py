"""How a family with a vision tower and a language model starts: each part pretrained or from scratch, by its letter."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from diptych.processing import ImageConfig, TextProcessor
from diptych.towers import DecoderConfig, VisionModule, load_vision
from diptych.towers.language_pretrained import load_language
from diptych.types import InputError

Letter = Literal["L", "U", "u"]
"""Of a part: pretrained and locked, pretrained and unlocked (tuned), from scratch (Zhai et al. 2022, section 3.2)."""


@dataclass(frozen=True)
class Start:
    """What `start` found.

    Attributes:
        config: with the configs of the pretrained parts in it, and `image`.
        words: the tokenizer of the language model.
        states: the pretrained weights of "visual" and of "lm".
    """

    config: Any
    words: TextProcessor
    states: dict[str, dict[str, Tensor]]

    def fill(self, visual: nn.Module, lm: nn.Module) -> None:
        """Give the parts their pretrained weights."""
        for name, module in (("visual", visual), ("lm", lm)):
            if name in self.states:
                module.load_state_dict(self.states[name])


def start(config: Any, texts: Iterable[str]) -> Start:
    """Read what the addresses of a config lead to; without one for the language model, learn a tokenizer from `texts`.

    The config has `vision`, `vision_address`, `lm`, `lm_address` and `image`. Raises `InputError`, and
    `WeightsUnavailable` where an address cannot be reached.
    """
    states: dict[str, dict[str, Tensor]] = {}
    image = config.image
    if config.vision_address is not None:
        vision = load_vision(config.vision_address)
        image = image or ImageConfig(**vision.image)
        config = dataclasses.replace(config, vision=vision.config)
        states["visual"] = vision.state_dict
    if config.lm_address is not None:
        language = load_language(config.lm_address)
        found = language.tokenizer_file, language.max_length, language.bos, language.eos
        words = TextProcessor.for_language(*found)
        config = dataclasses.replace(config, lm=language.config)
        states["lm"] = language.state_dict
    else:
        if not isinstance(config.lm, DecoderConfig):
            raise InputError("lm.kind: expected 'decoder', because a model from scratch learns its own tokenizer")
        words = TextProcessor.train(texts, config.lm.vocab_size, config.lm.context_length)
        config = dataclasses.replace(config, lm=dataclasses.replace(config.lm, vocab_size=words.vocab_size))
    return Start(dataclasses.replace(config, image=image or ImageConfig()), words, states)


def check_letter(field: str, letter: Letter, address: str | None) -> None:
    """Raises `InputError` where a pretrained part has no address, or one from scratch has one."""
    if (letter == "u") != (address is None):
        wanted = f"an address for '{letter}' (pretrained)" if address is None else "none for 'u' (from scratch)"
        raise InputError(f"{field}_address: expected {wanted}, got {address!r}")


def grid_of(visual: VisionModule, size: int) -> tuple[int, int]:
    """(cells, width) of a tower's `tokens`, seen on a blank picture of `size` pixels. Raises `InputError` without."""
    was = visual.training
    with torch.no_grad():
        tokens = visual.eval()(torch.zeros(1, 3, size, size)).tokens
    visual.train(was)
    if tokens is None:
        raise InputError("vision: expected a tower with a grid of tokens; this one gives a pooled vector only")
    return int(tokens.shape[1]), int(tokens.shape[2])
