"""The causal language model from scratch, of any size, with learned or rotary positions."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.blocks import masks
from diptych.blocks.cache import KVCache
from diptych.blocks.linear import Linear, linear
from diptych.blocks.rotary import Rotation, rotation
from diptych.blocks.transformer import NORMS, CrossAttention, TransformerLayer
from diptych.towers.configs import DecoderConfig
from diptych.types import InputError


class Decoder(nn.Module):
    """A stack of layers under a causal mask; see `outputs.LanguageModel` for what it can be asked.

    Fresh weights are drawn as GPT-2's (Radford et al. 2019, section 2.3): deviation 0.02, what returns to the residual
    stream divided by the root of twice the number of layers.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        width, norm = config.width, NORMS[config.normalization]
        self.width, self.vocab_size, self.context_length = width, config.vocab_size, config.context_length
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        learned = config.positions == "learned"
        self.positions = nn.Parameter(torch.empty(config.context_length, width)) if learned else None
        self.embedding_norm = norm(width, eps=config.norm_eps) if config.norm == "post" else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            TransformerLayer(
                width,
                config.heads,
                kv_heads=config.kv_heads,
                mlp_ratio=config.mlp_ratio,
                activation=config.activation,
                norm=config.norm,
                normalization=config.normalization,
                norm_eps=config.norm_eps,
                dropout=config.dropout,
                bias=config.bias,
            )
            for _ in range(config.layers)
        )
        self.final_norm = norm(width, eps=config.norm_eps) if config.norm == "pre" else nn.Identity()
        self.output = None if config.tied else Linear(width, config.vocab_size, bias=False)
        initialise(self)
        if self.positions is not None:
            nn.init.normal_(self.positions, std=0.02)

    def embed(self, tokens: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
        """The tokens' embeddings, without positions."""
        embedded: Tensor = self.token_embedding(tokens)
        return embedded

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        *,
        mask: Bool[Tensor, "#B 1 #S M"] | None = None,
        positions: Int[Tensor, "#B S"] | None = None,
        cache: KVCache | None = None,
        before: Callable[[int, Tensor], Tensor] | None = None,
        memory: Any = None,
        memory_mask: Bool[Tensor, "#B 1 #S M2"] | None = None,
    ) -> Float[Tensor, "B S D"]:
        """See `outputs.LanguageModel`. `memory` goes to the layers' `cross`; a list has one entry for each layer.

        Raises `InputError` where a position lies beyond `context_length`.
        """
        start = cache.length if cache is not None else 0
        length = x.shape[1]
        if self.positions is not None:
            reach = start + length if positions is None else int(positions.max()) + 1
            if reach > len(self.positions):
                raise InputError(
                    f"text: expected at most {len(self.positions)} tokens, prefix included, got {reach}; "
                    "context_length of the language model is the bound"
                )
        if positions is None:
            positions = torch.arange(start, start + length, device=x.device)[None]
        turned = None
        if self.positions is not None:
            x = x + self.positions[positions]
        else:
            cos, sin = rotation(positions, self.width // self.config.heads, self.config.rope_theta)
            turned = Rotation(cos.to(x.dtype), sin.to(x.dtype))  # the angles themselves are in float32
        causal = mask is None and length > 1
        if causal and start:
            mask, causal = masks.causal(start + length, x.device)[:, :, start:], False
        x = self.dropout(self.embedding_norm(x))
        each = cache.layers if cache is not None else [None] * len(self.layers)
        for i, (layer, kept) in enumerate(zip(self.layers, each)):
            if before is not None:
                x = before(i, x)
            seen = memory[i] if isinstance(memory, list) else memory
            x = layer(x, mask=mask, causal=causal, rotation=turned, cache=kept, memory=seen, memory_mask=memory_mask)
        hidden: Tensor = self.final_norm(x)
        return hidden

    def head_weight(self) -> Float[Tensor, "V D"]:
        """The matrix that makes logits of hidden states."""
        return self.token_embedding.weight if self.output is None else self.output.weight

    def logits(self, hidden: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
        """Scores of the next token before the softmax."""
        return linear(hidden, self.head_weight())

    def new_cache(self, capacity: int = 64) -> KVCache:
        """An empty cache with room for `capacity` positions at first."""
        return KVCache(len(self.layers), capacity)


def cross_decoder(config: DecoderConfig, memory_width: int | None = None) -> Decoder:
    """A decoder whose every layer looks at a memory between self-attention and MLP (Vaswani et al. 2017, 3.1)."""
    decoder = Decoder(config)
    for layer in decoder.layers:
        assert isinstance(layer, TransformerLayer)
        layer.cross = CrossAttention(
            config.width,
            config.heads,
            memory_width=memory_width,
            norm=config.norm,
            norm_eps=config.norm_eps,
            dropout=config.dropout,
        )
    initialise(decoder)
    return decoder


def initialise(model: nn.Module) -> None:
    """Fresh weights as GPT-2 draws them, for every linear layer and embedding in `model`."""
    layers = sum(isinstance(module, TransformerLayer) for module in model.modules())
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            returns = name.endswith(("out_proj", "fc2")) and layers
            nn.init.normal_(module.weight, std=0.02 / (2 * layers) ** 0.5 if returns else 0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
