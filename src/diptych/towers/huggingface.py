"""Any Hugging Face encoder as a tower. The wrapped model keeps its own names: its state dict gains only a prefix."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.towers.outputs import TextOutput, VisionOutput
from diptych.towers.text import masked_mean
from diptych.types import InputError

Pooling = Literal["cls", "mean", "pooler"]


class HFVision(nn.Module):
    """A vision encoder of transformers, held as `.model`.

    `tokens` are the patches or cells of its last hidden state, without class or register tokens.
    """

    def __init__(self, config: dict[str, Any], pooling: Pooling = "pooler") -> None:
        super().__init__()
        self.model = model_from_config(config, pooler=pooling == "pooler", source="HFVisionConfig")
        self.pooling = pooling
        self.width = self._measure_width()

    def forward(self, pixels: Float[Tensor, "B C H W"]) -> VisionOutput:
        output = self.model(pixel_values=pixels)
        states = output.last_hidden_state
        if states.ndim == 4:
            tokens = first = states.flatten(2).transpose(1, 2)
        else:
            first, tokens = states, states[:, self._leading(states.shape[1], pixels) :]
        if self.pooling == "mean":
            return VisionOutput(tokens.mean(dim=1), tokens)
        if self.pooling == "cls":
            return VisionOutput(first[:, 0], tokens)
        return VisionOutput(_pooler_output(output, self.model).flatten(1), tokens)

    def _measure_width(self) -> int:
        """The width of `pooled`. Configs of convolutional models do not tell it reliably: then one picture does."""
        config = self.model.config
        if isinstance(getattr(config, "hidden_size", None), int):
            return int(config.hidden_size)
        side = config.image_size if isinstance(getattr(config, "image_size", None), int) else 64
        with torch.no_grad():
            pooled = self.eval()(torch.zeros(1, 3, side, side)).pooled
        self.train()
        return int(pooled.shape[1])

    def _leading(self, length: int, pixels: Float[Tensor, "B C H W"]) -> int:
        """How many tokens stand before the patches: what is left over when the grid is taken away."""
        patch = getattr(self.model.config, "patch_size", None)
        if not isinstance(patch, int):
            return 0
        return max(0, length - (pixels.shape[2] // patch) * (pixels.shape[3] // patch))


class HFText(nn.Module):
    """A text encoder of transformers, held as `.model`; of an encoder-decoder, the encoder."""

    def __init__(self, config: dict[str, Any], pooling: Pooling = "mean") -> None:
        super().__init__()
        self.model = model_from_config(config, pooler=pooling == "pooler", source="HFTextConfig")
        self.pooling = pooling
        self.width: int = self.model.config.hidden_size  # configs with another name for it map this one to theirs

    def forward(self, tokens: Int[Tensor, "B T"], token_mask: Bool[Tensor, "B T"]) -> TextOutput:
        output = self.model(input_ids=tokens, attention_mask=token_mask.long())
        states: Tensor = output.last_hidden_state
        if self.pooling == "mean":
            return TextOutput(masked_mean(states, token_mask), states)
        if self.pooling == "cls":
            return TextOutput(states[:, 0], states)
        return TextOutput(_pooler_output(output, self.model), states)


def model_from_config(config: dict[str, Any], *, pooler: bool, source: str, causal: bool = False) -> Any:
    """The transformers model that a `config.json` describes, with random float32 weights; `causal` has a text head.

    Without `pooler`, a pooling layer that nobody would read is left out where the model can do without.
    Raises `InputError` naming `source` where transformers does not know the model type.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM  # takes seconds to import

    rest = dict(config)
    name = rest.pop("model_type", None)
    if not isinstance(name, str):
        raise InputError(f"{source}: config has no 'model_type'; expected the content of a Hugging Face config.json")
    try:
        parsed = AutoConfig.for_model(name, **rest)
        if causal:
            return AutoModelForCausalLM.from_config(parsed, dtype=torch.float32)
        return encoder(lambda **options: AutoModel.from_config(parsed, dtype=torch.float32, **options), pooler=pooler)
    except (ValueError, TypeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{source}: transformers cannot build model_type '{name}': {reason[:300]}") from None


def encoder(build: Callable[..., Any], *, pooler: bool) -> Any:
    """What `build` makes, without its pooling layer where `pooler` is false; of an encoder-decoder, the encoder."""
    try:
        model = build() if pooler else build(add_pooling_layer=False)
    except TypeError:  # most classes have no such argument
        model = build()
    return model.get_encoder() if getattr(model.config, "is_encoder_decoder", False) else model


def _pooler_output(output: Any, model: Any) -> Tensor:
    pooled: Tensor | None = getattr(output, "pooler_output", None)
    if pooled is None:
        raise InputError(f"{type(model).__name__} has no pooler; set pooling to 'cls' or 'mean'")
    return pooled
