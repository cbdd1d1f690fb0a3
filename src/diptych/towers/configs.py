"""What a tower looks like, as plain data. Each config builds one tower through `build_vision` or `build_text`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from diptych.config import strict
from diptych.types import InputError

Activation = Literal["gelu", "quick_gelu"]


def _heads_divide(name: str, width: int, heads: int) -> None:
    if width % heads:
        raise InputError(f"{name}: width {width} is not a multiple of heads {heads}")


@strict
@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Vision Transformer (Dosovitskiy et al. 2021); the defaults are CLIP's ViT-B/32 (Radford et al. 2021, table 20).

    Attributes:
        image_size: side of the square picture that the positions are learned for, in pixels; others are interpolated.
        embedding_norm: layer norm between the embeddings and the first layer (CLIP has it, the original ViT has not).
        patch_bias: whether the patch projection has a bias (CLIP has none).
        pooling: "cls" takes the class token, "mean" averages the patches (then there is no class token).
    """

    kind: Literal["vit"] = "vit"
    image_size: int = 224
    patch_size: int = 32
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    activation: Activation = "quick_gelu"
    pooling: Literal["cls", "mean"] = "cls"
    embedding_norm: bool = True
    patch_bias: bool = False
    norm_eps: float = 1e-5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _heads_divide("ViTConfig", self.width, self.heads)
        if self.image_size % self.patch_size:
            raise InputError(
                f"ViTConfig: image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size


@strict
@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """Residual network (He et al. 2016); the defaults are ResNet-50."""

    kind: Literal["resnet"] = "resnet"
    depths: tuple[int, ...] = (3, 4, 6, 3)
    stem_width: int = 64
    block: Literal["basic", "bottleneck"] = "bottleneck"


@strict
@dataclass(frozen=True, kw_only=True)
class ModifiedResNetConfig:
    """CLIP's ResNet: three-convolution stem, anti-aliased strides, attention pool (Radford et al. 2021, section 2.4).

    The defaults are CLIP's RN50. `output_width` is the width of the pooled feature: the attention pool projects to it.
    """

    kind: Literal["modified_resnet"] = "modified_resnet"
    image_size: int = 224
    depths: tuple[int, ...] = (3, 4, 6, 3)
    stem_width: int = 64
    heads: int = 32
    output_width: int = 1024

    def __post_init__(self) -> None:
        _heads_divide("ModifiedResNetConfig", 32 * self.stem_width, self.heads)
        if self.image_size % 32:
            raise InputError(f"ModifiedResNetConfig: image_size {self.image_size} is not a multiple of 32")


@strict
@dataclass(frozen=True, kw_only=True)
class EfficientNetConfig:
    """EfficientNet (Tan & Le 2019); the defaults are B0, or Lite0 with `lite`.

    Attributes:
        lite: ReLU6 for swish, no squeeze-and-excitation, stem and head of fixed size (the TensorFlow "lite" variant).
        width_multiplier, depth_multiplier: compound scaling; B0 and Lite0 are (1, 1), B3 is (1.2, 1.4).
        drop_connect: chance of dropping the last residual branch in training; earlier ones are dropped less.
    """

    kind: Literal["efficientnet"] = "efficientnet"
    lite: bool = False
    width_multiplier: float = 1.0
    depth_multiplier: float = 1.0
    drop_connect: float = 0.2


@strict
@dataclass(frozen=True, kw_only=True)
class HFVisionConfig:
    """Any Hugging Face vision encoder. `config` is its `config.json`, with `model_type`.

    `pooling`: "cls" is the first token, "mean" the average over the grid, "pooler" the model's own `pooler_output`.
    """

    kind: Literal["hf_vision"] = "hf_vision"
    config: dict[str, Any] = field(default_factory=dict)
    pooling: Literal["cls", "mean", "pooler"] = "pooler"


@strict
@dataclass(frozen=True, kw_only=True)
class TextTransformerConfig:
    """Text transformer with learned positions; the defaults are CLIP's (Radford et al. 2021, section 2.4).

    Attributes:
        context_length: the longest text, in tokens.
        causal: each token sees itself and what stands before it; otherwise every token sees every real token.
        pooling: "eot_first" takes the state at the first `eos_id`; "eot_argmax" at the largest token id, as the first
            CLIP checkpoints do; "cls" at the first token; "mean" the average over real tokens.
    """

    kind: Literal["transformer"] = "transformer"
    vocab_size: int = 49408
    context_length: int = 77
    width: int = 512
    layers: int = 12
    heads: int = 8
    mlp_ratio: float = 4.0
    activation: Activation = "quick_gelu"
    causal: bool = True
    pooling: Literal["eot_first", "eot_argmax", "cls", "mean"] = "eot_first"
    eos_id: int = 49407
    norm_eps: float = 1e-5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _heads_divide("TextTransformerConfig", self.width, self.heads)
        if self.causal and self.pooling == "cls":
            raise InputError(
                "TextTransformerConfig: pooling 'cls' sees one token only under a causal mask; use 'eot_first'"
            )


@strict
@dataclass(frozen=True, kw_only=True)
class HFTextConfig:
    """Any Hugging Face text encoder. `config` is its `config.json`, with `model_type`.

    `pooling`: "cls" is the first token, "mean" the average over real tokens, "pooler" the model's own `pooler_output`.
    """

    kind: Literal["hf_text"] = "hf_text"
    config: dict[str, Any] = field(default_factory=dict)
    pooling: Literal["cls", "mean", "pooler"] = "mean"


@strict
@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A causal language model of our own; the defaults are GPT-2's smallest (Radford et al. 2019, table 2).

    Attributes:
        context_length: the longest text in tokens, prefix included; a bound for learned positions only.
        kv_heads: heads of keys and values; None: as many as `heads`.
        mlp_ratio: width of the MLP's hidden layer, in widths.
        activation: of the MLP; "swiglu" is the gated one of Llama.
        norm: "pre", with a norm after the last layer, or "post", with one after the embeddings.
        normalization: "layer" norm or "rms".
        bias: whether linear layers have one.
        tied: whether the output takes the input embedding's weights.
    """

    kind: Literal["decoder"] = "decoder"
    vocab_size: int = 50257
    context_length: int = 1024
    width: int = 768
    layers: int = 12
    heads: int = 12
    kv_heads: int | None = None
    mlp_ratio: float = 4.0
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "swiglu"] = "gelu_tanh"
    positions: Literal["learned", "rotary"] = "learned"
    rope_theta: float = 10_000.0
    norm: Literal["pre", "post"] = "pre"
    normalization: Literal["layer", "rms"] = "layer"
    norm_eps: float = 1e-5
    bias: bool = True
    tied: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _heads_divide("DecoderConfig", self.width, self.heads)
        if self.kv_heads is not None and self.heads % self.kv_heads:
            raise InputError(f"DecoderConfig: heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.positions == "rotary" and self.width // self.heads % 2:
            raise InputError(f"DecoderConfig: rotary positions need an even head width, got {self.width // self.heads}")


@strict
@dataclass(frozen=True, kw_only=True)
class HFLanguageConfig:
    """Any causal language model of transformers. `config` is its `config.json`, with `model_type`."""

    kind: Literal["hf_language"] = "hf_language"
    config: dict[str, Any] = field(default_factory=dict)


LanguageConfig = Annotated[DecoderConfig | HFLanguageConfig, Field(discriminator="kind")]
VisionConfig = Annotated[
    ViTConfig | ResNetConfig | ModifiedResNetConfig | EfficientNetConfig | HFVisionConfig, Field(discriminator="kind")
]
TextConfig = Annotated[TextTransformerConfig | HFTextConfig, Field(discriminator="kind")]
